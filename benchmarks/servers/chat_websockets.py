"""`websockets` with `broadcast` and its own compression, on uvloop: messages of a chat, as in `chat_hub`.

python -m benchmarks.servers.chat_websockets SIZE FILE
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import cycle

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.chat import read_events
from benchmarks.conversation import answer
from benchmarks.servers.pace import obey


async def main(size: int, said: Sequence[str]) -> None:
    links: set[ServerConnection] = set()
    messages = cycle(said)

    async def stay(link: ServerConnection) -> None:
        links.add(link)
        await link.wait_closed()
        links.discard(link)

    async with serve(stay, "127.0.0.1", 0, ping_interval=None, close_timeout=1) as server:
        answer(port=next(iter(server.sockets)).getsockname()[1], unit="compressed")
        await obey(lambda: broadcast(links, next(messages)), lambda: [link.transport for link in links], size, unit=1)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), [event.decode() for event in read_events(sys.argv[2])]))
