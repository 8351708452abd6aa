"""python-socketio on aiohttp and uvloop: an event to a room, over WebSockets from the first byte.

What it owes is in a queue for each client; what is beyond, aiohttp bounds by itself.

    python -m benchmarks.servers.socketio_room SIZE

Every event takes SIZE bytes, its envelope included.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import attrs
import socketio
import uvloop
from aiohttp import web

from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.pace import obey

ROOM = "bench"
SILENCE = 3600  # s, until a ping, which would be counted as part of an event
ENVELOPE = len('42["tick",""]')


@attrs.frozen
class Queued:
    """What waits for one client."""

    link: socketio.AsyncServer
    size: int

    def get_write_buffer_size(self) -> int:
        packets: int = self.link.queue.qsize()
        return packets * self.size


async def main(size: int) -> None:
    sio = socketio.AsyncServer(async_mode="aiohttp", transports=["websocket"], ping_interval=SILENCE)
    text = "x" * (size - ENVELOPE)

    @sio.event
    async def connect(sid: str, environ: object) -> None:
        await sio.enter_room(sid, ROOM)

    def queued() -> Iterable[Queued]:
        return (Queued(link, size) for link in sio.eio.sockets.values())

    app = web.Application()
    sio.attach(app)
    answer(port=await serve(app))
    await obey(lambda: sio.emit("tick", text, room=ROOM), queued, size)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
