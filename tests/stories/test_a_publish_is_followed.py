"""`publish` can be waited for: until it is offered, written or delivered; and it says how far it got."""

import json

import pytest
import trio

from trio_hub import (
    Closed,
    Event,
    HubOptions,
    Misuse,
    OutboxOptions,
    Published,
    Reach,
    Server,
    connection,
    everyone,
    expires,
    latest,
    topic,
    user,
    volatile,
)
from trio_hub.testing import Cable, open_hub_and_client, open_world

SLOW = HubOptions(window=30, outbox=OutboxOptions(count=200, size=200_000, kept_count=50, kept_size=50_000))


async def test_delivered_says_that_the_program_has_handled_it(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        published = []

        async def publish():
            published.append(await hub.publish(Event("e", 1), to=everyone(), wait_for=Reach.DELIVERED))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(publish)
            await client.receive()
            await trio.sleep(10)
            assert published == [], "it has come, and is not handled yet"
            client.settle()
        assert published == [Published(Reach.DELIVERED, offered=1, written=1, delivered=1, lost=0)]


async def test_written_says_that_the_system_has_it(autojump_clock):
    async with open_world() as world, world.open_client() as quick, world.open_client() as away:
        away.weather.cut()
        await trio.sleep(1)
        published = await world.server.publish(Event("e"), to=everyone(), wait_for=Reach.WRITTEN, within=5)
        assert published == Published(Reach.OFFERED, offered=2, written=1, delivered=0, lost=0)
        away.weather.mend()
        published = await world.server.publish(Event("e"), to=everyone(), wait_for=Reach.WRITTEN)
        assert published.written == 2
        assert published.reach is Reach.WRITTEN
        for client in (quick, away):
            await client.receive()
            await client.receive()


async def test_written_is_not_said_of_what_waits_for_the_socket(autojump_clock):
    """The link has taken it from the outbox, and the cable takes no more: it is still in this process."""
    async with open_hub_and_client() as (hub, client):
        client.weather.stall()
        big = Event("e", "x" * 100_000)
        published = await hub.publish(big, to=everyone(), wait_for=Reach.WRITTEN, within=5)
        assert (published.reach, published.written) == (Reach.OFFERED, 0)
        (slow,) = hub.hub.connections()
        assert slow.outbox.statistics().owed_count == 0
        client.weather.mend()
        await client.receive()


async def test_it_is_followed_across_links(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.abandon()  # what is written now vanishes
        async with trio.open_nursery() as tasks:

            async def handle():
                for _ in range(2):
                    await client.receive()
                client.settle()

            tasks.start_soon(handle)
            first = await hub.publish(Event("e", 1), to=everyone(), wait_for=Reach.WRITTEN)
            second = await hub.publish(Event("e", 2), to=everyone(), wait_for=Reach.DELIVERED)
        assert first.written == 1
        assert second.delivered == 1
        assert hub.hub.statistics().resumed == 1


async def test_of_compat_clients_no_more_is_known_than_written(autojump_clock):
    async with open_world() as world, world.open_link() as link:
        await link.receive()
        published = await world.server.publish(Event("e"), to=everyone(), wait_for=Reach.DELIVERED)
        assert published == Published(Reach.DELIVERED, offered=1, written=1, delivered=0, lost=0)


async def test_who_leaves_for_good_is_lost_and_waited_for_no_more(autojump_clock):
    async with open_hub_and_client(options=SLOW) as (hub, client):
        client.weather.cut()
        begun = trio.current_time()
        published = await hub.publish(Event("e"), to=everyone(), wait_for=Reach.DELIVERED)
        assert published == Published(Reach.DELIVERED, offered=1, written=0, delivered=0, lost=1)
        assert trio.current_time() - begun == pytest.approx(30, abs=1)


async def test_who_is_told_of_a_gap_is_lost(autojump_clock):
    async with open_hub_and_client(options=SLOW) as (hub, client):
        client.weather.stall()
        published = []

        async def publish():
            published.append(await hub.publish(Event("e"), to=everyone(), wait_for=Reach.DELIVERED))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(publish)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(300):
                await hub.publish(Event("e", "x" * 1000), to=everyone())
        assert published[0].lost == 1


@pytest.mark.parametrize("delivery", [latest("k"), expires(1)])
async def test_what_is_replaced_or_expires_is_lost(autojump_clock, delivery):
    async with open_hub_and_client() as (hub, client):
        client.weather.cut()
        await trio.sleep(1)
        published = []

        async def publish():
            published.append(await hub.publish(Event("e", 1), to=everyone(), delivery=delivery, wait_for=Reach.WRITTEN))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(publish)
            await trio.sleep(2)
            await hub.publish(Event("e", 2), to=everyone(), delivery=latest("k"))
            client.weather.mend()
        assert published == [Published(Reach.WRITTEN, offered=1, written=0, delivered=0, lost=1)]


async def test_what_is_dropped_at_once_was_not_offered(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.cut()
        await trio.sleep(1)
        published = await hub.publish(Event("e"), to=everyone(), delivery=volatile(), wait_for=Reach.DELIVERED)
        assert published == Published(Reach.DELIVERED, offered=0, written=0, delivered=0, lost=0)


async def test_nobody_is_waited_for_where_nobody_is(autojump_clock):
    async with open_world() as world:
        for reach in (Reach.OFFERED, Reach.WRITTEN, Reach.DELIVERED):
            published = await world.server.publish(Event("e"), to=topic("nowhere"), wait_for=reach)
            assert (published.reach, published.offered) == (reach, 0)


async def test_nobody_waits_beyond_the_end_of_the_hub(autojump_clock):
    server = Server(options=HubOptions(inbox=1))
    outcomes = []

    async def publish(name):
        try:
            outcomes.append((await server.publish(Event(name), to=everyone(), wait_for=Reach.DELIVERED)).lost)
        except Closed:
            outcomes.append(Closed)

    async with trio.open_nursery() as publishers:
        async with open_world(server) as world, world.open_link(subprotocols=["trio-hub.v1.json"]) as link:
            await link.receive()
            publishers.start_soon(publish, "on its way")
            await trio.sleep(1)
        publishers.start_soon(publish, "too late")
    assert outcomes == [1, Closed]


async def test_one_who_stops_waiting_leaves_nothing_behind(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.cut()
        with trio.move_on_after(1):
            await hub.publish(Event("e", 1), to=everyone(), wait_for=Reach.DELIVERED)
        client.weather.mend()
        assert (await client.receive()).data == 1, "it was taken, all the same"
        client.settle()
        await trio.sleep(2)
        (here,) = hub.hub.connections()
        assert not here.outbox._watched
        assert not hub.hub._receipts


async def test_what_is_forgotten_before_the_system_has_it_is_not_written_yet(autojump_clock):
    """A compat client's log is short: events may leave it while their bytes still wait for a full cable."""
    options = HubOptions(outbox=OutboxOptions(kept_count=10))
    async with open_world(options=options) as world:
        cable = Cable(capacity=2000)
        async with world.open_link(cable=cable) as link:
            await link.receive()
            cable.stall()
            outcomes = []

            async def publish():
                published = await world.server.publish(
                    Event("e", "x" * 500), to=everyone(), wait_for=Reach.WRITTEN, within=1000
                )
                outcomes.append((published.written, published.lost))

            async with trio.open_nursery() as publishers:
                for _ in range(40):
                    publishers.start_soon(publish)
                await trio.sleep(10)
                assert outcomes == []
                cable.cut()
            assert sorted(set(outcomes)) == [(0, 1)]


async def test_what_the_client_has_is_written_however_its_link_ended(autojump_clock):
    """It says so itself, by asking for what comes behind it."""
    async with open_world() as world:
        cable = Cable()
        heard = []
        async with world.open_link(subprotocols=["trio-hub.v1.json"], cable=cable) as link:
            (hello,) = [json.loads(message) for message in await link.receive()]
            cable.stall()
            published = []

            async def publish(n):
                event = Event("e", [n, "x" * 60_000])
                published.append(await world.server.publish(event, to=everyone(), wait_for=Reach.WRITTEN, within=100))

            async with trio.open_nursery() as publishers:
                for n in range(4):
                    publishers.start_soon(publish, n)
                    await trio.testing.wait_all_tasks_blocked()
                wish = f"/ws?connection_id={hello['data']['connection_id']}&sequence_number=3"
                async with world.open_link(wish, subprotocols=["trio-hub.v1.json"]) as newer:
                    while len(heard) < 2:  # `resumed`, and a batch
                        heard += await newer.receive()
            assert [each.reach for each in published] == [Reach.WRITTEN] * 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"to": "town"}, "Target"),
        ({"delivery": "volatile"}, "Delivery"),
        ({"delivery": latest}, "Delivery"),
        ({"wait_for": "delivered"}, "Reach"),
        ({"within": -1}, "-1"),
        ({"within": None}, "None"),
        ({"within": float("nan")}, "nan"),
        ({"editors": [print]}, "Editor"),
        ({"event": "e"}, "Event"),
        ({"event": Event(5)}, "5"),
        ({"event": Event(["x"])}, "x"),
        ({"event": Event("e", {}, 5)}, "broadcast"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_wrong_argument_is_named_and_nothing_is_published(autojump_clock, arguments, named):
    async with open_world() as world:
        right = {"event": Event("e"), "to": everyone()}
        call = {**right, **arguments}
        with pytest.raises(Misuse, match=named):
            await world.server.publish(call.pop("event"), **call)
        assert world.server.hub.statistics().published == 0


@pytest.mark.parametrize("target", [topic, user, connection])
@pytest.mark.parametrize("name", [5, None, "", b"town"])
def test_a_target_has_a_name(target, name):
    with pytest.raises(Misuse, match="name"):
        target(name)


async def test_a_hub_runs_once(autojump_clock):
    server = Server()
    async with open_world(server):
        pass
    with pytest.raises(Misuse, match="once"):
        async with open_world(server):
            pass
