"""`websockets` on trio with its own `broadcast`, at its quickest: no compression, no pings.

python -m benchmarks.servers.websockets_trio_broadcast SIZE
"""

from __future__ import annotations

import sys
from functools import partial

import trio
from websockets.trio.server import ServerConnection, broadcast, serve

from benchmarks.conversation import answer
from benchmarks.servers.pace import obey_on_trio

links: set[ServerConnection] = set()


async def stay(link: ServerConnection) -> None:
    links.add(link)
    await link.wait_closed()
    links.discard(link)


async def main(size: int) -> None:
    message = "x" * size
    quiet = partial(serve, stay, 0, host="127.0.0.1", compression=None, ping_interval=None, close_timeout=1)
    async with trio.open_nursery() as tasks:
        server = await tasks.start(quiet)
        answer(port=server.listeners[0].socket.getsockname()[1])
        await obey_on_trio(lambda: broadcast(links, message), size)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
