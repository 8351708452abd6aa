"""`websockets` that echoes, on asyncio's API with uvloop, or on trio's. No compression, no pings.

python -m benchmarks.servers.echo_websockets uvloop|trio
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial

import trio
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection as ServerConnectionOnTrio
from websockets.trio.server import serve as serve_on_trio

from benchmarks.conversation import answer
from benchmarks.servers.cost import tell_cost, tell_cost_on_trio


async def echo(link: ServerConnection | ServerConnectionOnTrio) -> None:
    with suppress(ConnectionClosed):  # our caller just goes
        async for message in link:
            await link.send(message)


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1) as server:
        answer(port=next(iter(server.sockets)).getsockname()[1])
        await tell_cost()


async def main_on_trio() -> None:
    plain = partial(serve_on_trio, echo, 0, host="127.0.0.1", compression=None, ping_interval=None, close_timeout=1)
    async with trio.open_nursery() as tasks:
        server = await tasks.start(plain)
        answer(port=server.listeners[0].socket.getsockname()[1])
        await tell_cost_on_trio()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "trio":
        trio.run(main_on_trio)
    else:
        import uvloop

        uvloop.run(main())
