"""Ours, whole: the server with its hub; numbers, kept events, bounds and the heart are on.

    python -m benchmarks.servers.hub SIZE compat|v1.json|v1.cbor

Every event takes SIZE bytes in that spelling, its envelope included; compat's number comes on top.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat

import cbor2
import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import open_files
from benchmarks.servers.pace import LOOK_AFTER, MOST_OWED, PAUSE
from trio_hub import Event, HubOptions, LinkOptions, Reach, Server, topic

TOPIC = "bench"
SILENCE = 3600.0  # s, until a ping, which would be counted as part of an event

FACTS: dict[str, Callable[[int], dict[str, object]]] = {
    "compat": lambda size: {},
    "v1.json": lambda size: {"unit": size + 1, "ack": "json"},  # a batch has a comma behind each event but the last
    "v1.cbor": lambda size: {"unit": size, "ack": "cbor"},
}
"""How a sink takes events of so many bytes."""


def event_of(size: int, spelling: str) -> Event:
    """Return an event that takes so many bytes, its number aside."""
    for length in range(size):
        event = {"event": "tick", "data": {"text": "x" * (size - length)}, "broadcast": {"topic": TOPIC}}
        spelled = cbor2.dumps(event) if spelling == "v1.cbor" else json.dumps(event, separators=(",", ":")).encode()
        if len(spelled) == size:
            return Event("tick", event["data"])
    raise AssertionError(f"no event takes {size} bytes")


class FanOut:
    """Publishes events of one size to one topic. A sink counts bytes, or else messages."""

    def __init__(self, events: Iterator[Event], size: int, *, in_bytes: bool, link: LinkOptions) -> None:
        self.server = Server(options=HubOptions(link=link))
        self._events = events
        self._size = size
        self._in_bytes = in_bytes
        self._published = 0

    def size_of_next(self, messages: int) -> int:
        """Return how much the next events are on one link: bytes with frame heads and compat's numbers, or events."""
        if not self._in_bytes:
            return messages
        first = self._published + 1
        sizes = [self._size + len(f',"seq":{number}') for number in range(first, first + messages)]
        return sum(size + (2 if size < 126 else 4) for size in sizes)

    async def publish(self, messages: int, burst: int) -> None:
        """Publish, and go on when the burst was offered to everybody; wait where somebody is owed much."""
        looked, hub, events, to = 0, self.server.hub, self._events, topic(TOPIC)
        for done in range(0, messages, burst):
            for _ in range(burst - 1):
                hub.publish_nowait(next(events), to=to)
            await hub.publish(next(events), to=to, wait_for=Reach.OFFERED)
            if (done - looked) * self._size >= LOOK_AFTER:
                looked = done
                while self._most_owed() > MOST_OWED:  # noqa: ASYNC110 - the same for every server, see `pace`
                    await trio.sleep(PAUSE)
        self._published += messages

    def _most_owed(self) -> int:
        """Return it of those who hear us: others may be here, many more, and are owed nothing."""
        return max(each.outbox.statistics().owed_size for each in self.server.hub.roster.select(topic(TOPIC)))


async def serve(fan_out: FanOut, **facts: object) -> None:
    """Serve, and do as told on stdin; `facts` are for the sink."""
    gc.set_threshold(5_000, 10, 1_000)  # as `trio-hub serve` has it
    open_files()
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(fan_out.server.serve, "127.0.0.1", 0)
        answer(port=listeners[0].socket.getsockname()[1], **facts)
        while words := await trio.to_thread.run_sync(next_command):
            match words:
                case ["size", messages]:
                    answer(units=fan_out.size_of_next(int(messages)))
                case ["publish", messages, burst]:
                    answer(begun=time.monotonic(), cpu=time.process_time())
                    await fan_out.publish(int(messages), int(burst))
                case ["cpu"]:
                    answer(cpu=time.process_time())
        tasks.cancel_scope.cancel()


async def main(size: int, spelling: str) -> None:
    events, link = repeat(event_of(size, spelling)), LinkOptions(ping_interval=SILENCE)
    await serve(FanOut(events, size, in_bytes=spelling == "compat", link=link), **FACTS[spelling](size))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
