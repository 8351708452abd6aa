"""Ours, with all its defaults: numbered events to one topic.

python -m benchmarks.servers.ticks_hub
"""

from __future__ import annotations

import trio

from benchmarks.conversation import answer
from benchmarks.servers.ticks import tick_on_trio
from trio_hub import Event, Server, topic


async def main() -> None:
    server = Server()

    async def say(number: int) -> None:
        await server.publish(Event("tick", {"n": number}), to=topic("bench"))

    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(server.serve, "127.0.0.1", 0)
        answer(port=listeners[0].socket.getsockname()[1])
        await tick_on_trio(say)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
