"""picows (Cython) on uvloop: it has no broadcast, so a loop over its transports.

python -m benchmarks.servers.picows_loop SIZE
"""

from __future__ import annotations

import sys

import uvloop
from picows import WSListener, WSMsgType, WSTransport

from benchmarks.servers.pace import obey
from benchmarks.servers.picows_site import serve

links: set[WSTransport] = set()


class Listener(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        links.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        links.discard(transport)


async def main(size: int) -> None:
    message, text = b"x" * size, WSMsgType.TEXT

    def say() -> None:
        for link in links:
            link.send(text, message)

    server = await serve(Listener)
    await obey(say, lambda: [link.underlying_transport for link in links], size)
    server.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
