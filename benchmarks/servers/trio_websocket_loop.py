"""trio-websocket by hand, as people write it: one task, one recipient after the other, no queues.

python -m benchmarks.servers.trio_websocket_loop SIZE
"""

from __future__ import annotations

import sys

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from benchmarks.conversation import answer
from benchmarks.servers.pace import obey_on_trio

links: set[WebSocketConnection] = set()


async def stay(request: WebSocketRequest) -> None:
    link = await request.accept()
    links.add(link)
    try:
        await link.get_message()
    except ConnectionClosed:
        links.discard(link)


async def main(size: int) -> None:
    message = "x" * size

    async def say() -> None:
        for link in links:
            await link.send_message(message)

    async with trio.open_nursery() as tasks:
        server = await tasks.start(serve_websocket, stay, "127.0.0.1", 0, None)
        answer(port=server.port)
        await obey_on_trio(say, size)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
