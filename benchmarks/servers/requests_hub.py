"""Ours, whole: requests find their action in a router, their data becomes an attrs class, replies are kept.

python -m benchmarks.servers.requests_hub compat|v1.json
"""

from __future__ import annotations

import sys

import attrs
import trio

from benchmarks.conversation import answer
from benchmarks.load.raw import open_files
from benchmarks.servers.cost import tell_cost_on_trio
from trio_hub import Connection, HubOptions, LinkOptions, Router, Server

SILENCE = 3600.0  # s, until a ping

router = Router()


@attrs.frozen
class Add:
    a: int
    b: int


@router.action("add")
def add(connection: Connection, data: Add) -> dict[str, int]:
    return {"sum": data.a + data.b}


async def main(spelling: str) -> None:
    server = Server(router, options=HubOptions(link=LinkOptions(ping_interval=SILENCE)))
    open_files()
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(server.serve, "127.0.0.1", 0)
        port = listeners[0].socket.getsockname()[1]
        answer(port=port, spelling="v1" if spelling == "v1.json" else "json")
        await tell_cost_on_trio()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
