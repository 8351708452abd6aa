"""python-socketio on aiohttp, over WebSockets from the first byte: numbered events to everybody.

python -m benchmarks.servers.ticks_socketio
"""

from __future__ import annotations

import asyncio
import logging

import socketio
from aiohttp import web

from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.ticks import tick


async def main() -> None:
    sio = socketio.AsyncServer(async_mode="aiohttp", transports=["websocket"])
    app = web.Application()
    sio.attach(app)
    answer(port=await serve(app))
    await tick(lambda number: sio.emit("tick", number))


if __name__ == "__main__":
    logging.disable()  # it tells of every link that was cut
    asyncio.run(main())
