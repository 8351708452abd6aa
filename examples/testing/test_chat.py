"""A chat's server in all weathers: nothing that was said is lost, or who missed it is told."""

import attrs
import pytest
import trio

from trio_hub import (
    ClientOptions,
    Connection,
    Event,
    Gap,
    HubOptions,
    OutboxOptions,
    Router,
    Server,
    known_tokens,
    topic,
)

# -- the application ---------------------------------------------------------------------------------------------


@attrs.frozen
class Say:
    """Say `text` to everybody in the room."""

    room: str
    text: str


def make_chat(options: HubOptions) -> Server:
    router = Router()
    chat = Server(router, authenticate=known_tokens({"ann's": "ann", "bob's": "bob"}), options=options)

    @router.action("say")
    async def say(connection: Connection, data: Say) -> None:
        await chat.publish(Event("said", {"by": connection.user, "text": data.text}), to=topic(data.room))

    return chat


# -- its tests ---------------------------------------------------------------------------------------------------

EAGER = ClientOptions(longest_retry=2)  # in a storm a few unlucky waits may outlast the window, and that is a gap


@pytest.fixture
def hub_server():
    """What `hub_world` runs: the chat, which holds at most 200 events for somebody who is away."""
    return make_chat(HubOptions(outbox=OutboxOptions(count=200, kept_count=50)))


@pytest.fixture
async def ann(hub_world):
    async with hub_world.open_client(token="ann's", topics=["kitchen"], options=EAGER) as client:
        yield client


@pytest.fixture
async def bob(hub_world):
    async with hub_world.open_client(token="bob's", topics=["kitchen"], options=EAGER) as client:
        yield client


async def talk(client, count):
    for n in range(count):
        await client.request("say", {"room": "kitchen", "text": str(n)})


async def hear(client, count):
    return [(await client.receive()).data["text"] for _ in range(count)]


async def test_what_was_said_while_away_arrives_once(ann, bob, autojump_clock):
    ann.weather.cut()
    await talk(bob, 3)
    await trio.sleep(30)
    ann.weather.mend()
    await talk(bob, 1)
    assert await hear(ann, 4) == ["0", "1", "2", "0"]


async def test_who_missed_too_much_is_told_of_the_gap_and_hears_what_follows(ann, bob, autojump_clock):
    ann.weather.cut()
    await talk(bob, 300)
    ann.weather.mend()
    with pytest.raises(Gap) as caught:
        await ann.receive()
    assert caught.value.reason == "overflow"
    await ann.request("ping")  # by now she is back in the kitchen
    await talk(bob, 1)
    assert await hear(ann, 1) == ["0"]


async def test_two_people_can_talk_through_a_storm(ann, bob, hub_random, autojump_clock):
    with trio.fail_after(1000):
        async with trio.open_nursery() as tasks:
            tasks.start_soon(ann.weather.storm, hub_random)
            tasks.start_soon(bob.weather.storm, hub_random)
            tasks.start_soon(talk, bob, 100)
            assert await hear(ann, 100) == [str(n) for n in range(100)]
            tasks.cancel_scope.cancel()
