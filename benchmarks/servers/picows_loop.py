"""picows (Cython) on uvloop: it has no broadcast, so a loop over its transports.

python -m benchmarks.servers.picows_loop SIZE
"""

from __future__ import annotations

import sys

import uvloop
from picows import WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.conversation import answer
from benchmarks.servers.pace import obey

links: set[WSTransport] = set()


class Listener(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        links.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        links.discard(transport)


def accept(request: WSUpgradeRequest) -> WSListener:
    return Listener()


async def main(size: int) -> None:
    message, text = b"x" * size, WSMsgType.TEXT

    def say() -> None:
        for link in links:
            link.send(text, message)

    server = await ws_create_server(accept, "127.0.0.1", 0)
    answer(port=server.sockets[0].getsockname()[1])
    await obey(say, lambda: [link.underlying_transport for link in links], size)
    server.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
