"""python-socketio on aiohttp and uvloop: events with acknowledgements. A link's are handled in turn, not in tasks.

python -m benchmarks.servers.requests_socketio
"""

from __future__ import annotations

import socketio
import uvloop
from aiohttp import web

from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.cost import tell_cost

SILENCE = 3600  # s, until a ping


async def main() -> None:
    sio = socketio.AsyncServer(
        async_mode="aiohttp", transports=["websocket"], ping_interval=SILENCE, async_handlers=False
    )

    @sio.event
    async def add(sid: str, data: dict[str, int]) -> dict[str, int]:
        return {"sum": data["a"] + data["b"]}

    app = web.Application()
    sio.attach(app)
    answer(port=await serve(app), spelling="socket.io")
    await tell_cost()


if __name__ == "__main__":
    uvloop.run(main())
