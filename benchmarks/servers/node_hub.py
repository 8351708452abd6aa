"""Ours, whole, as one of two nodes. See `benchmarks.servers.nodes`."""

from __future__ import annotations

import gc
import sys
import time
from itertools import count, cycle, islice

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import open_files
from benchmarks.servers.hub import FACTS, SILENCE, event_of
from benchmarks.servers.nodes import LOOK, shares_of, topics_of
from trio_hub import Credentials, HubOptions, LinkOptions, RedisBackplane, Server, Session, topic

_SPELLING = "v1.json"


class Node:
    """A server, and what it publishes."""

    def __init__(self, size: int, url: str, topics: int, clients: int) -> None:
        self._topics = topics_of(topics)
        self._targets = cycle(map(topic, self._topics))
        self._event = event_of(size, _SPELLING)
        shares, numbers = list(islice(shares_of(self._topics, clients), clients)), count()

        async def by_order(_: Credentials) -> Session:
            return Session(str(next(numbers)))

        def share(session: Session) -> list[str]:  # asked more than once of each
            return shares[int(session.user)]

        options = HubOptions(link=LinkOptions(ping_interval=SILENCE))
        self.server = Server(backplane=RedisBackplane(url), authenticate=by_order, topics_of=share, options=options)
        assert self.server.relay is not None
        self._relay = self.server.relay

    async def wait_hears(self) -> None:
        """Wait until the node hears itself: before that nobody who comes is kept waiting for their topics."""
        while self._relay.health().is_deaf:  # noqa: ASYNC110 - of no interest to the relay
            await trio.sleep(LOOK)

    async def wait_ready(self) -> None:
        """Wait until there is another node; and all topics, if anybody is here for them, come from there."""
        while not self._relay.has_others:  # noqa: ASYNC110 - of no interest to the relay
            await trio.sleep(LOOK)
        if self.server.hub.connections():
            for name in self._topics:
                await self._relay.wait_listening(name)

    async def publish(self, messages: int, burst: int) -> None:
        """Publish as fast as our hub takes it: the last of a burst waits for its turn."""
        hub, event, targets = self.server.hub, self._event, self._targets
        for _ in range(0, messages, burst):
            for _ in range(burst - 1):
                hub.publish_nowait(event, to=next(targets))
            await self.server.publish(event, to=next(targets))

    async def wait_heard(self, wanted: int) -> None:
        """Wait until so many were heard, or nobody can any more: there was a hole."""
        while (crossed := self._relay.statistics()).heard < wanted and not crossed.holes:  # noqa: ASYNC110
            await trio.sleep(LOOK)

    def lost(self) -> int:
        """Return how many were not carried, and of how many holes somebody was told."""
        crossed = self._relay.statistics()
        return crossed.not_carried + crossed.holes + self.server.hub.statistics().gaps


async def main(size: int, url: str, topics: int, clients: int) -> None:
    gc.set_threshold(5_000, 10, 1_000)  # as `trio-hub serve` has it
    open_files()
    node = Node(size, url, topics, clients)
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(node.server.serve, "127.0.0.1", 0)
        await node.wait_hears()
        answer(port=listeners[0].socket.getsockname()[1], **FACTS[_SPELLING](size))
        while words := await trio.to_thread.run_sync(next_command):
            match words:
                case ["ready"]:
                    await node.wait_ready()
                    answer()
                case ["publish", messages, burst]:
                    answer(begun=time.monotonic(), cpu=time.process_time())
                    await node.publish(int(messages), int(burst))
                case ["heard", count]:
                    await node.wait_heard(int(count))
                    answer(ended=time.monotonic(), cpu=time.process_time(), lost=node.lost())
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
