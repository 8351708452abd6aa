"""Where links are compressed everybody hears the same; and an event is deflated once, however many hear it."""

from contextlib import AsyncExitStack

import attrs
import pytest

from trio_hub import ClientOptions, CompressionOptions, Event, HubOptions, LinkOptions, Router, everyone, topic
from trio_hub.testing import open_world
from trio_hub.wire.codecs import COMPAT, V1_JSON
from trio_hub.wire.deflate import Deflater

LINK = LinkOptions(compression=CompressionOptions())
COMPRESSED = HubOptions(link=LINK)
CLIENT = ClientOptions(link=LINK)
NEWS = Event("news", {"text": "the same again, " * 100})


@pytest.fixture
def deflated(monkeypatch):
    """What was deflated by anybody."""
    payloads = []
    deflate = Deflater.deflate

    def note(self, payload):
        payloads.append(payload)
        return deflate(self, payload)

    monkeypatch.setattr(Deflater, "deflate", note)
    return payloads


async def test_an_event_to_a_hundred_links_is_deflated_once_for_each_subprotocol(deflated, autojump_clock):
    async with open_world(options=COMPRESSED) as world, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(world.open_client(options=CLIENT)) for _ in range(50)]
        links = [await stack.enter_async_context(world.open_link(options=LINK)) for _ in range(50)]
        for link in links:
            await link.receive()  # hello
        deflated.clear()
        for count in (1, 2):
            await world.server.publish(NEWS, to=everyone())
            for client in clients:
                assert (await client.receive()).data == NEWS.data
            for link in links:
                (message,) = await link.receive()
                (event,) = COMPAT.from_server(message)
                assert (event.data, event.number) == (NEWS.data, count)
            assert len(deflated) == 2 * count


async def test_who_has_heard_more_shares_what_is_deflated_all_the_same(deflated, autojump_clock):
    async with open_world(options=COMPRESSED) as world, world.open_link("/ws?topics=town", options=LINK) as early:
        for _ in range(12):
            await world.server.publish(Event("tick"), to=topic("town"))
        async with world.open_link(options=LINK) as late:
            deflated.clear()
            await world.server.publish(NEWS, to=everyone())
            heard = [COMPAT.from_server(message)[0] async for message in _until_news(early)]
            heard += [COMPAT.from_server(message)[0] async for message in _until_news(late)]
            assert [event.number for event in heard if event.name == "news"] == [13, 1]
            assert len(deflated) == 1


async def _until_news(link):
    async for message in link:
        yield message
        if "news" in message:
            return


async def test_compressed_or_not_everybody_hears_the_same(autojump_clock):
    async with (
        open_world(options=COMPRESSED) as world,
        world.open_client(options=CLIENT) as compressed,
        world.open_client() as plain,
    ):
        for size in (1, 300, 3, 4000):
            await world.server.publish(attrs.evolve(NEWS, data="x" * size), to=everyone())
        for client in (compressed, plain):
            assert [len((await client.receive()).data) for _ in range(4)] == [1, 300, 3, 4000]


async def test_what_was_said_while_away_arrives_compressed(autojump_clock):
    async with open_world(options=COMPRESSED) as world, world.open_client(options=CLIENT) as client:
        client.weather.cut()
        for number in range(20):
            await world.server.publish(attrs.evolve(NEWS, data=[number, NEWS.data]), to=everyone())
        client.weather.mend()
        assert [(await client.receive()).data for _ in range(20)] == [[number, NEWS.data] for number in range(20)]


async def test_a_resumed_link_may_be_compressed_where_the_one_before_was_not(autojump_clock):
    async with open_world(options=COMPRESSED) as world:
        v1 = {"subprotocols": [V1_JSON.subprotocol]}
        async with world.open_link(**v1) as plain:
            (hello,) = V1_JSON.from_server((await plain.receive())[0])
        resume = f"/ws?connection_id={hello.data['connection_id']}&sequence_number=1"
        async with world.open_link(resume, **v1, options=LINK) as compressed:
            await compressed.receive()  # resumed
            await world.server.publish(NEWS, to=everyone())
            (message,) = await compressed.receive()
            assert V1_JSON.from_server(message)[0].data == NEWS.data
            (connection,) = world.server.hub.connections()
            assert connection.statistics().links == 2


async def test_requests_and_replies_are_compressed_too(deflated, autojump_clock):
    router = Router()

    @router.action("echo")
    def echo(connection, data):
        return data

    async with open_world(router=router, options=COMPRESSED) as world, world.open_client(options=CLIENT) as client:
        assert await client.request("echo", NEWS.data) == NEWS.data
        assert await client.request("echo", "small") == "small"
        assert len(deflated) == 2
