"""Back-pressure, the same for every server: none may run ahead of its readers without bound.

Whenever `LOOK_AFTER` bytes were published to each link, a server looks at what its links are owed (what waits in its
own memory; the kernel's buffers are the same for all), and pauses while that is more than `MOST_OWED` for anybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from benchmarks.conversation import answer, next_command

__all__ = ["LOOK_AFTER", "MOST_OWED", "PAUSE", "obey"]

LOOK_AFTER: Final = 64 * 1024
MOST_OWED: Final = 64 * 1024
PAUSE: Final = 0.0005  # s


class _HasBuffer(Protocol):
    def get_write_buffer_size(self) -> int: ...


async def obey(say: Callable[[], None], transports: Callable[[], Iterable[_HasBuffer]], size: int) -> None:
    """Do as told on stdin, on an asyncio loop. `say` sends one message of `size` bytes to everybody, in one call."""
    head = 2 if size < 126 else 4
    while words := await asyncio.to_thread(next_command):
        match words:
            case ["size", messages]:
                answer(units=int(messages) * (size + head))
            case ["publish", messages, burst]:
                answer(begun=time.monotonic(), cpu=time.process_time())
                await _publish(say, transports, size, int(messages), int(burst))
            case ["cpu"]:
                answer(cpu=time.process_time())


async def _publish(
    say: Callable[[], None], transports: Callable[[], Iterable[_HasBuffer]], size: int, messages: int, burst: int
) -> None:
    looked = 0
    for done in range(0, messages, burst):
        for _ in range(burst):
            say()
        await asyncio.sleep(0)
        if (done - looked) * size >= LOOK_AFTER:
            looked = done
            while max(each.get_write_buffer_size() for each in transports()) > MOST_OWED:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)
