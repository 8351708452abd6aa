"""trio-websocket that echoes, as its documentation does.

python -m benchmarks.servers.echo_trio_websocket
"""

from __future__ import annotations

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from benchmarks.conversation import answer
from benchmarks.servers.cost import tell_cost_on_trio


async def echo(request: WebSocketRequest) -> None:
    link = await request.accept()
    while True:
        try:
            await link.send_message(await link.get_message())
        except ConnectionClosed:
            break


async def main() -> None:
    async with trio.open_nursery() as tasks:
        server = await tasks.start(serve_websocket, echo, "127.0.0.1", 0, None)
        answer(port=server.port)
        await tell_cost_on_trio()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
