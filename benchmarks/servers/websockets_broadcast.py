"""`websockets` with `broadcast`, at its quickest: no compression, no pings.

    python -m benchmarks.servers.websockets_broadcast SIZE asyncio|uvloop [FILE]

With FILE, it is the messages there that are said, with the library's own compression.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.chat import messages_of
from benchmarks.conversation import answer
from benchmarks.servers.pace import COMPRESSED, obey


async def main(size: int, *file: str) -> None:
    links: set[ServerConnection] = set()
    messages = messages_of(size, *file, make=bytes.decode)
    compression = "deflate" if file else None

    async def stay(link: ServerConnection) -> None:
        links.add(link)
        await link.wait_closed()
        links.discard(link)

    async with serve(stay, "127.0.0.1", 0, compression=compression, ping_interval=None, close_timeout=1) as server:
        answer(port=next(iter(server.sockets)).getsockname()[1], **(COMPRESSED if file else {}))
        unit = 1 if file else None
        await obey(
            lambda: broadcast(links, next(messages)), lambda: [link.transport for link in links], size, unit=unit
        )


if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        import uvloop

        uvloop.run(main(int(sys.argv[1]), *sys.argv[3:]))
    else:
        asyncio.run(main(int(sys.argv[1]), *sys.argv[3:]))
