"""Ours without a hub: links in a pool, to which every message goes; the heart and bounds are on.

    python -m benchmarks.servers.pool SIZE

A burst is one call, and one write to each link, as with the hub.
"""

from __future__ import annotations

import gc
import sys
import time
from functools import partial

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import open_files
from benchmarks.servers.pace import LOOK_AFTER, MOST_OWED, PAUSE
from trio_hub.link.link import Link
from trio_hub.link.pool import Pool, open_pool
from trio_hub.link.serving import serve_links
from trio_hub.messages import LinkStatus
from trio_hub.options import LinkOptions

SILENCE = 3600.0  # s, until a ping, which would be counted as part of a message
GREETING = "welcome"


async def publish(pool: Pool, message: str, messages: int, burst: int) -> None:
    """Send messages to all; wait where somebody is owed much."""
    looked, several = 0, [message] * burst
    for done in range(0, messages, burst):
        await pool.to_all(*several)
        if (done - looked) * len(message) >= LOOK_AFTER:
            looked = done
            while max(each.link.writer.owed_size for each in pool.members if each.link is not None) > MOST_OWED:  # noqa: ASYNC110
                await trio.sleep(PAUSE)


async def main(size: int) -> None:
    """Serve, and do as told on stdin."""
    gc.set_threshold(5_000, 10, 1_000)  # as `trio-hub serve` has it
    open_files()
    message = "x" * size

    async with trio.open_nursery() as tasks, open_pool() as pool:

        @pool.on_status
        async def greet(previous: LinkStatus, new: LinkStatus, link: Link) -> None:
            if new is LinkStatus.READY:
                await link.send(GREETING)

        async def handler(link: Link) -> None:
            await pool.keep(link)

        serve = partial(serve_links, handler, options=LinkOptions(ping_interval=SILENCE))
        listeners = await tasks.start(serve)
        answer(port=listeners[0].socket.getsockname()[1])
        while words := await trio.to_thread.run_sync(next_command):
            match words:
                case ["size", messages]:
                    answer(units=int(messages) * (size + (2 if size < 126 else 4)))
                case ["publish", messages, burst]:
                    answer(begun=time.monotonic(), cpu=time.process_time())
                    await publish(pool, message, int(messages), int(burst))
                case ["cpu"]:
                    answer(cpu=time.process_time())
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
