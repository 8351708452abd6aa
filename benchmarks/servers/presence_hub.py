"""Ours, with very many users in one topic: each is who its URL says, as in ``/ws?topics=town&user=ann``.

    python -m benchmarks.servers.presence_hub with|without

With presence, or without. A user is gone soon after the last link: `WINDOW` and `GRACE` are a second, so that a round
ends while somebody looks on. ``cpu`` answers with the connections that are left as well.
"""

from __future__ import annotations

import gc
import sys
import time

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import open_files
from benchmarks.servers.hub import SILENCE
from trio_hub import Credentials, HubOptions, LinkOptions, PresenceOptions, Server, Session

__all__ = ["GRACE", "WINDOW"]

WINDOW, GRACE = 1.0, 1.0  # s, that a connection outlives its link, and a user the last of them


async def by_query(credentials: Credentials) -> Session:
    """Believe whatever name is said."""
    return Session(credentials.query["user"][-1])


async def main(presence: PresenceOptions | None) -> None:
    gc.set_threshold(5_000, 10, 1_000)  # as `trio-hub serve` has it
    open_files()
    options = HubOptions(window=WINDOW, link=LinkOptions(ping_interval=SILENCE))
    server = Server(authenticate=by_query, presence=presence, options=options)
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(server.serve, "127.0.0.1", 0)
        answer(port=listeners[0].socket.getsockname()[1])
        while await trio.to_thread.run_sync(next_command):
            answer(cpu=time.process_time(), connections=len(server.hub.connections()))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, PresenceOptions(grace=GRACE) if sys.argv[1] == "with" else None)
