"""Who is here is told to those who watch: what has changed, once, however it came about."""

from __future__ import annotations

import json
import math

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import wait_all_tasks_blocked

from tests.stories.stage import Stage
from trio_hub import (
    HubOptions,
    Misuse,
    PresenceOptions,
    RequestFailed,
    Server,
    Session,
    Status,
    TypingOptions,
    topic,
    user,
)
from trio_hub.testing import open_world

GRACE, EVERY = 10.0, 0.5
PRESENCE = PresenceOptions(grace=GRACE, every=EVERY)


async def by_name(credentials) -> Session | None:
    return None if credentials.token is None else Session(credentials.token)


def server_with(presence: PresenceOptions | None = PRESENCE, **arguments) -> Server:
    return Server(authenticate=by_name, presence=presence, **arguments)


class Watcher:
    """A client that keeps a list of who is here, as a page would."""

    def __init__(self, client) -> None:
        self._client = client
        self.users: dict[str, str] = {}
        self.heard: list[dict] = []

    async def watch(self, name: str) -> None:
        self.users = (await self._client.request("watch", {"topic": name}))["users"]

    async def listen(self) -> None:
        async for event in self._client:
            assert event.name == "presence"
            self.heard.append(event.data)
            self.users |= event.data.get("joined", {}) | event.data.get("changed", {})
            for each in event.data.get("left", []):
                del self.users[each]


async def passes(seconds: float = EVERY) -> None:
    """Let so much time pass, and everything happen by then."""
    await trio.sleep(seconds + 0.01)
    await wait_all_tasks_blocked()


@pytest.fixture
async def town(nursery):
    """A world, and somebody who watches the topic `town`."""
    async with open_world(server_with()) as world, world.open_client(token="watcher") as client:
        watcher = Watcher(client)
        await watcher.watch("town")
        nursery.start_soon(watcher.listen)
        yield world, watcher
        nursery.cancel_scope.cancel()


async def test_joining_changing_and_leaving_are_told_once_each(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["town"]) as ann:
        await passes()
        assert watcher.users == {"ann": "online"}
        await ann.request("set_active", {"active": False})
        await passes()
        assert watcher.users == {"ann": "away"}
        await ann.request("set_active", {"active": True})
        await ann.unsubscribe("town")
        await passes()
        assert watcher.users == {}
    await passes(60)
    topic_town = {"topic": "town"}
    assert watcher.heard == [
        {**topic_town, "joined": {"ann": "online"}},
        {**topic_town, "changed": {"ann": "away"}},
        {**topic_town, "left": ["ann"]},
    ]


async def test_who_loses_the_link_is_still_here_for_the_grace(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["town"]) as ann:
        await passes()
        ann.weather.cut()
        await passes(1)
        assert not world.server.hub.connections(user("ann"))[0].attached
        assert watcher.users == {"ann": "online"}
        ann.weather.mend()
        await ann.request("ping")
        await passes(2 * GRACE)
        assert len(watcher.heard) == 1
        ann.weather.cut()
        await passes(GRACE + 2 * EVERY)
        assert watcher.users == {}
        ann.weather.mend()
        await ann.request("ping")
        await passes()
        assert watcher.users == {"ann": "online"}


async def test_who_is_away_and_loses_the_link_is_not_online_for_that(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["town"]) as ann:
        await ann.request("set_active", {"active": False})
        await passes()
        assert watcher.users == {"ann": "away"}
        ann.weather.cut()
        await passes(2)
        assert watcher.users == {"ann": "away"}
        await passes(2 * GRACE)
        assert watcher.users == {}
        assert {status for each in watcher.heard for status in each.get("changed", {}).values()} <= {"away"}


async def test_the_most_present_of_several_devices_decides(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["town"]) as phone:
        async with world.open_client(token="ann", topics=["town"]) as laptop:
            await phone.request("set_active", {"active": False})
            await passes()
            assert watcher.users == {"ann": "online"}
            await laptop.request("set_active", {"active": False})
            await passes()
            assert watcher.users == {"ann": "away"}
            await laptop.request("set_active", {"active": True})
            await passes()
            assert watcher.users == {"ann": "online"}
        await passes()
        assert watcher.users == {"ann": "away"}, "the phone is left, and idle"
    await passes(2 * GRACE)
    assert watcher.users == {}


async def test_what_is_set_by_hand_lasts_for_its_time(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["town"]) as ann:
        assert await ann.request("set_status", {"status": "dnd", "seconds": 100}) == {"status": "dnd"}
        await passes()
        assert watcher.users == {"ann": "dnd"}
        await ann.request("set_active", {"active": False})
        await passes()
        assert watcher.users == {"ann": "dnd"}
        await passes(100)
        assert watcher.users == {"ann": "away"}
        await ann.request("set_status", {"status": "offline"})
        await passes()
        assert watcher.users == {}, "hidden"
        await ann.request("set_status", {"status": None})
        await passes()
        assert watcher.users == {"ann": "away"}


async def test_what_is_set_by_hand_is_still_so_after_coming_back(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["town"]) as ann:
        await ann.request("set_status", {"status": "dnd"})
    await passes(2 * GRACE)
    assert watcher.users == {}
    async with world.open_client(token="ann", topics=["town"]):
        await passes()
        assert watcher.users == {"ann": "dnd"}


async def test_a_crowd_that_comes_at_once_is_told_in_one_event(town, autojump_clock):
    world, watcher = town
    async with trio.open_nursery() as tasks:

        async def be_here(name: str) -> None:
            async with world.open_client(token=name, topics=["town"]):
                await trio.sleep(5)

        for n in range(50):
            tasks.start_soon(be_here, f"user{n}")
        await passes()
        assert len(watcher.users) == 50
        assert len(watcher.heard) == 1
    await passes(2 * GRACE)
    assert watcher.users == {}


async def test_nobody_is_told_where_nobody_watches(town, autojump_clock):
    world, watcher = town
    async with world.open_client(token="ann", topics=["sea"]):
        published = world.server.hub.statistics().published
        await passes()
        assert world.server.hub.statistics().published == published
        await watcher._client.request("unwatch", {"topic": "town"})
    async with world.open_client(token="bob", topics=["town"]):
        await passes()
        assert world.server.hub.statistics().published == published


async def test_a_list_is_given_to_whoever_may_hear_the_topic(autojump_clock):
    server = server_with(may_subscribe=lambda session, name: name == "town")
    async with (
        open_world(server) as world,
        world.open_client(token="ann", topics=["town"]) as ann,
        world.open_client(token="bob", topics=["town"]) as bob,
    ):
        await bob.request("set_active", {"active": False})
        listed = {"topic": "town", "users": {"ann": "online", "bob": "away"}}
        assert await ann.request("presence", {"topic": "town"}) == listed
        for action in ("presence", "watch"):
            with pytest.raises(RequestFailed, match="403"):
                await ann.request(action, {"topic": "secret"})


async def test_watching_is_not_a_way_around_lost_rights(autojump_clock):
    channels = {"town"}
    server = server_with(may_subscribe=lambda session, name: name in channels)
    async with open_world(server) as world, world.open_client(token="watcher", topics=["town"]) as client:
        await client.request("watch", {"topic": "town"})
        channels.clear()
        await server.sessions.invalidate(user("watcher"))
        (connection,) = server.hub.connections()
        assert connection.topics == set()


async def test_mattermosts_clients_ask_in_their_own_words(autojump_clock):
    async with (
        open_world(server_with()) as world,
        world.open_client(token="ann", topics=["town"]) as ann,
        world.open_client(token="bob", topics=["town"]),
    ):
        await passes()
        assert await ann.request("get_statuses") == {"ann": "online", "bob": "online"}
        async with world.open_client(token="stranger") as stranger:  # who is in no topic with them
            statuses = await stranger.request("get_statuses_by_ids", {"user_ids": ["ann", "stranger"]})
            assert statuses == {"ann": "offline", "stranger": "online"}
        await ann.request("user_update_active_status", {"user_is_active": False, "manual": True})
        asked = {"user_ids": ["ann", "bob", "eve"]}
        statuses = {"ann": "away", "bob": "online", "eve": "offline"}
        assert await ann.request("get_statuses_by_ids", asked) == statuses
        await ann.request("user_update_active_status", {"user_is_active": True, "manual": True})
        assert world.server.presence.status("ann") is Status.ONLINE


@pytest.mark.parametrize(
    ("action", "data", "words"),
    [
        ("set_status", {"status": "online"}, "status"),
        ("set_status", {"status": "dnd", "seconds": 0}, "seconds"),
        ("set_active", {}, "active"),
        ("watch", {"topic": "a,b"}, "topic"),
    ],
)
async def test_what_is_wrong_is_said(action, data, words, autojump_clock):
    async with open_world(server_with()) as world, world.open_client(token="ann") as ann:
        with pytest.raises(RequestFailed, match=words) as caught:
            await ann.request(action, data)
        assert caught.value.status == 400


async def test_online_cannot_be_set(autojump_clock):
    async with open_world(server_with()) as world:
        with pytest.raises(Misuse):
            world.server.presence.set_status("ann", Status.ONLINE)


async def test_what_is_remembered_of_users_is_bounded_and_who_is_here_is_not_forgotten(autojump_clock):
    async with (
        open_world(server_with(PresenceOptions(remembered=3))) as world,
        world.open_client(token="ann") as ann,
    ):
        presence = world.server.presence
        await ann.request("set_status", {"status": "offline"})
        for n in range(10):
            presence.set_status(f"user{n}", Status.DND, lasts=math.inf)
        assert len(presence._by_hand) == 3
        assert presence.status("ann") is Status.OFFLINE


async def test_a_busy_server_still_knows_who_is_here(autojump_clock):
    async with open_world(server_with(options=HubOptions(window=20))) as world:
        async with world.open_client(token="ann", topics=["town"]):
            await passes()
            world.server.busy.set(1000)
        await passes(GRACE)
        assert world.server.presence.status("ann") is Status.OFFLINE


async def test_to_watch_again_takes_no_more_room(autojump_clock):
    server = server_with(options=HubOptions(topics=2))
    async with open_world(server) as world, world.open_client(token="ann", topics=["town"]) as ann:
        for _ in range(2):
            await ann.request("watch", {"topic": "town"})
        with pytest.raises(RequestFailed, match="too_many_topics"):
            await ann.request("watch", {"topic": "sea"})


async def test_topics_beside_a_topic_are_nobodys_business(autojump_clock):
    async with (
        open_world(server_with(typing=TypingOptions())) as world,
        world.open_client(token="ann", topics=["town"]) as ann,
    ):
        await ann.request("watch", {"topic": "town"})
        await ann.request("set_open", {"topic": "town"})
        (connection,) = world.server.hub.connections()
        assert connection.topics == {"town"}
        for action in ("subscribe", "unsubscribe", "user_typing"):
            name = "\x1eopen\x1etown"
            with pytest.raises(RequestFailed, match=r"40[03]"):
                await ann.request(action, {"topic": name, "channel_id": name})


# -- any story


class PresenceMachine(RuleBasedStateMachine):
    """Whatever happens: a list that is kept from what is told is the one that is true when everything was told."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed):
        self.stage = Stage(seed)
        self.people = {}
        self.stage.do(self._begin)

    async def _begin(self):
        async def live(task_status):
            async with (
                open_world(server_with(options=HubOptions(window=20))) as self.world,
                self.world.open_client(token="watcher") as client,
            ):
                self.watcher = Watcher(client)
                await self.watcher.watch("town")
                task_status.started()
                await self.watcher.listen()

        await self.stage.nursery.start(live)

    def teardown(self):
        if hasattr(self, "stage"):
            self.stage.close()

    @rule(name=st.sampled_from(["ann", "bob", "cat"]))
    def come(self, name):
        async def live(task_status):
            with trio.CancelScope() as scope:
                async with self.world.open_client(token=name) as client:
                    task_status.started((client, scope))
                    await trio.sleep_forever()

        async def begin():
            client, scope = await self.stage.nursery.start(live)
            self.people[len(self.people)] = client, scope

        self.stage.do(begin)

    def _ask(self, data, action, said):
        client, _ = self.people[data.draw(st.sampled_from(sorted(self.people)))]

        async def ask():
            with trio.move_on_after(1):
                await client.request(action, said)

        self.stage.do(ask)

    @precondition(lambda self: self.people)
    @rule(data=st.data(), action=st.sampled_from(["subscribe", "unsubscribe"]))
    def move(self, data, action):
        self._ask(data, action, {"topic": "town"})

    @precondition(lambda self: self.people)
    @rule(data=st.data(), active=st.booleans())
    def sit(self, data, active):
        self._ask(data, "set_active", {"active": active})

    @precondition(lambda self: self.people)
    @rule(data=st.data(), status=st.sampled_from(["dnd", "offline", None]), seconds=st.sampled_from([1.0, 15.0, None]))
    def say(self, data, status, seconds):
        self._ask(data, "set_status", {"status": status, "seconds": seconds})

    @precondition(lambda self: self.people)
    @rule(data=st.data(), what=st.sampled_from(["cut", "mend", "leave"]))
    def weather(self, data, what):
        number = data.draw(st.sampled_from(sorted(self.people)))
        client, scope = self.people[number]

        async def befall():
            if what == "leave":
                scope.cancel()
                del self.people[number]
            else:
                getattr(client.weather, what)()

        self.stage.do(befall)

    @rule(seconds=st.sampled_from([0.1, 1.0, 12.0]))
    def wait(self, seconds):
        self.stage.do(trio.sleep, seconds)

    @invariant()
    def what_was_told_is_what_is(self):
        if hasattr(self, "world"):
            self.stage.do(self._compare)

    async def _compare(self):
        presence = self.world.server.presence
        await passes()
        if self.watcher.users != presence.present("town"):
            await passes()  # somebody's time was over since the last look
        assert self.watcher.users == presence.present("town")
        assert set(self.watcher.users) <= {each.user for each in self.world.server.hub.connections(topic("town"))}


async def test_who_is_in_grace_is_nowhere_that_none_of_their_connections_hears(autojump_clock):
    server = server_with(options=HubOptions(window=20))
    async with open_world(server) as world, world.open_client(token="watcher") as client, trio.open_nursery() as tasks:
        watcher = Watcher(client)
        await watcher.watch("town")
        tasks.start_soon(watcher.listen)
        async with world.open_client(token="cat", topics=["town"]) as first, world.open_client(token="cat") as second:
            await passes()
            first.weather.cut()
            await trio.sleep(19)
            assert watcher.users == {"cat": "online"}
            second.weather.cut()
            await passes(2)
            assert server.presence.status("cat") == "online"  # in her grace
            assert watcher.users == server.presence.present("town") == {}
        tasks.cancel_scope.cancel()


async def test_who_is_in_grace_without_any_connection_is_where_they_were(autojump_clock):
    server = server_with(options=HubOptions(window=2))
    async with open_world(server) as world, world.open_client(token="watcher") as client, trio.open_nursery() as tasks:
        watcher = Watcher(client)
        await watcher.watch("town")
        tasks.start_soon(watcher.listen)
        async with world.open_client(token="cat", topics=["town"]) as cat:
            await passes()
            cat.weather.cut()
            await passes(5)
            assert not server.hub.connections(user("cat"))
            assert watcher.users == server.presence.present("town") == {"cat": "online"}
            assert (await client.request("watch", {"topic": "town"}))["users"] == {"cat": "online"}
            await passes(6)
            assert watcher.users == server.presence.present("town") == {}
        tasks.cancel_scope.cancel()


async def test_a_list_that_begins_between_two_looks_is_kept_by_what_is_told(autojump_clock, nursery):
    """Somebody came and went, and somebody's status was taken back, before either was ever told."""
    async with (
        open_world(server_with()) as world,
        world.open_client(token="ann") as ann,
        world.open_client(token="cat", topics=["town"]) as cat,
        world.open_client(token="bob") as bob,
    ):
        await passes()
        await bob.subscribe("town")
        await cat.request("set_status", {"status": "dnd"})
        watcher = Watcher(ann)
        await watcher.watch("town")
        assert watcher.users == {"cat": "online"}
        nursery.start_soon(watcher.listen)
        await cat.request("set_status", {"status": None})
        await bob.unsubscribe("town")
        await passes()
        assert watcher.users == world.server.presence.present("town") == {"cat": "online"}
        await cat.unsubscribe("town")
        late = Watcher(bob)
        await late.watch("town")  # she has left, and nobody was told yet
        assert late.users == {"cat": "online"}
        nursery.start_soon(late.listen)
        await passes()
        assert watcher.users == late.users == {}
        nursery.cancel_scope.cancel()


PresenceMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestPresence = PresenceMachine.TestCase


# -- typing


@pytest.fixture
async def room():
    """Three people in a room; ann and bob look at it."""
    server = server_with(None, typing=TypingOptions(every=2))
    async with (
        open_world(server) as world,
        world.open_client(token="ann", topics=["town"]) as ann,
        world.open_client(token="bob", topics=["town"]) as bob,
        world.open_client(token="cat", topics=["town"]) as cat,
    ):
        for client in (ann, bob):
            await client.request("set_open", {"topic": "town"})
        yield ann, bob, cat


async def heard(client) -> list[str]:
    """Return who types, as far as this client was told."""
    await wait_all_tasks_blocked()
    users = []
    with trio.move_on_after(0.1):
        while True:
            users.append((await client.receive()).data["user_id"])
    return users


async def test_typing_is_told_to_those_who_look_and_not_to_the_author(room, autojump_clock):
    ann, bob, cat = room
    await ann.request("user_typing", {"channel_id": "town"})
    assert [await heard(each) for each in room] == [[], ["ann"], []]
    await cat.request("user_typing", {"channel_id": "town", "parent_id": "thread"})
    assert [await heard(each) for each in room] == [["cat"], ["cat"], []]
    await bob.request("set_open", {"topic": "town", "open": False})
    await trio.sleep(3)
    await ann.request("user_typing", {"channel_id": "town"})
    assert [await heard(each) for each in room] == [[], [], []]


async def test_typing_is_told_now_and_then(room, autojump_clock):
    ann, bob, _ = room
    for _ in range(20):
        await ann.request("user_typing", {"channel_id": "town"})
        await trio.sleep(0.5)
    assert await heard(bob) == ["ann"] * 5


async def test_who_is_away_is_not_told_later(room, autojump_clock):
    ann, bob, _ = room
    bob.weather.cut()
    await wait_all_tasks_blocked()
    await ann.request("user_typing", {"channel_id": "town"})
    bob.weather.mend()
    await bob.request("ping")
    assert await heard(bob) == []


async def test_who_is_not_in_a_topic_does_not_type_there(room, autojump_clock):
    ann, _, _ = room
    with pytest.raises(RequestFailed, match="403"):
        await ann.request("user_typing", {"channel_id": "sea"})
    with pytest.raises(RequestFailed, match="404"):
        await ann.request("presence", {"topic": "town"})  # that is another thing, and not switched on


def test_names_on_the_wire():
    assert json.dumps({"status": Status.DND}) == '{"status": "dnd"}'
