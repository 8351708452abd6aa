"""Whatever raises or is cancelled ends nothing but itself; the wire stays sound, and the others notice nothing."""

import logging

import pytest
import trio

from trio_hub import (
    CloseReason,
    Editor,
    Event,
    HubOptions,
    Misuse,
    OutboxOptions,
    Reach,
    Refused,
    RequestFailed,
    Router,
    Server,
    Target,
    anybody,
    everyone,
    must,
    topic,
)
from trio_hub.testing import open_hub_and_client, open_world
from trio_hub.wire.codecs import V1_JSON


async def test_a_handler_that_raises_ends_nothing_but_its_request(autojump_clock, caplog):
    router = Router()

    @router.action("now")
    def now(connection, data: dict):
        raise ZeroDivisionError("secret detail")

    @router.action("later")
    async def later(connection, data: dict):
        await trio.sleep(1)
        raise ZeroDivisionError("secret detail")

    async with open_hub_and_client(Server(router)) as (_hub, client):
        for action in ("now", "later"):
            with pytest.raises(RequestFailed) as caught:
                await client.request(action)
            assert caught.value.status == 500
            assert "secret" not in caught.value.message
            (record,) = [each for each in caplog.records if each.exc_info]
            assert record.args[1] in caught.value.message  # the id to look for
            caplog.clear()
        assert (await client.request("ping"))["text"] == "pong"
        assert client.weather.dials == 1


async def test_an_editor_that_raises_costs_one_recipient_one_event(autojump_clock, caplog):
    async with open_world() as world, world.open_client() as ann, world.open_client() as bob:
        unlucky = world.server.hub.connections()[0]

        def key(connection):
            if connection is unlucky:
                raise ZeroDivisionError
            return

        editor = Editor(key=key, edit=lambda event, key: Event(event.name, {"edited": True}))
        published = await world.server.publish(Event("e", {}), to=everyone(), editors=[editor], wait_for=Reach.OFFERED)
        assert published.offered == 1
        assert (await bob.receive()).data == {"edited": True}
        await world.server.publish(Event("after", {}), to=everyone())
        assert (await ann.receive()).name == "after"
        assert world.server.hub.statistics().editor_failures == 1
        assert world.server.hub.statistics().restarts == 0
        assert "editor failed" in caplog.text


async def test_a_window_that_closes_while_an_event_is_offered_fails_nobody(autojump_clock):
    class Watchful:
        async def event(self, connection, event):
            pass

    def time_passes(connection):
        if connection is slow:
            autojump_clock.jump(20)

    server = Server(plugins=[Watchful()], options=HubOptions(window=10, yield_every=1))
    async with open_world(server) as world, world.open_client() as ann, world.open_client() as bob:
        slow, lost = server.hub.connections()
        bob.weather.cut()
        await trio.testing.wait_all_tasks_blocked()
        editor = Editor(key=time_passes, edit=lambda event, key: event)
        published = await server.publish(Event("e"), to=everyone(), editors=[editor], wait_for=Reach.OFFERED)
        assert lost.has_ended
        assert published.offered in (1, 2), "who of them comes first is not said"
        assert (await ann.receive()).name == "e"
        assert server.hub.statistics().restarts == 0


async def test_an_editor_whose_edit_raises_is_a_veto_for_its_key(autojump_clock):
    async with open_world() as world, world.open_client() as ann:
        broken = Editor(key=lambda connection: "k", edit=lambda event, key: 1 / 0)
        unencodable = Editor(key=lambda connection: "k", edit=lambda event, key: Event("e", object()))
        for editor in (broken, unencodable):
            await world.server.publish(Event("e", {}), to=everyone(), editors=[editor])
        await world.server.publish(Event("after", {}), to=everyone())
        assert (await ann.receive()).name == "after"


async def test_a_client_that_says_nonsense_ends_alone(autojump_clock):
    async with open_world() as world, world.open_client(topics=["town"]) as ann:
        for nonsense in ("{", "[]", '"x"', '{"seq": 0, "action": "ping"}', b"\x00", '{"seq": 1.5, "action": "ping"}'):
            async with world.open_link() as link:
                await link.receive()  # hello
                await link.send(nonsense)
                async for _ in link:
                    pass
                assert link.closed.code in (1003, 1007)
                assert link.closed.reason
        await world.server.publish(Event("e", {"n": 1}), to=topic("town"))
        assert (await ann.receive()).data == {"n": 1}
        assert ann.weather.dials == 1


async def test_a_cancelled_publish_took_nothing_or_all(autojump_clock):
    """The inbox is full, so publish waits; cancelled then, the event is not taken."""
    router = Router()
    server = Server(router, options=HubOptions(inbox=1))
    published, cancelled = [], []
    async with open_world(server) as world, world.open_client() as client:
        for n in range(200):
            with trio.CancelScope() as scope:
                if n % 3 == 0:
                    scope.cancel()
                await server.publish(Event("e", {"n": n}), to=everyone())
            (cancelled if scope.cancelled_caught else published).append(n)
        assert cancelled
        assert [(await client.receive()).data["n"] for _ in published] == published
        await server.publish(Event("last", {}), to=everyone())
        assert (await client.receive()).name == "last"


async def test_a_cancelled_wait_for_room_in_the_inbox_takes_nothing(autojump_clock):
    server = Server(options=HubOptions(inbox=1))  # nobody empties it: its hub does not run
    await server.publish(Event("first"), to=everyone())
    with trio.move_on_after(1) as scope:
        await server.publish(Event("second"), to=everyone())
    assert scope.cancelled_caught
    assert server.hub.statistics().inbox == 1
    with pytest.raises(trio.WouldBlock):
        server.hub.publish_nowait(Event("third"), to=everyone())


async def test_a_cancelled_request_is_cancelled_at_the_server_and_the_wire_stays_sound(autojump_clock):
    router, ended = Router(), []

    @router.action("slow")
    async def slow(connection, data: dict):
        try:
            await trio.sleep(1000)
        except trio.Cancelled:
            ended.append(trio.current_time())
            raise

    async with open_hub_and_client(Server(router, may_publish=anybody), topics=["town"]) as (_hub, client):
        for patience in (0, 0.001, 0.5):
            with trio.move_on_after(patience) as scope:
                await client.request("slow")
            assert scope.cancelled_caught
        await client.publish("town", "e", {"n": 1})
        assert (await client.receive()).data == {"n": 1}
        await trio.sleep(1)
        assert len(ended) == 2  # the first was never asked
        assert client.weather.dials == 1


async def test_what_cannot_be_encoded_is_told_to_the_publisher_alone(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        for event in (Event("e", object()), Event("e", float), Event("e", {1, object()}), Event("e", "\ud800")):
            with pytest.raises(Misuse):
                await hub.publish(event, to=everyone())
        for reserved in ("", "hello"):
            with pytest.raises(Misuse):
                await hub.publish(Event(reserved), to=everyone())
        await hub.publish(Event("e", {"n": 1}), to=everyone())
        assert (await client.receive()).data == {"n": 1}


async def test_the_hub_is_restarted_with_everybody_in_it(autojump_clock, caplog):
    async with open_world() as world, world.open_client() as client:
        hub = world.server.hub
        (connection,) = hub.connections()
        honest = connection.outbox

        class Broken:
            def offer_all(self, bodies, size):
                raise ZeroDivisionError

        connection.outbox = Broken()
        await hub.publish(Event("lost"), to=everyone(), wait_for=Reach.OFFERED)
        connection.outbox = honest
        await hub.publish(Event("e", {"n": 1}), to=everyone())
        assert (await client.receive()).data == {"n": 1}
        assert hub.statistics().restarts == 1
        assert client.weather.dials == 1
        assert "goes on with its roster" in caplog.text


async def test_a_hub_that_fails_again_and_again_ends_with_the_error(autojump_clock, caplog):
    caplog.set_level(logging.CRITICAL)

    async def fail_often():
        async with open_world() as world, world.open_client():
            (connection,) = world.server.hub.connections()
            connection.outbox = None
            for _ in range(20):
                await world.server.publish(Event("e"), to=everyone())
                await trio.sleep(0.1)

    with pytest.raises(AttributeError):
        await fail_often()


async def test_nothing_is_left_behind_by_those_who_left(autojump_clock):
    async with open_world(options=HubOptions(window=1)) as world:
        before = trio.lowlevel.current_statistics().tasks_living
        for n in range(20):
            async with world.open_client(topics=["town", f"own{n}"]):
                pass
        async with world.open_link() as link:
            await link.receive()
            await link.send(V1_JSON.encode(V1_JSON.from_client('{"seq": 1, "action": "ping"}')[0]))
        await trio.sleep(10)
        statistics = world.server.hub.statistics().index
        assert (statistics.connections, statistics.users, statistics.topics) == (0, 0, 0)
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_an_editor_cannot_say_what_only_the_hub_says(autojump_clock):
    async with open_world() as world, world.open_client() as ann:
        forged = Editor(key=lambda connection: None, edit=lambda event, key: Event("hello", {"connection_id": "x"}))
        await world.server.publish(Event("e"), to=everyone(), editors=[forged])
        await world.server.publish(Event("after"), to=everyone())
        assert (await ann.receive()).name == "after"


async def test_an_event_that_no_outbox_can_hold_is_its_publisher_s_misuse(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(size=20_000, kept_size=5000))
    async with open_hub_and_client(options=options) as (hub, client):
        with pytest.raises(Misuse, match="20000"):
            await hub.publish(Event("e", "x" * 15_000), to=everyone())
        with pytest.raises(Misuse, match="planet"):
            await hub.publish(Event("e"), to=Target("planet", "mars"))
        await hub.publish(Event("e", {"n": 1}), to=everyone())
        assert (await client.receive()).data == {"n": 1}
        assert hub.hub.statistics().gaps == 0


async def test_a_rule_that_raises_is_answered_and_logged(autojump_clock, caplog):
    def may_subscribe(session, name):
        raise ZeroDivisionError

    async with open_world(Server(may_subscribe=may_subscribe)) as world, world.open_client() as client:
        with pytest.raises(Refused) as caught:
            async with world.open_link("/ws?topics=town"):
                pass
        assert caught.value.status == 500
        with pytest.raises(RequestFailed) as failed:
            await client.subscribe("town")
        assert failed.value.status == 500
        assert "may_subscribe" in caplog.text


async def test_a_close_code_that_cannot_be_sent_decides_nothing(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        (connection,) = hub.hub.connections()
        with pytest.raises(Misuse):
            connection.end(CloseReason(999))
        await hub.publish(Event("e", {"n": 1}), to=everyone())
        assert (await client.receive()).data == {"n": 1}


async def test_many_events_are_published_whole_or_not_at_all(autojump_clock):
    async with open_hub_and_client(options=HubOptions(inbox=10)) as (hub, client):
        events = [(Event("e", {"n": n}), everyone(), must(), ()) for n in range(100)]
        with pytest.raises(Misuse):
            await hub.hub.publish_all([*events, (Event("hello"), everyone(), must(), ())])
        published = await hub.hub.publish_all(events)
        assert [each.offered for each in published] == [1] * 100
        assert [(await client.receive()).data["n"] for _ in range(100)] == list(range(100))
