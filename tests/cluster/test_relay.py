"""Nodes that share a backplane tell each other's people what they tell their own."""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
import trio

from tests.cluster.several import Road, open_cluster, open_nodes
from trio_hub.cluster.backplane import Arrival, Interrupted, Membership, Outbound
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.delivery import volatile
from trio_hub.errors import Gap, Misuse
from trio_hub.hub.carrying import Carry
from trio_hub.hub.editing import Editor
from trio_hub.hub.editors import Edit, Editors
from trio_hub.messages import Event
from trio_hub.options import ClusterOptions
from trio_hub.peer.client import Client
from trio_hub.targets import connection, everyone, topic, user, users
from trio_hub.wire import cbor


async def test_an_event_reaches_people_at_other_nodes(autojump_clock):
    async with (
        open_nodes("a", "b") as (_, (a, b)),
        a.open_client(token="ann", topics=["town"]) as ann,
        b.open_client(token="bob", topics=["town"]) as bob,
    ):
        await a.server.publish(Event("news", {"n": 1}), to=topic("town"))
        assert (await anext(ann)).data == {"n": 1}
        event = await anext(bob)
        assert (event.name, event.data, event.broadcast) == ("news", {"n": 1}, {"topic": "town"})


@pytest.mark.parametrize(
    "target",
    [
        everyone(),
        user("bob"),
        users("ann", "bob"),
        topic("town"),
        topic("town") | user("bob"),
        topic("town") & user("bob"),
        topic("town") - user("ann"),
        everyone() - user("ann"),
    ],
)
async def test_every_target_is_resolved_where_people_are(target, autojump_clock):
    nodes = open_nodes("a", "b")
    async with (
        nodes as (_, (a, b)),
        b.open_client(token="bob", topics=["town"]) as bob,
        b.open_client(token="eve") as eve,
    ):
        await a.server.publish(Event("first"), to=target)
        await a.server.publish(Event("second"), to=user("bob"))
        await a.server.publish(Event("third"), to=user("eve"))
        assert [(await anext(bob)).name for _ in range(2)] == ["first", "second"]
        assert (await anext(eve)).name == ("first" if target.is_of("everyone") else "third")


async def test_a_connection_is_found_at_its_node(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)), b.open_client(token="bob") as bob:
        await a.server.publish(Event("whisper"), to=connection(b.server.hub.connections()[0].id))
        assert (await anext(bob)).name == "whisper"


async def test_only_nodes_that_have_somebody_hear_it(autojump_clock):
    async with open_nodes("a", "b", "c") as (_, (a, b, c)), b.open_client(token="bob", topics=["town"]) as bob:
        for number in range(10):
            await a.server.publish(Event("news", {"n": number}), to=topic("town"))
        for number in range(10):
            assert (await anext(bob)).data == {"n": number}
        assert b.server.relay.statistics().heard == 10
        assert c.server.relay.statistics().heard == 0


async def test_what_is_said_here_stays_here(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)), b.open_client(token="bob") as bob:
        await a.server.publish(Event("here"), to=everyone(), carry=Carry.HERE)
        await a.server.publish(Event("there"), to=everyone())
        assert (await anext(bob)).name == "there"


async def test_who_subscribes_has_what_is_said_elsewhere_after_the_reply(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)), b.open_client(token="bob") as bob:
        await bob.subscribe("town")
        await a.server.publish(Event("news"), to=topic("town"))
        assert (await anext(bob)).name == "news"


async def test_an_edit_crosses_and_a_function_does_not(autojump_clock):
    editors = Editors()

    @editors.editor("loud", key=lambda connection, arguments: connection.user)
    def loud(event: Event, who: str, arguments: dict[str, int]) -> Event | None:
        return attrs.evolve(event, data={"to": who, **arguments})

    async with open_nodes("a", "b", editors=editors) as (_, (a, b)), b.open_client(token="bob") as bob:
        await a.server.publish(Event("hey"), to=everyone(), editors=[Edit("loud", {"times": 3})])
        assert (await anext(bob)).data == {"to": "bob", "times": 3}
        with pytest.raises(Misuse, match="stays here"):
            await a.server.publish(Event("hey"), to=everyone(), editors=[Editor(lambda c: 0, lambda e, k: e)])


async def test_a_node_that_is_cut_off_serves_its_own_and_is_told_of_what_it_missed(autojump_clock):
    async with (
        open_nodes("a", "b") as (backplane, (a, b)),
        a.open_client(token="ann", topics=["town"]) as ann,
        b.open_client(token="bob", topics=["town"]) as bob,
    ):
        backplane.cut("b")
        await b.server.publish(Event("local"), to=topic("town"))
        await a.server.publish(Event("missed"), to=topic("town"))
        assert (await anext(bob)).name == "local"
        assert (await anext(ann)).name == "missed"
        await trio.sleep(5)
        backplane.mend("b")
        for client in (ann, bob):
            with pytest.raises(Gap), trio.fail_after(2):
                await anext(client)
        await a.server.publish(Event("after"), to=topic("town"))
        assert [(await anext(client)).name for client in (ann, bob)] == ["after", "after"]


async def test_nobody_is_told_of_a_gap_where_nothing_was_missed(autojump_clock):
    async with open_nodes("a", "b") as (backplane, (a, b)), b.open_client(token="bob", topics=["town"]) as bob:
        await a.server.publish(Event("before"), to=topic("town"))
        assert (await anext(bob)).name == "before"
        backplane.cut("b")
        await a.server.publish(Event("elsewhere"), to=topic("sea"))
        await trio.sleep(5)
        backplane.mend("b")
        await trio.sleep(5)
        await a.server.publish(Event("after"), to=topic("town"))
        assert (await anext(bob)).name == "after"
        assert b.server.relay.statistics().holes == 0


async def test_what_is_carried_reliably_survives_a_cut(autojump_clock):
    async with open_nodes("a", "b") as (backplane, (a, b)), b.open_client(token="bob", topics=["town"]) as bob:
        backplane.cut("b")
        await a.server.publish(Event("important"), to=topic("town"), carry=Carry.RELIABLY)
        backplane.mend("b")
        assert (await anext(bob)).name == "important"
        backplane.cut("a")
        published = await a.server.publish(Event("late"), to=topic("town"), carry=Carry.RELIABLY, within=1)
        assert published.carried is False
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def publish() -> None:
                published = await a.server.publish(Event("waits"), to=topic("town"), carry=Carry.RELIABLY)
                assert published.carried

            await trio.sleep(1)
            backplane.mend("a")
            assert (await anext(bob)).name == "waits"


async def test_nobody_without_the_key_is_believed(autojump_clock):
    nodes = open_nodes("a", "b", cluster=ClusterOptions(key=b"k" * 32))
    async with nodes as (backplane, (a, b)), open_nodes("evil", backplane=backplane) as (_, (evil,)):
        async with b.open_client(token="bob") as bob:
            await evil.server.publish(Event("lie"), to=everyone())
            await evil.server.publish(Event("lie"), to=everyone(), carry=Carry.RELIABLY)
            await a.server.publish(Event("truth"), to=everyone())
            assert (await anext(bob)).name == "truth"
        assert b.server.relay.statistics().unreadable >= 2


async def test_a_volatile_event_is_volatile_elsewhere(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)), b.open_client(token="bob") as bob:
        await a.server.publish(Event("typing"), to=everyone(), delivery=volatile())
        assert (await anext(bob)).name == "typing"


async def test_what_crosses_is_counted_for_prometheus(autojump_clock):
    async with open_nodes("a", "b", metrics=True) as (_, (a, b)), b.open_client(token="bob") as bob:
        await a.server.publish(Event("news"), to=everyone())
        await anext(bob)
        async with b.open_scripted_client() as client:
            await client.say_raw(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
            answer = b""
            while data := await client.stream.receive_some(65536):
                answer += data
        assert b"\ntrio_hub_cluster_heard_total 1.0\n" in answer
        assert b"\ntrio_hub_cluster_nodes 1.0\n" in answer


GARBAGE = [
    b"",
    b"\xff\xff",
    cbor.dumps(None),
    cbor.dumps([]),
    cbor.dumps([1, 2, 3]),
    cbor.dumps([[1, 0, False, b"?"]]),
    cbor.dumps([[1, 0, False, cbor.dumps(["x", "no bytes", ["everyone", ""], [False, None, None, None], []])]]),
    cbor.dumps([["x", "y", "z", "w"]]),
    cbor.dumps(["beat", 0, 5, {"t:town": "five"}, True, 0, {"age": "old"}]),
    cbor.dumps(["beat", 0, 5, {"t:town": "five"}, True, 0, {"connections": "many"}]),
    cbor.dumps(["ask", 10**30, 1]),
    cbor.dumps(["question", 1, "find", [1, 2, 3]]),
    cbor.dumps(["question", 2, "give", ["a", "b", "c", "d"]]),
    cbor.dumps(["answered", 1, 0, 1, b"?"]),
    cbor.dumps(["word", "user", 7]),
    cbor.dumps(["user", 7, 7]),
    cbor.dumps(["revoke", "one", ["everyone", ""]]),
    cbor.dumps(["revoke", 1, ["nobody", "knows"]]),
    cbor.dumps(["beat", 0, 0, {}, True, 0, {"connections": math.inf}]),
    cbor.dumps(["beat", 0, 0, {}, True, 0, {"connections": [], "age": 10**400}]),
    cbor.dumps(["beat", 10**30, 10**31, {"t:town": "many", 7: None}, True, 0, {}]),
    cbor.dumps(["question", 1, "give", [["a"], {}, None]]),
    cbor.dumps([[1, 0, False, "news", b"{", ["topic", "town"], [False, None, math.nan, -1], b"\x80"]]),
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_ends_nothing(garbage, autojump_clock):
    async with open_nodes("a", "b") as (backplane, (a, b)), b.open_client(token="bob", topics=["town"]) as bob:
        async with backplane.join("evil") as evil:
            for channel in ("nodes", f"n:{b.server.relay.node}", "*", "t:town", "u:bob"):
                await evil.send([Outbound(channel, garbage)])
            for channel in ("reliably", "changes"):
                await evil.send([Outbound(channel, garbage, reliable=True)])
            await trio.sleep(5)
        await a.server.publish(Event("news"), to=topic("town"))
        with suppress(Gap):
            assert (await anext(bob)).name == "news"
            return
        await a.server.publish(Event("news"), to=topic("town"))
        assert (await anext(bob)).name == "news"


async def test_what_was_acknowledged_is_heard_elsewhere_whatever_becomes_of_its_node(autojump_clock):
    async with open_cluster(backplane=SlowToTake()) as cluster:
        a, b = await cluster.start("a"), await cluster.start("b")
        async with b.open_client(token="ann", topics=["town"]) as ann, a.open_client(token="bob") as bob:
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(bob.publish, "town", "news", {"n": number})
            cluster.kill(a)
            assert {(await anext(ann)).data["n"] for _ in range(3)} == {0, 1, 2}


@pytest.mark.parametrize("spelling", ["json", "cbor"])
async def test_an_event_of_another_node_that_is_no_json_ends_nothing(spelling, autojump_clock):
    headers = {"Authorization": "Bearer bob"}
    async with (
        open_nodes("a", "b") as (backplane, (_, b)),
        backplane.join("evil") as evil,
        b.open_link("/ws", subprotocols=[f"trio-hub.v1.{spelling}"], headers=headers),
    ):
        await trio.sleep(1)
        for n in range(1, 10):
            await evil.send([Outbound("*", cbor.dumps([[n, n - 1, False, "x", b'{"event":']]))])
            await trio.sleep(0.1)
        assert b.server.hub.statistics().restarts == 0
        assert b.server.relay.statistics().unreadable == 9


async def test_an_edit_that_another_node_does_not_know_is_a_gap_there(autojump_clock):
    editors = Editors()

    @editors.editor("new", key=lambda connection, arguments: None)
    def edit(event: Event, key: None, arguments: dict[str, int]) -> Event:
        return event

    async with open_cluster(editors=editors) as cluster:
        a = await cluster.start("a")
        cluster.arguments["editors"] = Editors()
        b = await cluster.start("b")
        async with b.open_client(token="bob", topics=["town"]) as bob:
            await a.server.publish(Event("one"), to=topic("town"), editors=[Edit("new", {})])
            with pytest.raises(Gap):
                await anext(bob)


@pytest.mark.parametrize("argument", [object(), {1, 2}], ids=["anything", "set"])
async def test_arguments_of_an_edit_that_cannot_cross_are_refused_with_nothing_published(argument, autojump_clock):
    editors = Editors()

    @editors.editor("known", key=lambda connection, arguments: None)
    def edit(event: Event, key: None, arguments: dict[str, Any]) -> Event:
        return event

    async with open_nodes("a", "b", editors=editors) as (_, (a, _)), a.open_client(token="ann", topics=["town"]) as ann:
        with pytest.raises(Misuse, match="cannot cross"):
            await a.server.publish(Event("one"), to=topic("town"), editors=[Edit("known", {"x": argument})])
        await a.server.publish(Event("two"), to=topic("town"))
        assert (await anext(ann)).name == "two"


async def test_a_node_whose_part_in_the_cluster_fails_takes_part_anew(autojump_clock, caplog):
    backplane = FailsOnce()
    async with (
        open_nodes("a", "b", backplane=backplane) as (_, (a, b)),
        b.open_client(token="ann", topics=["town"]) as ann,
        a.open_client(token="bob") as bob,
    ):
        await ann.connected()
        backplane.fails = True
        await bob.publish("town", "lost")  # and whoever says something then is not kept waiting
        await trio.sleep(5)
        gaps = a.server.hub.statistics().gaps + b.server.hub.statistics().gaps
        assert gaps
        await bob.publish("town", "heard")
        assert (await next_past_gaps(ann)).name == "heard"
        await b.server.publish(Event("said"), to=user("bob"))
        assert (await next_past_gaps(bob)).name == "said"
        assert a.server.hub.statistics().gaps + b.server.hub.statistics().gaps == gaps
    assert caplog.text.count("begins anew") == 1


async def next_past_gaps(client: Client) -> Event:
    while True:
        with suppress(Gap):
            return await client.receive()


class FailsOnce(MemoryBackplane):
    """Has whoever receives next fail, when it is told to."""

    fails = False

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        async with super().join(node) as membership:
            receive = membership.receive

            async def receive_or_fail() -> list[Arrival | Interrupted]:
                items = await receive()
                if self.fails:
                    self.fails = False
                    raise RuntimeError("a fault of this backplane")
                return items

            membership.receive = receive_or_fail  # type: ignore[method-assign]
            yield membership


class SlowToTake(MemoryBackplane):
    """Takes a second to have what is sent."""

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        async with super().join(node) as membership:
            send = membership.send

            async def send_slowly(messages: Sequence[Outbound]) -> None:
                await trio.sleep(1)
                await send(messages)

            membership.send = send_slowly  # type: ignore[method-assign]
            yield membership


async def test_a_node_that_is_restarted_under_its_name_is_heard_at_once(autojump_clock):
    async with open_cluster() as cluster:
        a, b = await cluster.start("a"), await cluster.start("b")
        async with b.open_client(token="ann", topics=["town"]) as ann:
            for _ in range(2):
                for number in range(5):
                    await a.server.publish(Event("news", {"n": number}), to=topic("town"))
                    await a.server.publish(Event("more", {"n": number}), to=topic("town"), carry=Carry.RELIABLY)
                heard = [await anext(ann) for _ in range(10)]
                for name in ("news", "more"):
                    assert [event.data["n"] for event in heard if event.name == name] == list(range(5))
                cluster.kill(a)
                a = await cluster.start("a")


async def test_who_was_at_a_restarted_node_goes_on_elsewhere(autojump_clock):
    async with open_cluster() as cluster:
        a, b, c = [await cluster.start(name) for name in "abc"]
        await c.server.publish(Event("early"), to=topic("town"))
        await trio.sleep(1)
        cluster.kill(c)
        cluster.kill(a)
        a = await cluster.start("a")  # it has never heard of the third
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road) as ann:
            await ann.connected()
            road.cut()
            road.to = b
            road.mend()
            await a.server.publish(Event("late"), to=topic("town"))
            assert (await anext(ann)).name == "late"
        assert b.server.hub.statistics().resumed == 1
