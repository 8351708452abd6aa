"""The server of a soak, in a process of its own: it publishes, and counts what it is asked for.

    python -m tests.soak.server SETTINGS

Commands: ``look``, ``publish``, ``carried_out``, ``drain``.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter

import attrs
import trio

from benchmarks.conversation import answer, next_command
from tests.soak.findings import Look, Published
from tests.soak.process import Effort, peak, resident
from tests.soak.settings import Settings
from trio_hub import Connection, Event, HubOptions, OutboxOptions, Router, Server, topic

PULSE = 0.05  # s between two turns of the publisher
TEXT = "x" * 100  # makes an event about 200 bytes, envelope included
OPTIONS = HubOptions(batch=256, outbox=OutboxOptions(acknowledge_within=32))
"""More than 64 events come in a turn of the loop, where turns are long because the machine has others to serve, too.
The hub's watch comes round every 4 s then, not every 37: it is what lets go of the frames that were written last."""


@attrs.frozen
class Count:
    """A request: to be counted under this name, within so many seconds."""

    name: str
    seconds: float


class Soaked:
    """A server and what is counted beside it. As a plugin it hears of takeovers, which nobody else counts."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.carried_out: Counter[str] = Counter()
        self.takeovers = 0
        router = Router()
        router.action("count")(self.count)
        self.server = Server(router, plugins=[self], options=OPTIONS)

    async def count(self, connection: Connection, data: Count) -> str:
        """Count, and wait in the midst of it, so that links are lost between the deed and the reply."""
        self.carried_out[data.name] += 1
        await trio.sleep(data.seconds)
        return data.name

    async def taken_over(self, connection: Connection) -> None:
        self.takeovers += 1

    async def publish(self) -> Published:
        """Publish at the rate for as long as was said, catching up where that fell behind."""
        settings, begun, n = self._settings, trio.current_time(), 0
        while (elapsed := trio.current_time() - begun) < settings.seconds:
            while n < elapsed * settings.rate:
                await self._publish(n)
                n += 1
            await trio.sleep(PULSE)
        return Published(n, elapsed)

    async def _publish(self, n: int) -> None:
        """Publish event `n`, at once where that is possible: waiting costs a turn of the loop, be it ever so short."""
        event, to = (
            Event("tick", {"n": n, "at": time.monotonic(), "text": TEXT}),
            topic(str(self._settings.topic_of(n))),
        )
        try:
            self.server.hub.publish_nowait(event, to=to)
        except trio.WouldBlock:
            await self.server.publish(event, to=to)

    def look(self) -> Look:
        """Return what the server holds at this moment, after everything that nobody holds is gone."""
        gc.collect()
        statistics = self.server.hub.statistics()
        connections = self.server.hub.connections()
        return Look(
            resident=resident(),
            peak=peak(),
            blocks=sys.getallocatedblocks(),
            objects=len(gc.get_objects()),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            connections=len(connections),
            attached=sum(connection.attached for connection in connections),
            running_requests=sum(connection.statistics().running_requests for connection in connections),
            inbox=statistics.inbox,
            owed=statistics.owed_count,
            kept=statistics.kept_count,
            held=statistics.held_size,
            resumed=statistics.resumed,
            gaps=statistics.gaps,
            takeovers=self.takeovers,
            effort=Effort.so_far(),
        )


async def main() -> None:
    soaked = Soaked(Settings.parse(sys.argv[1]))
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(soaked.server.serve, "127.0.0.1", 0)
        answer(port=listeners[0].socket.getsockname()[1])
        while words := await trio.to_thread.run_sync(next_command):
            match words:
                case ["look"]:
                    answer(**attrs.asdict(soaked.look()))
                case ["publish"]:
                    answer(**attrs.asdict(await soaked.publish()))
                case ["carried_out"]:
                    answer(**soaked.carried_out)
                case ["drain"]:
                    await soaked.server.drain()
                    answer(**attrs.asdict(soaked.look()))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
