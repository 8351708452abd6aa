"""`websockets` with `broadcast`, at its quickest: no compression, no pings.

python -m benchmarks.servers.websockets_broadcast SIZE asyncio|uvloop
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.conversation import answer
from benchmarks.servers.pace import obey


async def main(size: int) -> None:
    links: set[ServerConnection] = set()
    message = "x" * size

    async def stay(link: ServerConnection) -> None:
        links.add(link)
        await link.wait_closed()
        links.discard(link)

    async with serve(stay, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1) as server:
        answer(port=next(iter(server.sockets)).getsockname()[1])
        await obey(lambda: broadcast(links, message), lambda: [link.transport for link in links], size)


if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        import uvloop

        uvloop.run(main(int(sys.argv[1])))
    else:
        asyncio.run(main(int(sys.argv[1])))
