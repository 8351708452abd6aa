"""A publisher says how much an event matters; what need not be delivered is dropped first, and leaves no gap."""

import pytest
import trio

from trio_hub import Event, HubOptions, OutboxOptions, Reach, RequestFailed, everyone, expires, latest, must, volatile
from trio_hub.testing import open_hub_and_client, open_world


async def heard_until(client, name):
    """The data of everything up to the event of this name."""
    heard = []
    while (event := await client.receive()).name != name:
        heard.append(event.data)
    return heard


async def test_a_volatile_event_is_for_those_who_are_here(autojump_clock):
    async with open_world() as world, world.open_client() as here, world.open_client() as away:
        away.weather.cut()
        await trio.sleep(1)
        published = await world.server.publish(
            Event("typing", 1), to=everyone(), delivery=volatile(), wait_for=Reach.OFFERED
        )
        assert published.offered == 1
        assert world.server.hub.statistics().dropped == 1
        away.weather.mend()
        await world.server.publish(Event("end"), to=everyone())
        assert await heard_until(here, "end") == [1]
        assert await heard_until(away, "end") == []
        assert world.server.hub.statistics().gaps == 0


async def test_of_a_price_that_changes_all_the_time_the_absent_hear_the_latest(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.cut()
        await trio.sleep(1)
        for price in range(100):
            await hub.publish(Event("price", {"tea": price}), to=everyone(), delivery=latest("tea"))
            if price % 10 == 0:
                await hub.publish(Event("sold", price), to=everyone(), delivery=must())
        client.weather.mend()
        await hub.publish(Event("end"), to=everyone())
        assert await heard_until(client, "end") == [*range(0, 100, 10), {"tea": 99}]
        assert hub.hub.statistics().dropped == 99


async def test_what_has_expired_is_not_heard(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.cut()
        await hub.publish(Event("offer", "short"), to=everyone(), delivery=expires(5))
        await hub.publish(Event("offer", "long"), to=everyone(), delivery=expires(50))
        await trio.sleep(10)
        client.weather.mend()
        await hub.publish(Event("end"), to=everyone())
        assert await heard_until(client, "end") == ["long"]


async def test_a_peer_that_is_behind_misses_what_is_volatile_before_it_has_a_gap(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(count=100, kept_count=10))
    async with open_world(options=options) as world, world.open_client() as slow:
        slow.weather.stall()
        for n in range(45):
            await world.server.publish(Event("said", n), to=everyone())
            await world.server.publish(Event("typing", -1), to=everyone(), delivery=volatile())
        for n in range(45, 85):
            await world.server.publish(Event("said", n), to=everyone())
        slow.weather.mend()
        await world.server.publish(Event("end"), to=everyone())
        heard = await heard_until(slow, "end")
        assert [n for n in heard if n != -1] == list(range(85))
        assert heard.count(-1) < 10
        assert world.server.hub.statistics().gaps == 0


async def test_what_has_expired_makes_room_before_a_gap_is_told(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(count=20, kept_count=5))
    async with open_world(options=options) as world, world.open_client() as client:
        client.weather.cut()
        for _ in range(15):
            await world.server.publish(Event("offer"), to=everyone(), delivery=expires(1))
        await trio.sleep(2)
        for n in range(10):
            await world.server.publish(Event("said", n), to=everyone())
        client.weather.mend()
        await world.server.publish(Event("end"), to=everyone())
        assert await heard_until(client, "end") == list(range(10))


async def test_clients_say_how_much_their_events_matter(autojump_clock):
    async with open_world() as world, world.open_client(topics=["town"]) as ann, world.open_client() as bob:
        ann.weather.cut()
        await trio.sleep(1)
        await bob.publish("town", "typing", {"n": 1}, delivery=volatile())
        await bob.publish("town", "price", {"n": 2}, delivery=latest("tea"))
        await bob.publish("town", "price", {"n": 3}, delivery=latest("tea"))
        await bob.publish("town", "offer", {"n": 4}, delivery=expires(0.1))
        await bob.publish("town", "said", {"n": 5}, delivery=must())
        await trio.sleep(1)
        ann.weather.mend()
        await bob.publish("town", "end")
        assert await heard_until(ann, "end") == [{"n": 3}, {"n": 5}]


@pytest.mark.parametrize(
    "delivery",
    ["sometimes", {}, {"latest": 3}, {"expires": 0}, {"expires": "soon"}, {"latest": "k", "expires": 1}, 7, None],
)
async def test_a_delivery_that_we_do_not_know_is_refused_by_its_place(autojump_clock, delivery):
    async with open_world() as world, world.open_client() as client:
        with pytest.raises(RequestFailed, match=r"\$\.delivery") as caught:
            await client.request("publish", {"topic": "town", "event": "e", "delivery": delivery})
        assert caught.value.status == 400
