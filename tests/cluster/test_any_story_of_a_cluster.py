"""Whatever becomes of nodes, backplane and links: everybody hears everything once and in order, or of a gap."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import hypothesis.strategies as st
import trio
from hypothesis import example, given, settings
from trio.testing import MockClock

from tests.cluster.several import PEOPLE, Cluster, Road, open_cluster
from trio_hub.cluster.backplane import Arrival, Interrupted, Membership, Outbound
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.errors import Gap
from trio_hub.hub.carrying import Carry
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Event
from trio_hub.options import ClientOptions, HubOptions, LinkOptions
from trio_hub.targets import topic
from trio_hub.testing.world import World

NODES = ("a", "b", "c")
LINK = LinkOptions(ping_interval=2, pong_timeout=1)
WHO = st.sampled_from(sorted(PEOPLE))
NODE = st.sampled_from(NODES)
STEPS = st.one_of(
    st.tuples(st.just("publish"), NODE, st.integers(1, 5), st.sampled_from([Carry.FAST, Carry.FAST, Carry.RELIABLY])),
    st.tuples(st.just("move"), WHO, NODE),
    st.tuples(st.just("cut_link"), WHO),
    st.tuples(st.just("abandon_link"), WHO),
    st.tuples(st.just("cut_node"), NODE),
    st.tuples(st.just("mend_node"), NODE),
    st.tuples(st.just("restart_node"), NODE),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 1.0, 5.0])),
)

Heard = tuple[str, int] | None
"""Who has said it and its number there; None for a gap."""


class Story:
    """A cluster, and three people who listen."""

    def __init__(self, cluster: Cluster, tasks: trio.Nursery) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self._worlds: dict[str, World] = {}
        self._said: dict[str, int] = defaultdict(int)  # by each life of each node
        self._lives: dict[str, int] = defaultdict(int)
        self._given_up: set[tuple[str, int]] = set()
        self._roads: dict[str, Road] = {}
        self.heard: dict[str, list[Heard]] = {who: [] for who in PEOPLE}

    async def begin(self) -> None:
        for name in NODES:
            await self._start(name)
        for who, name in zip(PEOPLE, NODES, strict=True):
            self._roads[who] = Road(self._worlds[name])
            await self._tasks.start(partial(self._listen, who))

    async def _start(self, name: str) -> None:
        self._lives[name] += 1
        self._worlds[name] = await self._cluster.start(f"{name}{self._lives[name]}")

    async def _listen(self, who: str, *, task_status: trio.TaskStatus[None]) -> None:
        road = self._roads[who]
        async with road.to.open_client(token=who, weather=road, options=ClientOptions(link=LINK)) as client:
            task_status.started()
            while True:
                try:
                    event = await anext(client)
                    self.heard[who].append((event.data["by"], event.data["n"]))
                except Gap:
                    self.heard[who].append(None)

    async def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ["publish", name, count, carry]:
                for _ in range(count):
                    await self.publish(name, carry)
            case ["move", who, name]:
                self._roads[who].to = self._worlds[name]
                self._roads[who].cut_once()
            case ["cut_link", who]:
                self._roads[who].cut_once()
            case ["abandon_link", who]:
                self._roads[who].abandon(noticed=False)
            case ["cut_node", name]:
                self._cluster.backplane.cut(self._name(name))
            case ["mend_node", name]:
                self._cluster.backplane.mend(self._name(name))
            case ["restart_node", name]:
                await self._restart(name)
            case ["wait", seconds]:
                await trio.sleep(seconds)

    def _name(self, name: str) -> str:
        return f"{name}{self._lives[name]}"

    async def _restart(self, name: str) -> None:
        self._cluster.backplane.mend(self._name(name))
        self._lives[name] += 1
        gone, roads = self._worlds[name], self._roads.values()
        self._worlds[name] = await self._cluster.replace(gone, self._name(name), roads)

    async def publish(self, name: str, carry: Carry) -> None:
        by = self._name(name)
        self._said[by] += 1
        event = Event("news", {"by": by, "n": self._said[by]})
        published = await self._worlds[name].server.publish(event, to=topic("town"), carry=carry, within=0.1)
        if published.carried is False:  # the publisher knows that, and nobody else
            self._given_up.add((by, self._said[by]))

    async def settle(self) -> None:
        """Have everything mended, and one last thing said by everybody."""
        for name in NODES:
            self._cluster.backplane.mend(self._name(name))
        for road in self._roads.values():
            road.mend()
        await trio.sleep(20)
        for name in NODES:
            await self.publish(name, Carry.FAST)
        await trio.sleep(5)

    def check(self) -> None:
        """A number may be left out where a gap is told after the number before it: by then, or within a second."""
        for who, heard in self.heard.items():
            latest: dict[str, int] = {}
            for place, each in enumerate(heard):
                if each is not None:
                    by, number = each
                    before = heard.index((by, latest[by])) if by in latest else 0
                    assert number > latest.get(by, 0), (who, heard)
                    missing = {(by, each) for each in range(latest.get(by, 0) + 1, number)}
                    assert missing <= self._given_up or None in heard[before:], (who, place, heard)
                    latest[by] = number
            for name in NODES:
                assert latest[self._name(name)] == self._said[self._name(name)], (who, heard)


class Dawdling(MemoryBackplane):
    """Takes a time of its own, drawn from `chance`, for whatever is sent, listened to or received."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    async def _dawdle(self) -> None:
        await trio.sleep(self._chance.choice([0, 0, 0, 0.01, 0.1, 0.6]))

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        async with super().join(node) as membership:
            send, listen, receive = membership.send, membership.listen, membership.receive

            async def send_late(messages: Sequence[Outbound]) -> None:
                await self._dawdle()
                await send(messages)

            async def listen_late(channels: Iterable[str], *, reliable: bool = False) -> None:
                await self._dawdle()
                await listen(channels, reliable=reliable)

            async def receive_late() -> list[Arrival | Interrupted]:
                await self._dawdle()
                return await receive()

            membership.send, membership.listen = send_late, listen_late  # type: ignore[method-assign]
            membership.receive = receive_late  # type: ignore[method-assign]
            yield membership


async def tell(steps: list[tuple[Any, ...]], backplane: MemoryBackplane | None = None) -> None:
    options = HubOptions(link=LINK)
    everybody_hears = partial(open_cluster, topics_of=lambda session: ["town"], options=options)
    async with everybody_hears(backplane=backplane) as cluster, open_tasks() as tasks:
        story = Story(cluster, tasks)
        await story.begin()
        for step in steps:
            await story.take(step)
        await story.settle()
        tasks.cancel_scope.cancel()
    story.check()


CUT_OFF_FROM_THE_FIRST = [
    ("cut_node", "c"),
    ("wait", 5.0),  # so that the others seem to have left
    ("publish", "a", 5, Carry.FAST),
]
CUT_OFF_WHILE_ANOTHER_BEGINS = [
    ("cut_node", "c"),
    ("restart_node", "b"),
    ("move", "ann", "b"),
    ("wait", 1.0),
    ("mend_node", "c"),
    ("publish", "c", 4, Carry.FAST),
    ("publish", "c", 3, Carry.RELIABLY),
]


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=25))
@example(CUT_OFF_FROM_THE_FIRST)
@example(CUT_OFF_WHILE_ANOTHER_BEGINS)
def test_everything_is_heard_once_or_a_gap_is_told(steps):
    trio.run(tell, steps, clock=MockClock(autojump_threshold=0))


@settings(max_examples=20, deadline=None)
@given(st.lists(STEPS, max_size=25), st.integers(0, 1000))
def test_the_same_where_everything_takes_its_time(steps, seed):
    trio.run(tell, steps, Dawdling(random.Random(seed)), clock=MockClock(autojump_threshold=0))
