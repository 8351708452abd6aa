"""While the window holds, every event reaches the client once and in order, whatever happens to its links."""

import random
from contextlib import suppress

import pytest
import trio

from trio_hub import (
    ClientOptions,
    Closed,
    Event,
    Gap,
    HubOptions,
    OutboxOptions,
    connection,
    everyone,
    known_tokens,
    topic,
    user,
)
from trio_hub.testing import open_hub_and_client, open_world


async def numbers(client, count):
    """The next `count` events' numbers, as their publisher counted them."""
    return [(await client.receive()).data["n"] for _ in range(count)]


async def test_what_was_said_while_away_arrives(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.cut()
        await hub.publish(Event("tick", {"n": 1}), to=everyone())
        client.weather.mend()
        assert (await client.receive()).data == {"n": 1}


@pytest.mark.parametrize("trouble", ["cut_once", "abandon", "stall"])
async def test_trouble_at_any_moment_costs_nothing(autojump_clock, trouble):
    async with open_hub_and_client(topics=["town"]) as (hub, client):
        heard = []
        async with trio.open_nursery() as tasks:

            async def speak():
                for n in range(500):
                    await hub.publish(Event("tick", {"n": n}), to=topic("town"))
                    if n % 7 == 0:
                        await trio.sleep(0.05)

            async def spoil():
                while len(heard) < 500:
                    await trio.sleep(0.3)
                    getattr(client.weather, trouble)()
                    await trio.sleep(0.3)
                    client.weather.mend()

            tasks.start_soon(speak)
            tasks.start_soon(spoil)
            heard += await numbers(client, 500)
            tasks.cancel_scope.cancel()
        assert heard == list(range(500))
        assert hub.hub.statistics().gaps == 0
        if trouble != "stall":
            assert hub.hub.statistics().resumed > 3


async def test_two_listeners_in_different_weather_hear_the_same(autojump_clock):
    rng = random.Random(7)
    async with open_world() as world, world.open_client(topics=["town"]) as ann, world.open_client() as bob:
        await bob.subscribe("town")

        async def speak():
            for n in range(300):
                await world.server.publish(Event("tick", {"n": n}), to=topic("town"))
                await trio.sleep(rng.uniform(0, 0.1))
                spoil = rng.choice([ann.weather.cut_once, bob.weather.abandon, lambda: None, lambda: None])
                spoil()

        async with trio.open_nursery() as tasks:
            tasks.start_soon(speak)
            assert await numbers(ann, 300) == list(range(300))
            assert await numbers(bob, 300) == list(range(300))


async def test_numbers_rise_by_one_across_links(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        for n in range(10):
            await hub.publish(Event("tick", {"n": n}), to=everyone())
            event = await client.receive()
            assert event.number == n + 1  # the hello is 0
            client.weather.cut_once()


async def test_who_was_away_for_longer_than_the_window_is_told_of_the_gap(autojump_clock):
    async with open_hub_and_client(topics=["town"], options=HubOptions(window=5)) as (hub, client):
        await hub.publish(Event("tick", {"n": 1}), to=topic("town"))
        assert await numbers(client, 1) == [1]
        client.weather.cut()
        await trio.sleep(6)
        await hub.publish(Event("tick", {"n": 2}), to=topic("town"))
        client.weather.mend()
        with pytest.raises(Gap) as caught:
            await client.receive()
        assert (caught.value.reason, caught.value.last) == ("expired", 1)
        await client.request("ping")  # what was subscribed to is subscribed to again by now
        await hub.publish(Event("tick", {"n": 3}), to=topic("town"))
        assert await numbers(client, 1) == [3]


async def test_just_within_the_window_nothing_is_lost(autojump_clock):
    quick = ClientOptions(first_retry=0.1, longest_retry=0.1)
    async with open_world(options=HubOptions(window=5)) as world, world.open_client(options=quick) as client:
        client.weather.cut()
        await trio.sleep(4.8)
        await world.server.publish(Event("tick", {"n": 2}), to=everyone())
        client.weather.mend()
        assert await numbers(client, 1) == [2]


async def test_who_is_owed_too_much_while_away_is_told_on_return(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(count=50, kept_count=20))
    async with open_hub_and_client(options=options) as (hub, client):
        client.weather.cut()
        await trio.sleep(0.1)
        for n in range(100):
            await hub.publish(Event("tick", {"n": n}), to=everyone())
        await trio.testing.wait_all_tasks_blocked()
        assert hub.hub.statistics().index.connections == 0  # given up: nothing of it is kept
        client.weather.mend()
        with pytest.raises(Gap, match="overflow"):
            await client.receive()
        await hub.publish(Event("tick", {"n": 100}), to=everyone())
        assert await numbers(client, 1) == [100]


async def test_a_restarted_hub_says_so(autojump_clock):
    async with open_world() as old, old.open_client(topics=["town"]) as client:
        await client.request("ping")
        position = client.position
    async with open_world() as new, new.open_client(resume=position) as client:
        with pytest.raises(Gap, match="restarted"):
            await client.receive()


class Crash(Exception):
    """What ends a program that was not ready for it."""


async def test_a_program_goes_on_where_the_last_one_stopped(autojump_clock):
    async with open_world() as world:
        with suppress(Crash):
            async with world.open_client(topics=["town"]) as first:
                for n in range(5):
                    await world.server.publish(Event("tick", {"n": n}), to=topic("town"))
                assert await numbers(first, 3) == [0, 1, 2]
                first.settle()
                position = first.position
                assert await numbers(first, 1) == [3]
                raise Crash  # before it is done with 3
        async with world.open_client(resume=position) as second:
            assert await numbers(second, 2) == [3, 4]
            await second.publish("town", "tick", {"n": 5})  # request numbers go on, too
            assert await numbers(second, 1) == [5]


async def test_a_newer_link_takes_over_from_one_that_looks_alive(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        (before,) = hub.hub.connections()
        client.weather.abandon()
        await hub.publish(Event("tick", {"n": 1}), to=everyone())
        assert await numbers(client, 1) == [1]
        assert hub.hub.connections() == [before]
        assert before.statistics().links == 2


async def test_no_bad_luck_makes_a_client_come_back_too_late(autojump_clock):
    """However its waits are drawn, it dials in the last quarter of the window."""
    async with open_hub_and_client(options=HubOptions(window=60)) as (hub, client):
        for n in range(30):
            client.weather.cut()
            await hub.publish(Event("tick", {"n": n}), to=everyone())
            await trio.sleep(44)
            client.weather.mend()
            assert await numbers(client, 1) == [n]


async def test_a_stranger_cannot_take_over(autojump_clock):
    tokens = {"a": "ann", "b": "bob"}
    async with open_world(authenticate=known_tokens(tokens)) as world, world.open_client(token="a") as ann:
        stolen = ann.position
        async with world.open_client(token="b", resume=stolen) as bob:
            with pytest.raises(Gap, match="unknown"):
                await bob.receive()
            await world.server.publish(Event("secret", {"n": 1}), to=user("ann"))
            assert await numbers(ann, 1) == [1]
            assert ann.weather.dials == 1


async def test_the_client_that_was_replaced_stays_away(autojump_clock):
    async with (
        open_world() as world,
        world.open_client() as first,
        world.open_client(resume=first.position) as second,
    ):
        with pytest.raises(Closed) as caught:
            await first.receive()
        assert caught.value.close.code == 4101
        await world.server.publish(Event("tick", {"n": 1}), to=everyone())
        assert await numbers(second, 1) == [1]
        assert first.weather.dials == 1


async def test_targets_reach_whom_they_name(autojump_clock):
    async with (
        open_world(authenticate=known_tokens({"a": "ann", "b": "bob"})) as world,
        world.open_client(token="a", topics=["town"]) as ann,
        world.open_client(token="b") as bob,
    ):
        publish = world.server.publish
        await publish(Event("e", {"n": 1}), to=topic("town"))
        await publish(Event("e", {"n": 2}), to=user("bob"))
        await publish(Event("e", {"n": 3}), to=connection(ann.position.connection_id))
        await publish(Event("e", {"n": 4}), to=everyone())
        await publish(Event("e", {"n": 5}), to=topic("nowhere"))
        assert await numbers(ann, 3) == [1, 3, 4]
        assert await numbers(bob, 2) == [2, 4]


async def test_an_acknowledgement_lost_with_its_link_is_said_again(autojump_clock):
    """Otherwise the hub would wait for it for ever: it writes no more than it keeps unacknowledged."""
    options = HubOptions(outbox=OutboxOptions(kept_count=20))
    async with open_world(options=options) as world, world.open_client() as client:
        for n in range(19):  # with the hello, all that is written without an acknowledgement
            await world.server.publish(Event("tick", {"n": n}), to=everyone())
        assert await numbers(client, 19) == list(range(19))
        client.settle()
        client.weather.stall()
        await trio.sleep(2)  # the acknowledgement is said, and stays in the cable
        client.weather.cut_once()
        client.weather.mend()
        for n in range(19, 50):
            await world.server.publish(Event("tick", {"n": n}), to=everyone())
        with trio.fail_after(100):
            assert await numbers(client, 31) == list(range(19, 50))
        assert world.server.hub.statistics().gaps == 0
