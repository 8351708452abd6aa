"""Whoever comes back takes over at once, whatever the old link looks like; and has to say again who it is."""

import json

import pytest
import trio

from trio_hub import (
    ClientOptions,
    CloseReason,
    Credentials,
    Event,
    Gap,
    HubOptions,
    LinkLost,
    LinkOptions,
    OpeningOptions,
    Reach,
    Refused,
    Session,
    connection,
    everyone,
)
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
            (here,) = world.server.hub.connections()
            assert here.statistics().links == 1 + newcomers
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
                (here,) = world.server.hub.connections()
                assert here.topics == set()
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
        (here,) = world.server.hub.connections()
        known["secret"] = Session("ann", {"role": "moderator"})
        assert here.session.claims == {"role": "guest"}
        client.weather.cut_once()
        await world.server.publish(Event("tick", 1), to=everyone())
        await client.receive()
        assert here.session.claims == {"role": "moderator"}


async def test_who_was_kicked_out_comes_back_to_nothing(autojump_clock):
    """Also in the very moment: the id is no good any more, and the client is told so."""
    async with open_world() as world, world.open_client() as client:
        (here,) = world.server.hub.connections()
        here.end(CloseReason(1008, "kicked out"))
        wish = f"/ws?connection_id={here.id}&sequence_number=1"
        async with world.open_link(wish, subprotocols=["trio-hub.v1.json"]) as link:
            (hello,) = [json.loads(message) for message in await link.receive()]
            assert hello["data"]["connection_id"] != here.id
            assert hello["data"]["gap"]["reason"] in ("overflow", "expired")
        with pytest.raises(Gap):
            await client.receive()


@pytest.mark.parametrize("room", [1, 2, 3, 4])
async def test_where_plugins_cannot_follow_a_takeover_nobody_lives_on_as_a_ghost(autojump_clock, room):
    """Whoever is greeted hears events, and plugins hear of each connection to its end."""
    told = {}

    class Stuck:
        async def connected(self, connection):
            told[connection] = ["connected"]
            await trio.sleep(300)

        def __getattr__(self, moment):
            if moment not in MOMENTS:
                raise AttributeError(moment)

            async def write(connection, *details):
                told[connection].append(moment)

            return write

    options = HubOptions(hook_queue=room, window=5, hooks_end_within=1000)
    async with open_world(plugins=[Stuck()], options=options) as world:
        id = None
        for number in (0, 0, 500, 1, 500, 500):
            wish = "/ws" if id is None else f"/ws?connection_id={id}&sequence_number={number}"
            cable = Cable()
            async with world.open_link(wish, cable=cable) as link:
                await world.server.publish(Event("tick"), to=everyone())
                heard = []
                with trio.move_on_after(20):
                    while "tick" not in heard and link.closed is None:
                        async for message in once(link):
                            said = json.loads(message)
                            heard.append(said["event"])
                            id = said["data"].get("connection_id", id)
                assert "tick" in heard or link.closed is not None, "a ghost"
                cable.abandon()
        await trio.sleep(3000)
        assert world.server.hub.connections() == []
        for moments in told.values():
            assert moments[0] == "connected"
            assert moments[-1] == "expired"
            assert moments.count("connected") == moments.count("expired") == 1


async def once(link):
    try:
        for message in await link.receive():
            yield message
    except LinkLost:
        return


@pytest.mark.parametrize("patience", [1, 3, 10])
async def test_dials_that_were_given_up_and_come_through_later_do_no_harm(autojump_clock, patience):
    """After a frost they all arrive at once, and whichever is served last takes over, though nobody is there."""
    options = ClientOptions(
        first_retry=1,
        longest_retry=1,
        opening=OpeningOptions(deadline=patience),
        link=LinkOptions(ping_interval=1, pong_timeout=1),
    )
    async with open_world() as world, world.open_client(options=options) as client:
        for n in range(10):
            client.weather.stall()
            await trio.sleep(15)
            client.weather.mend()
            await world.server.publish(Event("tick", n), to=everyone())
            assert (await client.receive()).data == n
        assert world.server.hub.statistics().gaps == 0


async def test_an_id_that_ended_in_a_gap_still_leads_to_its_connection(autojump_clock):
    async with open_world() as world, world.open_client() as client:
        (here,) = world.server.hub.connections()
        before = here.id
        world.server.hub.roster.overflow(here)
        assert here.id != before
        with pytest.raises(Gap):
            await client.receive()
        published = await world.server.publish(Event("e", 1), to=connection(before), wait_for=Reach.OFFERED)
        assert published.offered == 1
        assert (await client.receive()).data == 1
