"""Back-pressure, the same for every server: none may run ahead of its readers without bound.

Whenever `LOOK_AFTER` bytes were published to each link, a server looks at what its links are owed (what waits in its
own memory; the kernel's buffers are the same for all), and pauses while that is more than `MOST_OWED` for anybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import trio

from benchmarks.conversation import answer, next_command

__all__ = ["COMPRESSED", "LOOK_AFTER", "MOST_OWED", "PAUSE", "HasBuffer", "Say", "obey", "obey_on_trio"]

LOOK_AFTER: Final = 64 * 1024
MOST_OWED: Final = 64 * 1024
PAUSE: Final = 0.0005  # s
COMPRESSED: Final = {"unit": "compressed"}
"""What a server says of messages whose sizes nobody knows: a sink counts those, and looks that they are compressed."""


Say = Callable[[], Awaitable[None] | None]
"""Sends one message to everybody, in one call; what that returns is awaited."""


class HasBuffer(Protocol):
    def get_write_buffer_size(self) -> int: ...


async def obey(say: Say, transports: Callable[[], Iterable[HasBuffer]], size: int, *, unit: int | None = None) -> None:
    """Do as told on stdin, on an asyncio loop. Messages have `size` bytes, and are `unit` to a sink: not said, those
    and their frame's head."""
    while words := await asyncio.to_thread(next_command):
        if words[0] == "publish":
            answer(begun=time.monotonic(), cpu=time.process_time())
            await _publish(say, transports, size, *map(int, words[1:]))
        else:
            _answer_at_once(words, _framed(size) if unit is None else unit)


async def _publish(
    say: Say, transports: Callable[[], Iterable[HasBuffer]], size: int, messages: int, burst: int
) -> None:
    looked = 0
    for done in range(0, messages, burst):
        for _ in range(burst):
            if (saying := say()) is not None:
                await saying
        await asyncio.sleep(0)
        if (done - looked) * size >= LOOK_AFTER:
            looked = done
            while max(each.get_write_buffer_size() for each in transports()) > MOST_OWED:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)


async def obey_on_trio(say: Callable[[], Awaitable[None]], size: int) -> None:
    """Do the same on trio, where `say` waits until the kernel has taken all: nobody is owed anything behind it."""
    while words := await trio.to_thread.run_sync(next_command):
        if words[0] == "publish":
            answer(begun=time.monotonic(), cpu=time.process_time())
            messages, burst = map(int, words[1:])
            for _ in range(0, messages, burst):
                for _ in range(burst):
                    await say()
                await trio.lowlevel.checkpoint()
        else:
            _answer_at_once(words, _framed(size))


def _framed(size: int) -> int:
    return size + (2 if size < 126 else 4)


def _answer_at_once(words: Sequence[str], unit: int) -> None:
    match words:
        case ["size", messages]:
            answer(units=int(messages) * unit)
        case ["cpu"]:
            answer(cpu=time.process_time())
