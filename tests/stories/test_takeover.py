"""Whoever comes back takes over at once, whatever the old link looks like; and has to say again who it is."""

import json

import pytest
import trio

from trio_hub import Credentials, Event, Refused, Session, everyone
from trio_hub.testing import Cable, open_world

MOMENTS = ("connected", "resumed", "gap", "taken_over", "disconnected", "expired")


class Diary:
    """A plugin that writes down all moments."""

    def __init__(self):
        self.moments = []

    def __getattr__(self, moment):
        if moment not in MOMENTS:
            raise AttributeError(moment)

        async def write(connection, *details):
            self.moments.append(moment)

        return write


SUBPROTOCOLS = pytest.mark.parametrize("subprotocols", [[], ["trio-hub.v1.json"]], ids=["compat", "v1"])


async def tell(link, heard):
    """Note every event that comes, one by one."""
    async for message in link:
        said = json.loads(message)
        heard += said if isinstance(said, list) else [said]


@SUBPROTOCOLS
@pytest.mark.parametrize("newcomers", [2, 5])
async def test_of_newcomers_that_race_one_stays_and_nothing_is_lost(autojump_clock, subprotocols, newcomers):
    """They all ask for the same connection at once; the last one wins, and the others are told so."""
    diary = Diary()
    async with open_world(plugins=[diary]) as world, trio.open_nursery() as tasks:
        cable = Cable()
        async with world.open_link(subprotocols=subprotocols, cable=cable) as first:
            (hello,) = [json.loads(message) for message in await first.receive()]
            cable.abandon()  # it looks alive, and nothing comes through any more
            for n in range(3):
                await world.server.publish(Event("tick", n), to=everyone())

            links, heard = [], []
            wish = f"/ws?connection_id={hello['data']['connection_id']}&sequence_number=1"

            async def come():
                async with world.open_link(wish, subprotocols=subprotocols) as link:
                    links.append(link)
                    heard.append([])
                    await tell(link, heard[links.index(link)])

            for _ in range(newcomers):
                tasks.start_soon(come)
            await trio.sleep(10)
            for n in range(3, 6):
                await world.server.publish(Event("tick", n), to=everyone())
            await trio.sleep(1)

            (winner,) = (link for link in links if link.closed is None)
            assert [link.closed.code for link in links if link is not winner] == [4101] * (newcomers - 1)
            events = [said for said in heard[links.index(winner)] if "event" in said]
            assert [said["data"] for said in events] == [0, 1, 2, 3, 4, 5]
            (connection,) = world.server.hub.connections()
            assert connection.statistics().links == 1 + newcomers
            assert diary.moments == ["connected", *["taken_over", "resumed"] * newcomers]
        tasks.cancel_scope.cancel()


@SUBPROTOCOLS
async def test_what_the_old_link_says_after_the_takeover_is_not_heard(autojump_clock, subprotocols):
    """It was on its way when the new link came: the connection answers to one link only."""
    async with open_world() as world:
        cable = Cable()
        async with world.open_link(subprotocols=subprotocols, cable=cable) as old:
            (hello,) = [json.loads(message) for message in await old.receive()]
            cable.stall()
            await old.send('{"seq": 1, "action": "subscribe", "data": {"topic": "late"}}')
            wish = f"/ws?connection_id={hello['data']['connection_id']}&sequence_number=1"
            async with world.open_link(wish, subprotocols=subprotocols):
                await trio.sleep(1)
                cable.mend()
                await trio.sleep(1)
                (connection,) = world.server.hub.connections()
                assert connection.topics == set()
                assert old.closed is None or old.closed.code == 4101


async def test_who_comes_back_says_again_who_it_is(autojump_clock):
    """A right that is gone is noticed at the next link, however short the absence was."""
    known = {"secret": Session("ann")}

    async def authenticate(credentials: Credentials) -> Session | None:
        return known.get(credentials.token or "")

    async with open_world(authenticate=authenticate) as world, world.open_client(token="secret") as client:
        client.weather.cut_once()
        await world.server.publish(Event("tick", 1), to=everyone())
        assert (await client.receive()).data == 1
        known.clear()
        await world.server.publish(Event("tick", 2), to=everyone())
        assert (await client.receive()).data == 2, "the link it has is not asked again"
        client.weather.cut_once()
        await world.server.publish(Event("secret", 3), to=everyone())
        with pytest.raises(Refused) as caught:
            await client.receive()
        assert caught.value.status == 401


async def test_who_comes_back_with_other_claims_has_those(autojump_clock):
    """The session is that of the latest link."""
    known = {"secret": Session("ann", {"role": "guest"})}

    async def authenticate(credentials: Credentials) -> Session | None:
        return known.get(credentials.token or "")

    async with open_world(authenticate=authenticate) as world, world.open_client(token="secret") as client:
        (connection,) = world.server.hub.connections()
        known["secret"] = Session("ann", {"role": "moderator"})
        assert connection.session.claims == {"role": "guest"}
        client.weather.cut_once()
        await world.server.publish(Event("tick", 1), to=everyone())
        await client.receive()
        assert connection.session.claims == {"role": "moderator"}
