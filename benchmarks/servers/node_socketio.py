"""python-socketio with its own manager for Redis, on aiohttp and uvloop, as one of two nodes.

See `benchmarks.servers.nodes`. An event goes to a room, over WebSockets from the first byte; a burst is published one
after the other, since each ``emit`` waits until Redis has it. What is lost on the way it does not know.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import cycle
from typing import Any

import socketio
import uvloop
from aiohttp import web

from benchmarks.conversation import answer, next_command
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.nodes import LOOK, shares_of, topics_of
from benchmarks.servers.socketio_room import ENVELOPE, SILENCE


class Manager(socketio.AsyncRedisManager):  # type: ignore[misc]  # it has no types
    """Counts what comes from the other node."""

    heard = 0

    async def _handle_emit(self, message: Any) -> None:
        await super()._handle_emit(message)
        self.heard += message["host_id"] != self.host_id


async def main(size: int, url: str, topics: int, clients: int) -> None:
    manager = Manager(url)
    sio = socketio.AsyncServer(
        async_mode="aiohttp", transports=["websocket"], ping_interval=SILENCE, client_manager=manager
    )
    rooms = topics_of(topics)
    shares, targets, text = shares_of(rooms, clients), cycle(rooms), "x" * (size - ENVELOPE)

    @sio.event
    async def connect(sid: str, environ: object) -> None:
        for room in next(shares):
            await sio.enter_room(sid, room)

    app = web.Application()
    sio.attach(app)
    answer(port=await serve(app), unit=size)
    while words := await asyncio.to_thread(next_command):
        match words:
            case ["ready"]:
                while sio.eio.sockets and not (manager.pubsub and manager.pubsub.subscribed):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK)
                answer()
            case ["publish", messages, _]:
                answer(begun=time.monotonic(), cpu=time.process_time())
                for _ in range(int(messages)):
                    await sio.emit("tick", text, room=next(targets))
            case ["heard", count]:
                while manager.heard < int(count):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(LOOK)
                answer(ended=time.monotonic(), cpu=time.process_time(), lost=0)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
