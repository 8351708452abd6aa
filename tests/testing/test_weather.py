"""The weather between a client and a server, kept from one cable to the next."""

from __future__ import annotations

import random

import pytest
import trio

from trio_hub import ClientOptions, Event, LinkLost, Misuse, everyone, topic
from trio_hub.testing import Direction, Weather, open_hub_and_client, open_world


@pytest.fixture
def reached():
    """The far ends of all cables."""
    return []


@pytest.fixture
def weather(reached):
    return Weather(reached.append)


async def test_good_until_somebody_spoils_it(weather, reached):
    near = await weather.open_stream()
    await near.send_all(b"hello")
    assert await reached[0].receive_some() == b"hello"
    assert weather.cable.near is near
    assert weather.dials == 1


async def test_no_cable_is_laid_after_a_cut_until_mended(weather, reached):
    weather.cut()
    with pytest.raises(LinkLost, match="the weather is bad"):
        await weather.open_stream()
    weather.mend()
    near = await weather.open_stream()
    weather.cut()
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"hello")
    weather.mend()
    await (await weather.open_stream()).send_all(b"hello")
    assert await reached[1].receive_some() == b"hello"
    assert weather.dials == 3


async def test_the_next_cable_is_laid_in_the_same_weather(autojump_clock, weather, reached):
    weather.slow(1, Direction.UP)
    weather.split(2, Direction.DOWN)
    for dial in range(2):
        near = await weather.open_stream()
        began = trio.current_time()
        await near.send_all(b"abc")
        await reached[dial].receive_some()
        assert trio.current_time() - began == pytest.approx(1)
        await reached[dial].send_all(b"defg")
        assert await near.receive_some() == b"de"
        weather.cut_once()
    weather.mend()
    near = await weather.open_stream()
    await reached[2].send_all(b"defg")
    assert await near.receive_some() == b"defg"


async def test_a_stall_outlives_its_cable(autojump_clock, weather, reached):
    weather.stall()
    for dial in range(2):
        near = await weather.open_stream()
        await near.send_all(b"abc")
        with trio.move_on_after(10) as waiting:
            await reached[dial].receive_some()
        assert waiting.cancelled_caught
    weather.mend()
    assert await reached[1].receive_some() == b"abc"


async def test_a_cut_to_come_befalls_one_cable_also_the_first(weather, reached):
    weather.cut_after(3, Direction.UP)
    await (await weather.open_stream()).send_all(b"hello")
    assert await reached[0].receive_some() == b"hel"
    with pytest.raises(trio.BrokenResourceError):
        await reached[0].receive_some()
    await (await weather.open_stream()).send_all(b"hello")
    assert await reached[1].receive_some() == b"hello"


async def test_nothing_befalls_a_cable_that_was_not_laid(weather, reached):
    weather.cut_once()
    weather.abandon()
    await (await weather.open_stream()).send_all(b"hello")
    assert await reached[0].receive_some() == b"hello"


async def test_the_server_of_an_abandoned_link_is_told_nothing(autojump_clock, weather, reached):
    near = await weather.open_stream()
    await near.send_all(b"lost on its way")
    weather.abandon()
    await reached[0].send_all(b"are you there?" * 10_000)
    await reached[0].wait_send_all_might_not_block()
    with trio.move_on_after(1000) as waiting:
        await reached[0].receive_some()
    assert waiting.cancelled_caught


async def test_an_abandoned_client_knows_unless_it_did_not_notice(autojump_clock, weather):
    near = await weather.open_stream()
    weather.abandon(noticed=False)
    await near.send_all(b"hello?")
    with trio.move_on_after(1000) as waiting:
        await near.receive_some()
    assert waiting.cancelled_caught
    weather.abandon()
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_some()


async def test_a_client_that_noticed_nothing_loses_patience_and_comes_back(autojump_clock):
    async with open_hub_and_client() as (hub, client):
        client.weather.abandon(noticed=False)
        await hub.publish(Event("tick", 1), to=everyone())
        assert (await client.receive()).data == 1
        assert client.weather.dials == 2
        assert 25 < trio.current_time() < 90


@pytest.mark.parametrize("seed", range(5))
async def test_in_any_storm_every_event_arrives_once_and_in_order(autojump_clock, seed):
    eager = ClientOptions(longest_retry=2)  # no unlucky waits can outlast the window
    async with (
        open_world() as world,
        world.open_client(topics=["town"], options=eager) as client,
        trio.open_nursery() as tasks,
    ):

        async def speak():
            for n in range(300):
                await world.server.publish(Event("tick", n), to=topic("town"))
                await trio.sleep(0.2)

        tasks.start_soon(client.weather.storm, random.Random(seed))
        tasks.start_soon(speak)
        with trio.fail_after(600):
            assert [(await client.receive()).data for _ in range(300)] == list(range(300))
        tasks.cancel_scope.cancel()
    assert client.weather.dials > 5
    assert world.server.hub.statistics().gaps == 0


async def test_a_client_may_come_in_weather_that_was_there_before(autojump_clock):
    async with open_world() as world:
        weather = Weather(world.reach)
        weather.split(1)
        weather.cut_after(40, Direction.DOWN)  # in the midst of the answer to its upgrade
        async with world.open_client(weather=weather) as client:
            assert client.weather is weather
            assert weather.dials == 2
            assert (await client.request("ping"))["text"] == "pong"


async def test_when_the_storm_is_over_the_weather_is_good(autojump_clock):
    async with open_hub_and_client() as (_, client):
        for duration in range(1, 20):
            with trio.move_on_after(duration):
                await client.weather.storm(random.Random(duration), every=(0.5, 0.5))
            assert (await client.request("ping"))["text"] == "pong"


@pytest.mark.parametrize("every", [(0, 1), (2, 1), (-1, 1)])
async def test_a_storm_of_no_duration_is_a_misuse(weather, every):
    with pytest.raises(Misuse):
        await weather.storm(random.Random(1), every=every)


@pytest.mark.parametrize("spoil", [lambda weather: weather.slow(0), lambda weather: weather.split(0)])
async def test_weather_that_cannot_be_is_a_misuse_before_the_first_dial(weather, spoil):
    with pytest.raises(Misuse):
        spoil(weather)
    await weather.open_stream()
