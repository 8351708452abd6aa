"""A server of links that has large messages piece by piece, and answers how long each was and what its checksum is.

python -m benchmarks.servers.swallow DIALECT plain|deflated
"""

from __future__ import annotations

import sys
import zlib
from functools import partial

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.dialects import options_for
from benchmarks.memory import peak
from trio_hub import Link, serve_links

__all__: list[str] = []


async def swallow(link: Link) -> None:
    async for message in link.messages():
        size = checksum = 0
        async for chunk in message:
            assert isinstance(chunk, bytes)
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
        await link.send(f"{size} {checksum}")


async def main() -> None:
    """Serve until there are no more commands; each is answered with the most memory that was ever taken."""
    options = options_for(*sys.argv[1:3])
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(partial(serve_links, swallow, options=options))
        answer(port=listeners[0].socket.getsockname()[1])
        while await trio.to_thread.run_sync(next_command):
            answer(peak=peak())
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
