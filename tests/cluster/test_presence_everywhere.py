"""Who is here is the same at all nodes: told once of each who comes, changes or leaves, wherever their devices are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import hypothesis.strategies as st
import trio
from hypothesis import given, settings
from trio.testing import MockClock

from tests.cluster.several import PEOPLE, Cluster, Road, open_cluster, open_nodes
from trio_hub import Client, Gap, HubOptions, LinkOptions, PresenceOptions, RequestFailed, Status
from trio_hub.app.auth import known_tokens
from trio_hub.link.tasks import open_tasks
from trio_hub.options import ClientOptions
from trio_hub.targets import topic
from trio_hub.testing.world import World

GRACE, EVERY = 10.0, 0.5
SOON = 4 * EVERY + 0.1
GONE = 3.5 + GRACE + SOON  # s, after which the users of a node have left that is gone
PRESENCE = PresenceOptions(grace=GRACE, every=EVERY)


def open_town(*names: str, **arguments: Any):
    return open_nodes(*names, presence=PRESENCE, **arguments)


class Watcher:
    """A client that keeps a list of who is in the town, as a page would."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.users: dict[str, str] = {}
        self.heard: list[dict[str, Any]] = []

    async def watch(self) -> None:
        while True:
            try:
                self.users = (await self.client.request("watch", {"topic": "town"}))["users"]
                return
            except RequestFailed:  # another gap
                await trio.sleep(0.1)

    async def listen(self) -> None:
        while True:
            try:
                event = await anext(self.client)
            except Gap:
                self.heard.append({"gap": True})
                await self.client.connected()
                await self.watch()
                continue
            self.heard.append({key: value for key, value in event.data.items() if key != "topic"})
            self.users = event.data.get("users", self.users)
            self.users |= event.data.get("joined", {}) | event.data.get("changed", {})
            for each in event.data.get("left", []):
                self.users.pop(each, None)


@asynccontextmanager
async def open_watcher(world: World, **arguments: Any) -> AsyncIterator[Watcher]:
    """Somebody who watches the town, but is not there."""
    async with world.open_client(token="eve", **arguments) as client, open_tasks() as tasks:
        watcher = Watcher(client)
        await watcher.watch()
        tasks.start_soon(watcher.listen)
        yield watcher
        tasks.cancel_scope.cancel()


async def test_joining_changing_and_leaving_are_told_once_each_at_other_nodes(autojump_clock):
    async with open_town("a", "b") as (_, (a, b)), open_watcher(b) as watcher:
        async with a.open_client(token="ann", topics=["town"]) as ann:
            await trio.sleep(SOON)
            await ann.request("set_active", {"active": False})
            await trio.sleep(SOON)
            assert watcher.users == {"ann": "away"}
            await ann.request("set_active", {"active": True})
            await ann.unsubscribe("town")
            await trio.sleep(SOON)
        await trio.sleep(60)
        assert watcher.heard == [{"joined": {"ann": "online"}}, {"changed": {"ann": "away"}}, {"left": ["ann"]}]


async def test_the_last_of_two_devices_at_two_nodes_is_what_makes_them_leave(autojump_clock):
    async with open_town("a", "b", "c") as (_, (a, b, c)), open_watcher(c) as watcher:
        async with a.open_client(token="ann", topics=["town"]):
            async with b.open_client(token="ann", topics=["town"]):
                await trio.sleep(SOON)
            await trio.sleep(60)
            assert watcher.heard == [{"joined": {"ann": "online"}}]
        await trio.sleep(GRACE + SOON)
        assert watcher.heard == [{"joined": {"ann": "online"}}, {"left": ["ann"]}]


async def test_the_most_present_device_at_any_node_decides(autojump_clock):
    async with (
        open_town("a", "b", "c") as (_, (a, b, c)),
        open_watcher(c) as watcher,
        a.open_client(token="ann", topics=["town"]) as phone,
    ):
        await phone.request("set_active", {"active": False})
        await trio.sleep(SOON)
        assert watcher.users == {"ann": "away"}
        async with b.open_client(token="ann") as laptop:  # where nobody hears of the town
            await trio.sleep(SOON)
            assert watcher.users == {"ann": "online"}
            await laptop.request("set_active", {"active": False})
            await trio.sleep(SOON)
            assert watcher.users == {"ann": "away"}
            await laptop.request("set_active", {"active": True})
            await trio.sleep(SOON)
            assert watcher.users == {"ann": "online"}
        await trio.sleep(SOON)
        assert watcher.users == {"ann": "away"}, "the laptop has left, and the phone is idle"


async def test_a_list_has_the_users_of_all_nodes(autojump_clock):
    async with (
        open_town("a", "b", "c") as (_, (a, b, c)),
        a.open_client(token="ann", topics=["town"]),
        b.open_client(token="bob", topics=["town"]) as bob,
        c.open_client(token="eve") as eve,
    ):
        await bob.request("set_active", {"active": False})
        await trio.sleep(SOON)
        everybody = {"ann": "online", "bob": "away"}
        for _ in range(2):
            for action in ("presence", "watch"):
                assert (await eve.request(action, {"topic": "town"}))["users"] == everybody
        assert await c.server.presence.statuses(["ann", "bob", "eve", "joe"]) == {
            **everybody,
            "eve": "online",
            "joe": "offline",
        }
        assert await bob.request("get_statuses") == everybody
        assert await eve.request("get_statuses_by_ids", {"user_ids": ["ann", "joe"]}) == {
            "ann": "offline",
            "joe": "offline",
        }


async def test_who_is_there_already_is_not_told_again(autojump_clock):
    async with open_town("a", "b") as (_, (a, b)), a.open_client(token="ann", topics=["town"]):
        await trio.sleep(SOON)
        async with open_watcher(b) as watcher:
            assert watcher.users == {"ann": "online"}
            await trio.sleep(SOON)
            assert not watcher.heard


async def test_users_of_a_node_that_is_gone_leave_after_their_grace(autojump_clock):
    async with open_cluster(presence=PRESENCE) as cluster:
        a, b, c = [await cluster.start(name) for name in "abc"]
        async with (
            open_watcher(c) as watcher,
            a.open_client(token="ann", topics=["town"]) as ann,
            a.open_client(token="bob", topics=["town"]) as bob,
            b.open_client(token="bob", topics=["town"]),
        ):
            await trio.sleep(SOON)
            assert watcher.users == {"ann": "online", "bob": "online"}
            for each in (ann, bob):
                each.weather.cut()
            cluster.kill(a)
            await trio.sleep(GRACE)
            assert watcher.users == {"ann": "online", "bob": "online"}
            await trio.sleep(GONE - GRACE)
            assert watcher.users == {"bob": "online"}
            assert watcher.heard[1:] == [{"left": ["ann"]}]


async def test_who_comes_back_to_another_node_in_time_has_never_left(autojump_clock):
    async with open_cluster(presence=PRESENCE) as cluster:
        a, b, c = [await cluster.start(name) for name in "abc"]
        road = Road(a)
        async with open_watcher(c) as watcher, a.open_client(token="ann", weather=road) as ann:
            await ann.subscribe("town")
            await trio.sleep(SOON)
            road.cut()
            road.to = b
            await trio.sleep(1)
            road.mend()
            await trio.sleep(30)
            assert len(b.server.hub.connections()) == 1
            assert watcher.heard == [{"joined": {"ann": "online"}}]


async def test_who_is_idle_is_so_wherever_the_connection_goes_on(autojump_clock):
    async with open_town("a", "b", "c") as (_, (a, b, c)):
        road = Road(a)
        async with open_watcher(c) as watcher, a.open_client(token="ann", topics=["town"], weather=road) as ann:
            await ann.request("set_active", {"active": False})
            await trio.sleep(SOON)
            road.to = b
            road.cut_once()
            await trio.sleep(30)
            assert len(b.server.hub.connections()) == 1
            assert watcher.users == {"ann": "away"}
            assert not any("online" in str(each) for each in watcher.heard)


async def test_a_watcher_that_goes_on_at_another_node_has_the_whole_list(autojump_clock):
    async with open_town("a", "b") as (_, (a, b)), a.open_client(token="ann", topics=["town"]):
        road = Road(a)
        async with open_watcher(a, weather=road) as watcher:
            road.cut()
            road.to = b
            async with a.open_client(token="bob", topics=["town"]):
                await trio.sleep(0.1)
                road.mend()
                await trio.sleep(SOON)
                assert watcher.users == {"ann": "online", "bob": "online"}
                assert "users" in watcher.heard[-1]
            await trio.sleep(GRACE + SOON)
            assert watcher.users == {"ann": "online"}
        assert {"gap": True} not in watcher.heard


async def test_a_node_that_is_cut_off_tells_of_its_own_and_is_told_the_rest_when_mended(autojump_clock):
    async with (
        open_town("a", "b") as (backplane, (a, b)),
        open_watcher(a) as at_a,
        open_watcher(b) as at_b,
        a.open_client(token="ann", topics=["town"]),
    ):
        await trio.sleep(SOON)
        backplane.cut("b")
        async with b.open_client(token="bob", topics=["town"]):
            await trio.sleep(SOON)
            assert (at_a.users, at_b.users) == ({"ann": "online"}, {"ann": "online", "bob": "online"})
            await trio.sleep(GONE)
            assert (at_a.users, at_b.users) == ({"ann": "online"}, {"bob": "online"})
            backplane.mend("b")
            await trio.sleep(SOON)
            assert at_a.users == at_b.users == {"ann": "online", "bob": "online"}
            backplane.cut("b")
        await trio.sleep(2)
        backplane.mend("b")  # too soon to be taken for gone
        await trio.sleep(GRACE + SOON)
        assert at_a.users == at_b.users == {"ann": "online"}


async def test_what_is_set_by_hand_is_known_at_all_nodes_and_at_new_ones(autojump_clock):
    async with open_cluster(presence=PRESENCE) as cluster:
        a, b = await cluster.start("a"), await cluster.start("b")
        async with a.open_client(token="ann", topics=["town"]) as ann, open_watcher(b) as watcher:
            assert await ann.request("set_status", {"status": "dnd"}) == {"status": "dnd"}
            await trio.sleep(SOON)
            assert watcher.users == {"ann": "dnd"}
            c = await cluster.start("c")
            async with c.open_client(token="ann") as other:
                assert c.server.presence.status("ann") is Status.DND
                await other.request("set_status", {"status": "offline"})
                await trio.sleep(SOON)
                assert watcher.users == {}
                await ann.request("set_status", {"status": None})
                await trio.sleep(SOON)
                assert watcher.users == {"ann": "online"}
                assert {each.server.presence.status("ann") for each in (a, c)} == {Status.ONLINE}


async def test_nothing_is_said_of_a_topic_that_nobody_watches_elsewhere(autojump_clock):
    async with (
        open_town("a", "b") as (_, (a, b)),
        open_watcher(b) as watcher,
        a.open_client(token="ann", topics=["town", "sea"]),
    ):
        await trio.sleep(SOON)
        assert list(a.server.presence._elsewhere._watched_by) == ["town"]
        await watcher.client.request("unwatch", {"topic": "town"})
        await trio.sleep(10)
        assert not a.server.presence._elsewhere._watched_by
        assert not b.server.presence._elsewhere._mirrors


async def test_a_crowd_crosses_in_few_words(autojump_clock):
    people = {f"user{n}": f"user{n}" for n in range(600)}
    nodes = open_town("a", "b", authenticate=known_tokens({**PEOPLE, **people}), topics_of=lambda session: ["town"])
    async with nodes as (_, (a, b)), trio.open_nursery() as tasks:

        async def be_here(name: str) -> None:
            async with a.open_client(token=name):
                await trio.sleep_forever()

        for name in people:
            tasks.start_soon(be_here, name)
        await trio.sleep(SOON)
        async with open_watcher(b) as watcher:
            await trio.sleep(SOON)
            assert watcher.users.keys() == {*people, "eve"}
            assert [each.keys() for each in watcher.heard] == [{"joined"}]
        tasks.cancel_scope.cancel()


# -- any story

NODES = ("a", "b", "c")
LINK = LinkOptions(ping_interval=2, pong_timeout=1)
NODE = st.sampled_from(NODES)
DEVICE = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("come"), DEVICE, st.sampled_from(["ann", "bob"]), NODE),
    st.tuples(st.just("go"), DEVICE),
    st.tuples(st.just("move"), DEVICE, NODE),
    st.tuples(st.just("move_watcher"), NODE, NODE),
    st.tuples(st.just("cut_link"), DEVICE),
    st.tuples(st.just("ask"), DEVICE, st.sampled_from(["subscribe", "unsubscribe"]), st.just({"topic": "town"})),
    st.tuples(st.just("ask"), DEVICE, st.just("set_active"), st.fixed_dictionaries({"active": st.booleans()})),
    st.tuples(
        st.just("ask"),
        DEVICE,
        st.just("set_status"),
        st.fixed_dictionaries({"status": st.sampled_from(["dnd", "offline", None])}),
    ),
    st.tuples(st.just("cut_node"), NODE),
    st.tuples(st.just("mend_node"), NODE),
    st.tuples(st.just("restart_node"), NODE),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 0.6, 2.0, 5.0, 14.0])),
)


class Story:
    """Three nodes, a watcher at each, and devices of two people."""

    def __init__(self, cluster: Cluster, tasks: trio.Nursery) -> None:
        self._cluster = cluster
        self._tasks = tasks
        self.worlds: dict[str, World] = {}
        self._roads: list[Road] = []
        self._devices: dict[int, tuple[Road, trio.CancelScope, list[Client]]] = {}
        self._watchers: dict[str, Road] = {}
        self.watching: dict[str, Watcher] = {}

    async def begin(self) -> None:
        for name in NODES:
            self.worlds[name] = await self._cluster.start(name)
        for name in NODES:
            self._watchers[name] = Road(self.worlds[name])
            self._roads.append(self._watchers[name])
            await self._tasks.start(self._watch, name)

    async def _watch(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        road = self._watchers[name]
        async with open_watcher(road.to, weather=road, options=ClientOptions(link=LINK)) as watcher:
            self.watching[name] = watcher
            task_status.started()
            await trio.sleep_forever()

    async def _live(self, who: str, road: Road, scope: trio.CancelScope, clients: list[Client]) -> None:
        with scope:
            async with road.to.open_client(token=who, weather=road, options=ClientOptions(link=LINK)) as client:
                clients.append(client)
                async for _ in _quietly(client):
                    pass

    async def take(self, step: tuple[Any, ...]) -> None:
        match step:
            case ["come", device, who, name]:
                await self.take(("go", device))
                self._devices[device] = Road(self.worlds[name]), trio.CancelScope(), []
                self._roads.append(self._devices[device][0])
                self._tasks.start_soon(self._live, who, *self._devices[device])
            case ["go", device] if device in self._devices:
                self._devices.pop(device)[1].cancel()
            case ["move", device, name] if device in self._devices:
                self._move(self._devices[device][0], name)
            case ["move_watcher", watcher, name]:
                self._move(self._watchers[watcher], name)
            case ["cut_link", device] if device in self._devices:
                self._devices[device][0].cut()
            case ["ask", device, action, said] if device in self._devices:
                for client in self._devices[device][2]:
                    with trio.move_on_after(0.1), suppress(RequestFailed):
                        await client.request(action, said)
            case ["cut_node", name]:
                self._cluster.backplane.cut(name)
            case ["mend_node", name]:
                self._cluster.backplane.mend(name)
            case ["restart_node", name]:
                await self._restart(name)
            case ["wait", seconds]:
                await trio.sleep(seconds)

    def _move(self, road: Road, name: str) -> None:
        road.to = self.worlds[name]
        road.cut_once()

    async def _restart(self, name: str) -> None:
        await self.take(("mend_node", name))
        gone, roads = self.worlds[name], self._roads
        self.worlds[name] = await self._cluster.replace(gone, name, roads)

    async def settle(self) -> None:
        for name in NODES:
            await self.take(("mend_node", name))
        for road in self._roads:
            road.mend()
        await trio.sleep(30 + GONE)

    def check(self) -> None:
        devices = [each for world in self.worlds.values() for each in world.server.hub.connections(topic("town"))]
        presences = [world.server.presence for world in self.worlds.values()]
        expected: dict[str, str] = {}
        for who in {each.user for each in devices}:
            statuses = {each.status(who) for each in presences if each._stays(who)}
            assert len(statuses) == 1, (who, statuses)
            theirs = [each for world in self.worlds.values() for each in world.server.hub.roster.of_user(who)]
            by_hand = {each._by_hand.get(who) for each in presences}
            assert len(by_hand) == 1, (who, by_hand)
            status = by_hand.pop() or ("away" if all(each.is_idle for each in theirs) else "online")
            assert statuses == {status}
            if status != "offline":
                expected[who] = status
        for name, watcher in self.watching.items():
            assert watcher.users == expected, (name, watcher.heard)


async def _quietly(client: Client) -> AsyncIterator[None]:
    while True:
        try:
            await anext(client)
        except Gap:
            yield None


async def tell(steps: list[tuple[Any, ...]]) -> None:
    options = HubOptions(link=LINK, window=20)
    async with open_cluster(options=options, presence=PRESENCE) as cluster, open_tasks() as tasks:
        story = Story(cluster, tasks)
        await story.begin()
        for step in steps:
            await story.take(step)
        await story.settle()
        story.check()
        tasks.cancel_scope.cancel()


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=20))
def test_whatever_comes_and_goes_all_watchers_have_the_same_true_list(steps):
    trio.run(tell, steps, clock=MockClock(autojump_threshold=0))
