"""`websockets` on uvloop with a router by hand, as people write it: the standard library's JSON, handlers in a dict.

python -m benchmarks.servers.requests_websockets
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from benchmarks.conversation import answer
from benchmarks.servers.cost import tell_cost


def add(data: dict[str, Any]) -> dict[str, Any]:
    return {"sum": data["a"] + data["b"]}


ACTIONS = {"add": add}


def reply_to(request: dict[str, Any]) -> dict[str, Any]:
    handle = ACTIONS.get(request["action"])
    if handle is None:
        return {"seq_reply": request["seq"], "status": "FAIL"}
    return {"seq_reply": request["seq"], "status": "OK", "data": handle(request["data"])}


async def converse(link: ServerConnection) -> None:
    with suppress(ConnectionClosed):  # our caller just goes
        async for text in link:
            await link.send(json.dumps(reply_to(json.loads(text))))


async def main() -> None:
    async with serve(converse, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1) as server:
        answer(port=next(iter(server.sockets)).getsockname()[1])
        await tell_cost()


if __name__ == "__main__":
    uvloop.run(main())
