"""`websockets` with `broadcast` and its defaults: numbered messages to whoever is there.

python -m benchmarks.servers.ticks_websockets
"""

from __future__ import annotations

import asyncio
import json
import logging

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.conversation import answer
from benchmarks.servers.ticks import tick


async def main() -> None:
    links: set[ServerConnection] = set()

    async def stay(link: ServerConnection) -> None:
        links.add(link)
        await link.wait_closed()
        links.discard(link)

    async with serve(stay, "127.0.0.1", 0, close_timeout=1) as server:
        answer(port=next(iter(server.sockets)).getsockname()[1])
        await tick(lambda number: broadcast(links, json.dumps({"n": number})))


if __name__ == "__main__":
    logging.disable()  # it tells of every handshake that was cut
    asyncio.run(main())
