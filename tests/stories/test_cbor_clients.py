"""A client that speaks CBOR has everything that others have, and bytes."""

import attrs
import pytest

from trio_hub import ClientOptions, Event, RequestFailed, Router, everyone, topic
from trio_hub.testing import open_world

CBOR = ClientOptions(cbor=True)


@attrs.frozen
class Blob:
    blob: bytes


async def test_it_hears_the_same_as_others_whatever_happens_to_its_links(autojump_clock):
    async with (
        open_world() as world,
        world.open_client(options=CBOR, topics=["town"]) as ann,
        world.open_client(topics=["town"]) as bob,
    ):
        said = [Event("e", {"n": n, "text": "h\u00fcllo", "deep": [{"x": None}]}) for n in range(100)]
        for n, event in enumerate(said):
            await world.server.publish(event, to=topic("town"))
            if n % 10 == 0:
                ann.weather.cut_once()
        for client in (ann, bob):
            heard = [await client.receive() for _ in said]
            assert [event.data for event in heard] == [event.data for event in said]
        assert world.server.hub.statistics().gaps == 0


async def test_bytes_are_bytes_on_the_way_in_and_out(autojump_clock):
    router = Router()

    @router.action("reversed")
    def backwards(connection, data: Blob) -> Blob:
        return Blob(data.blob[::-1])

    async with open_world(router=router) as world, world.open_client(options=CBOR) as client:
        assert await client.request("reversed", {"blob": b"\x00\xff"}) == {"blob": b"\xff\x00"}
        with pytest.raises(RequestFailed, match=r"\$.blob"):
            await client.request("reversed", {"blob": 5})


async def test_what_no_event_can_say_is_refused_and_named(autojump_clock):
    """CBOR has more than JSON; an event is for everybody, so it says what JSON can say."""
    async with open_world() as world, world.open_client(options=CBOR, topics=["town"]) as client:
        for data in ({1: {2: 3}}, {"raw": b"\xff"}):
            await client.publish("town", "e", data)
        assert (await client.receive()).data == {"1": {"2": 3}}
        assert (await client.receive()).data == {"raw": "/w=="}
        with pytest.raises(RequestFailed, match="cannot be encoded"):
            await client.publish("town", "e", {(1, 2): 3})


@pytest.mark.parametrize("said", ["text", b"\xff", b"\x81\x81", b"\xa1\x01\x02", b"\xd8\x23\x62a+"])
async def test_nonsense_costs_its_link_and_nothing_else(autojump_clock, said):
    async with (
        open_world() as world,
        world.open_client() as other,
        world.open_link(subprotocols=["trio-hub.v1.cbor"]) as link,
    ):
        await link.receive()
        await link.send(said)
        async for _ in link:
            pass
        assert link.closed.code in (1003, 1007)
        await world.server.publish(Event("e", 1), to=everyone())
        assert (await other.receive()).data == 1
