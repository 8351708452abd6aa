"""Ours, whole: the server with its hub; numbers, kept events, bounds and the heart are on.

    python -m benchmarks.servers.hub SIZE compat|v1.json|v1.cbor

Every event takes SIZE bytes in that spelling, its envelope included; compat's number comes on top.
"""

from __future__ import annotations

import json
import sys
import time

import cbor2
import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import open_files
from benchmarks.servers.pace import LOOK_AFTER, MOST_OWED, PAUSE
from trio_hub import Event, HubOptions, LinkOptions, Reach, Server, topic

TOPIC = "bench"
SILENCE = 3600.0  # s, until a ping, which would be counted as part of an event


def event_of(size: int, spelling: str) -> Event:
    """Return an event that takes so many bytes, its number aside."""
    for length in range(size):
        event = {"event": "tick", "data": {"text": "x" * (size - length)}, "broadcast": {"topic": TOPIC}}
        spelled = cbor2.dumps(event) if spelling == "v1.cbor" else json.dumps(event, separators=(",", ":")).encode()
        if len(spelled) == size:
            return Event("tick", event["data"])
    raise AssertionError(f"no event takes {size} bytes")


class FanOut:
    """Publishes events of one size to one topic."""

    def __init__(self, size: int, spelling: str) -> None:
        self.server = Server(options=HubOptions(link=LinkOptions(ping_interval=SILENCE)))
        self._event = event_of(size, spelling)
        self._size = size
        self._numbered = spelling == "compat"
        self._published = 0

    def size_of_next(self, messages: int) -> int:
        """Return how much the next events are on one link: bytes with frame heads and numbers, or events for v1."""
        if not self._numbered:
            return messages
        first = self._published + 1
        sizes = [self._size + len(f',"seq":{number}') for number in range(first, first + messages)]
        return sum(size + (2 if size < 126 else 4) for size in sizes)

    async def publish(self, messages: int, burst: int) -> None:
        """Publish, and go on when the burst was offered to everybody; wait where somebody is owed much."""
        looked, hub, event, to = 0, self.server.hub, self._event, topic(TOPIC)
        for done in range(0, messages, burst):
            for _ in range(burst - 1):
                hub.publish_nowait(event, to=to)
            await hub.publish(event, to=to, wait_for=Reach.OFFERED)
            if (done - looked) * self._size >= LOOK_AFTER:
                looked = done
                while self._most_owed() > MOST_OWED:  # noqa: ASYNC110 - the same for every server, see `pace`
                    await trio.sleep(PAUSE)
        self._published += messages

    def _most_owed(self) -> int:
        """Return it of those who hear us: others may be here, many more, and are owed nothing."""
        return max(each.outbox.statistics().owed_size for each in self.server.hub.roster.select(topic(TOPIC)))


async def main(size: int, spelling: str) -> None:
    fan_out = FanOut(size, spelling)
    open_files()
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(fan_out.server.serve, "127.0.0.1", 0)
        port = listeners[0].socket.getsockname()[1]
        match spelling:
            case "compat":
                answer(port=port)
            case "v1.json":
                answer(port=port, unit=size + 1, ack="json")  # a batch has a comma behind each event but the last
            case "v1.cbor":
                answer(port=port, unit=size, ack="cbor")
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


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
