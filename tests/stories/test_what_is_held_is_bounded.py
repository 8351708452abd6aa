"""What a hub holds is counted to the byte, and bounded: per connection, in all, and in time."""

import json
from functools import partial

import pytest
import trio

from trio_hub import Editor, Event, Gap, HubOptions, OutboxOptions, Reach, Refused, Session, everyone, topic, user
from trio_hub.testing import open_world
from trio_hub.wire.bodies import Body

KIB = 1024


async def the_gap(client):
    try:
        async for _ in client:
            pass
    except Gap as gap:
        return gap.reason


async def test_every_byte_is_counted_for_each_and_in_all(autojump_clock):
    async with open_world() as world, world.open_client() as ann, world.open_client() as bob:
        hub = world.server.hub
        size = Body(Event("e", "x" * 1000, {})).size
        ann.weather.cut()
        await trio.sleep(5)  # and what was said for a beginning is acknowledged
        before = hub.statistics()
        for _ in range(10):
            await world.server.publish(Event("e", "x" * 1000), to=everyone())
        await trio.testing.wait_all_tasks_blocked()
        owed, kept = (connection.statistics().outbox for connection in hub.connections())
        assert (owed.owed_count, owed.owed_size) == (10, 10 * size)
        assert (kept.owed_count, kept.kept_count) == (0, 10)
        held = hub.statistics()
        assert held.owed_size == owed.owed_size
        assert held.kept_size - before.kept_size == 10 * size
        assert held.held_size - before.held_size == 10 * size, "shared, so counted once"
        for _ in range(10):
            await bob.receive()
        bob.settle()
        ann.weather.mend()
        for _ in range(10):
            await ann.receive()
        ann.settle()
        await trio.sleep(60)
        after = hub.statistics()
        assert (after.owed_size, after.kept_size, after.held_size) == (0, 0, 0)


async def test_over_budget_the_absent_go_first_and_of_them_who_holds_most(autojump_clock):
    options = HubOptions(budget=500 * KIB, outbox=OutboxOptions(size=500 * KIB, kept_size=100 * KIB))
    async with (
        open_world(options=options) as world,
        world.open_client(topics=["much"]) as much,
        world.open_client(topics=["little"]) as little,
        world.open_client(topics=["here"]) as here,
    ):
        for client in (much, little):
            client.weather.cut()
        here.weather.stall()
        await trio.sleep(1)

        async def publish(name, kib):
            for n in range(kib // 10):
                await world.server.publish(Event("e", [n, "x" * 10 * KIB]), to=topic(name))
            await trio.testing.wait_all_tasks_blocked()

        await publish("here", 200)
        await publish("little", 100)
        await publish("much", 150)
        assert world.server.hub.statistics().relieved == 0
        await publish("here", 100)
        statistics = world.server.hub.statistics()
        assert statistics.relieved == 1
        assert statistics.held_size <= 500 * KIB
        for client in (much, little, here):
            client.weather.mend()
        assert await the_gap(much) == "overflow"
        assert (await little.receive()).data[0] == 0
        assert (await here.receive()).data[0] == 0


async def test_over_budget_those_who_are_here_are_told_in_band(autojump_clock):
    options = HubOptions(budget=300 * KIB, outbox=OutboxOptions(size=300 * KIB, kept_size=100 * KIB))
    async with open_world(options=options) as world, world.open_client() as slow:
        slow.weather.stall()
        for n in range(50):
            await world.server.publish(Event("e", [n, "x" * 10 * KIB]), to=everyone())
            await trio.testing.wait_all_tasks_blocked()
            assert world.server.hub.statistics().held_size <= 310 * KIB
        slow.weather.mend()
        assert await the_gap(slow) == "overflow"
        assert slow.weather.dials == 1


async def test_a_peer_that_is_behind_for_too_long_is_told_of_a_gap(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(kept_count=10, age=100))
    async with open_world(options=options) as world, world.open_link(subprotocols=["trio-hub.v1.json"]) as link:
        await link.receive()
        for n in range(20):
            await world.server.publish(Event("e", n), to=everyone())
        heard = []
        async for message in link:
            if '"gap"' in message:
                break
            heard += [message] if message[0] == "{" else json.loads(message)
        assert len(heard) == 9, "nothing was acknowledged, the hello neither, so no more was written"
        assert '"reason":"overflow"' in message
        assert 100 <= trio.current_time() <= 130


async def test_a_peer_that_never_acknowledges_loses_its_link_and_resumes(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(acknowledge_within=80))
    async with open_world(options=options) as world, world.open_link(subprotocols=["trio-hub.v1.json"]) as link:
        await link.receive()
        await world.server.publish(Event("e"), to=everyone())
        begun = trio.current_time()
        async for _ in link:
            pass
        assert link.closed.code == 4102
        assert "acknowledged" in link.closed.reason
        assert 80 <= trio.current_time() - begun <= 100


async def test_a_program_that_only_asks_keeps_its_link(autojump_clock):
    """Also after a gap, of which it does not care to hear: a hello alone need not be acknowledged."""
    options = HubOptions(outbox=OutboxOptions(count=20, kept_count=5, acknowledge_within=80))
    async with open_world(options=options) as world, world.open_client() as client:
        client.weather.stall()
        for n in range(30):
            await world.server.publish(Event("e", n), to=everyone())
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = world.server.hub.connections()
        world.server.hub.roster.overflow(connection)  # so that nothing comes behind the hello
        client.weather.mend()
        for _ in range(20):
            await trio.sleep(60)
            await client.request("ping")
        assert client.weather.dials == 1


async def test_a_program_that_is_slow_and_goes_on_keeps_its_link(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(acknowledge_within=80))
    async with open_world(options=options) as world, world.open_client() as client:
        for n in range(20):
            await world.server.publish(Event("e", n), to=everyone())
        for n in range(20):
            assert (await client.receive()).data == n
            await trio.sleep(60)
        assert client.weather.dials == 1
        await trio.sleep(1000)  # nothing is owed, nothing is to be acknowledged but the last
        client.settle()
        await trio.sleep(1000)


def test_the_window_is_within_the_age():
    with pytest.raises(ValueError, match="age"):
        HubOptions(window=700)


async def test_whoever_is_gone_cannot_be_subscribed_and_holds_nothing(autojump_clock):
    """As by a plugin that asks a database first."""

    class Rooms:
        async def connected(self, connection):
            await trio.sleep(5)
            subscribed.append(world.server.hub.roster.subscribe(connection, "news"))

    subscribed = []
    async with open_world(options=HubOptions(window=2), plugins=[Rooms()]) as world:
        async with world.open_client():
            pass
        await trio.sleep(20)
        for _ in range(100):
            await world.server.publish(Event("e", "x" * 1000), to=topic("news"))
        await trio.sleep(60)
        statistics = world.server.hub.statistics()
        assert subscribed == [False]
        assert (statistics.index.topics, statistics.held_size) == (0, 0)


async def test_what_publishers_wait_with_is_not_held_against_anybody(autojump_clock):
    options = HubOptions(budget=300 * KIB, inbox=4, batch=4, outbox=OutboxOptions(size=300 * KIB, kept_size=100 * KIB))
    async with open_world(options=options) as world, world.open_client() as one, world.open_client() as other:
        async with trio.open_nursery() as publishers:
            for _ in range(100):
                publish = partial(world.server.publish, Event("e", "x" * 10 * KIB), to=user("nobody"))
                publishers.start_soon(publish)
        statistics = world.server.hub.statistics()
        assert (statistics.gaps, statistics.relieved) == (0, 0)
        await world.server.publish(Event("end"), to=everyone())
        for client in (one, other):
            assert (await client.receive()).name == "end"


async def test_what_an_editor_makes_is_bounded_too(autojump_clock):
    """It costs that recipient that event, as any failure of an editor does; and nobody waits for it."""
    options = HubOptions(outbox=OutboxOptions(size=200_000, kept_size=100_000))
    larger = Editor(lambda connection: None, lambda event, key: Event("e", "x" * 300_000))
    async with open_world(options=options) as world, world.open_client() as client:
        published = await world.server.publish(
            Event("e"), to=everyone(), editors=[larger], wait_for=Reach.DELIVERED, within=10
        )
        assert published.offered == 0
        await world.server.publish(Event("end"), to=everyone())
        assert (await client.receive()).name == "end"
        assert world.server.hub.statistics().editor_failures == 1


async def test_no_more_are_let_in_than_there_are_places(autojump_clock):
    """However many ask at once, and however long it takes to say who they are."""

    async def authenticate(credentials):
        await trio.sleep(1)
        return Session("ann")

    options = HubOptions(connections=2)
    statuses = []
    async with open_world(options=options, authenticate=authenticate) as world, trio.open_nursery() as tasks:

        async def come():
            try:
                async with world.open_link() as link:
                    async for _ in link:
                        pass
            except Refused as refused:
                statuses.append(refused.status)

        for _ in range(5):
            tasks.start_soon(come)
        await trio.sleep(3)
        assert world.server.hub.statistics().index.connections == 2
        assert statuses == [503] * 3
        tasks.cancel_scope.cancel()


async def test_who_asks_for_anothers_connection_gets_no_place_by_that(autojump_clock):
    async def authenticate(credentials):
        return Session(credentials.token)

    options = HubOptions(connections=1)
    async with open_world(options=options, authenticate=authenticate) as world, world.open_client(token="ann"):
        (of_ann,) = world.server.hub.connections()
        resource = f"/ws?connection_id={of_ann.id}&sequence_number=1"
        async with world.open_link(resource, headers={"Authorization": "Bearer bob"}) as link:
            assert [message async for message in link] == []
            assert (link.closed.code, link.closed.reason) == (1013, '{"retry_after": 5}')
        assert world.server.hub.connections() == [of_ann]


@pytest.mark.parametrize(
    "options", [{"budget": 100}, {"outbox": OutboxOptions(size=2 * 1024**3)}], ids=["a small budget", "a large outbox"]
)
def test_one_connection_is_owed_no_more_than_all(options):
    with pytest.raises(ValueError, match="budget"):
        HubOptions(**options)
