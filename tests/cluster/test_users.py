"""No user has more connections than may be, at all nodes together; and all nodes agree on who has to go."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import given, settings
from trio.testing import MockClock

from tests.cluster.several import PEOPLE, Cluster, Road, open_cluster, open_nodes
from trio_hub import Closed, HubOptions, LinkOptions
from trio_hub.hub.places import Place, who_goes
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Event
from trio_hub.options import ClientOptions
from trio_hub.targets import user
from trio_hub.testing.world import World

SOON = 0.6  # s, in which all nodes know of what has happened


def limited(most: int, *, newest_wins: bool = False) -> HubOptions:
    return HubOptions(connections_of_user=most, newest_wins=newest_wins)


async def is_closed_with(client, code: int) -> None:
    with trio.fail_after(SOON), pytest.raises(Closed) as caught:
        await anext(client)
    assert caught.value.close.code == code


async def is_refused(world: World) -> None:
    with pytest.raises(Closed) as caught:  # noqa: PT012
        async with world.open_client(token="ann") as client:
            with trio.fail_after(SOON):
                await anext(client)
    assert caught.value.close.code == 4504


def here(*worlds: World, who: str = "ann") -> int:
    return sum([len(world.server.hub.connections(user(who))) for world in worlds])


async def test_the_newest_wins_at_another_node(autojump_clock):
    nodes = open_nodes("a", "b", options=limited(1, newest_wins=True))
    async with nodes as (_, (a, b)), a.open_client(token="ann") as first, b.open_client(token="ann") as second:
        await is_closed_with(first, 4503)
        await a.server.publish(Event("after"), to=user("ann"))
        assert (await anext(second)).name == "after"
        assert (here(a), here(b)) == (0, 1)


async def test_the_oldest_stays_at_another_node(autojump_clock):
    nodes = open_nodes("a", "b", options=limited(2))
    async with (
        nodes as (_, (a, b)),
        a.open_client(token="ann"),
        b.open_client(token="ann"),
        b.open_client(token="bob"),
    ):
        await is_refused(a)
        assert (here(a), here(b)) == (1, 1)
        assert a.server.hub.statistics().refused == 1


@pytest.mark.parametrize("newest_wins", [True, False])
async def test_who_is_away_goes_before_anybody(newest_wins, autojump_clock):
    nodes = open_nodes("a", "b", options=limited(2, newest_wins=newest_wins))
    async with nodes as (_, (a, b)), a.open_client(token="ann"), b.open_client(token="ann") as away:
        away.weather.cut()
        await trio.sleep(1)
        async with a.open_client(token="ann"):
            await trio.sleep(SOON)
            assert (here(a), here(b)) == (2, 0)


async def test_who_leaves_makes_room_at_once(autojump_clock):
    nodes = open_nodes("a", "b", options=limited(2))
    async with nodes as (_, (a, b)), b.open_client(token="ann"):
        for _ in range(10):
            async with a.open_client(token="ann"):
                pass
            await trio.sleep(0.01)
            async with b.open_client(token="ann") as ann:
                await trio.sleep(0.01)
                assert not b.server.hub.statistics().refused
                await ann.request("ping")
            await trio.sleep(0.01)


async def test_who_goes_on_at_another_node_is_as_old_as_before(autojump_clock):
    nodes = open_nodes("a", "b", options=limited(2))
    async with nodes as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", weather=road) as ann, a.open_client(token="ann"):
            road.to = b
            road.cut_once()
            await trio.sleep(5)
            assert (here(a), here(b)) == (1, 1)
            await is_refused(a)
            await ann.request("ping")


async def test_nodes_that_were_cut_off_from_each_other_agree_when_that_is_mended(autojump_clock):
    async with open_nodes("a", "b", options=limited(1, newest_wins=True)) as (backplane, (a, b)):
        backplane.cut("b")
        async with a.open_client(token="ann") as first, b.open_client(token="ann") as second:
            await trio.sleep(10)
            assert (here(a), here(b)) == (1, 1)
            backplane.mend("b")
            await trio.sleep(2)
            await is_closed_with(first, 4503)
            await second.request("ping")


async def test_what_is_gone_with_a_node_takes_no_room(autojump_clock):
    async with open_cluster(options=limited(1)) as cluster:
        a, b = await cluster.start("a"), await cluster.start("b")
        async with a.open_client(token="ann") as lost:
            await trio.sleep(SOON)
            lost.weather.cut()
            cluster.kill(a)
            await trio.sleep(4)
            async with b.open_client(token="ann") as ann:
                await trio.sleep(2)
                await ann.request("ping")


async def test_nobody_is_kept_in_mind_who_is_nowhere(autojump_clock):
    async with open_nodes("a", "b", options=limited(3)) as (_, (a, b)):
        async with a.open_client(token="ann"), b.open_client(token="ann"), b.open_client(token="bob"):
            await trio.sleep(100)
        await trio.sleep(100)
        for each in (a, b):
            users = each.server.relay._users
            kept = [users._ours, users._theirs, users._said, users._marked, each.server.relay._caps._stated]
            assert not any(kept)


PLACES = st.lists(st.builds(Place, st.uuids().map(str), st.floats(0, 3), st.booleans()), max_size=6)


@given(PLACES, st.integers(1, 4), st.booleans())
def test_as_many_go_as_are_too_many_and_the_order_does_not_matter(places, most, newest_wins):
    going = who_goes(places, most, newest_wins=newest_wins)
    assert len(going) == max(0, len(places) - most)
    assert going == who_goes(places[::-1], most, newest_wins=newest_wins)
    staying = [each for each in places if each not in going]
    if any(each.attached for each in going):
        assert all(each.attached for each in staying)
    for one in going:
        for other in staying:
            if one.attached and other.attached:
                assert one.since <= other.since if newest_wins else one.since >= other.since


# -- any story

NODES = ("a", "b", "c")
LINK = LinkOptions(ping_interval=2, pong_timeout=1)
NODE = st.sampled_from(NODES)
DEVICE = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("come"), DEVICE, st.sampled_from(sorted(PEOPLE)), NODE),
    st.tuples(st.just("go"), DEVICE),
    st.tuples(st.just("move"), DEVICE, NODE),
    st.tuples(st.just("cut_link"), DEVICE),
    st.tuples(st.just("cut_node"), NODE),
    st.tuples(st.just("mend_node"), NODE),
    st.tuples(st.just("restart_node"), NODE),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.3, 2.0, 5.0])),
)


class Story:
    """Three nodes, and devices of three people that come and go."""

    def __init__(self, cluster: Cluster, tasks: trio.Nursery) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self.worlds: dict[str, World] = {}
        self._devices: dict[int, tuple[Road, trio.CancelScope]] = {}

    async def begin(self) -> None:
        for name in NODES:
            self.worlds[name] = await self._cluster.start(name)

    async def _live(self, who: str, road: Road, scope: trio.CancelScope) -> None:
        with scope, trio.move_on_after(1000):
            try:
                async with road.to.open_client(token=who, weather=road, options=ClientOptions(link=LINK)):
                    await trio.sleep_forever()
            except Closed:
                pass

    async def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ["come", device, who, name]:
                await self.take(("go", device))
                self._devices[device] = Road(self.worlds[name]), trio.CancelScope()
                self._tasks.start_soon(self._live, who, *self._devices[device])
            case ["go", device] if device in self._devices:
                self._devices.pop(device)[1].cancel()
            case ["move", device, name] if device in self._devices:
                self._devices[device][0].to = self.worlds[name]
                self._devices[device][0].cut_once()
            case ["cut_link", device] if device in self._devices:
                self._devices[device][0].cut()
            case ["cut_node", name]:
                self._cluster.backplane.cut(name)
            case ["mend_node", name]:
                self._cluster.backplane.mend(name)
            case ["restart_node", name]:
                await self._restart(name)
            case ["wait", seconds]:
                await trio.sleep(seconds)

    async def _restart(self, name: str) -> None:
        await self.take(("mend_node", name))
        gone, roads = self.worlds[name], [road for road, _ in self._devices.values()]
        self.worlds[name] = await self._cluster.replace(gone, name, roads)

    async def settle(self) -> None:
        for name in NODES:
            await self.take(("mend_node", name))
        for road, _ in self._devices.values():
            road.mend()
        await trio.sleep(20)


async def tell(steps: list[tuple[Any, ...]], most: int, newest_wins: bool) -> None:
    options = HubOptions(connections_of_user=most, newest_wins=newest_wins, link=LINK)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(open_cluster(options=options))
        tasks = await stack.enter_async_context(open_tasks())
        story = Story(cluster, tasks)
        await story.begin()
        for step in steps:
            await story.take(step)
        await story.settle()
        rosters = [world.server.hub.roster for world in story.worlds.values()]
        for who in PEOPLE:
            theirs = [place for roster in rosters for place in roster.places(who)]
            assert len(theirs) <= most, theirs
            for world in story.worlds.values():
                if here(world, who=who):
                    shared = world.server.relay._users.shared("who", who)
                    known = [each for stated in shared for each in stated]
                    own = [[each.id, each.since, each.attached] for each in world.server.hub.roster.places(who)]
                    assert sorted(known + own) == sorted([[each.id, each.since, each.attached] for each in theirs])
        tasks.cancel_scope.cancel()


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=20), st.integers(1, 3), st.booleans())
def test_whatever_comes_and_goes_the_caps_hold_and_all_nodes_agree(steps, most, newest_wins):
    trio.run(tell, steps, most, newest_wins, clock=MockClock(autojump_threshold=0))
