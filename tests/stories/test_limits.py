"""Whoever wants too much is told so, and costs nobody else anything; each refusal is counted."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub import (
    CloseCode,
    CloseReason,
    Credentials,
    HubOptions,
    LinkOptions,
    Rate,
    Refused,
    RequestFailed,
    Server,
    Session,
    everyone,
    open_link,
)
from trio_hub.testing import World, open_world
from trio_hub.testing.frame import Frame, Opcode


async def by_name(credentials: Credentials) -> Session | None:
    return None if credentials.token is None else Session(credentials.token)


def limited(**limits) -> Server:
    return Server(authenticate=by_name, options=HubOptions(**limits), proxies=["127.0.0.0/8"])


# -- asking


async def test_who_asks_too_fast_is_told_and_may_go_on_later(autojump_clock):
    async with open_world(limited(requests=Rate(2, burst=2))) as world:
        async with world.open_client(token="ann") as client, world.open_client(token="bob") as other:
            for _ in range(4):
                await client.request("ping")
            with pytest.raises(RequestFailed, match="429 too_fast"):
                await client.request("ping")
            await other.request("ping")
            await trio.sleep(0.6)
            await client.request("ping")
        assert world.server.hub.statistics().too_fast == 1


async def test_what_is_asked_counts_by_its_size_too(autojump_clock):
    async with open_world(limited(requests_size=Rate(1000))) as world, world.open_client(token="ann") as client:
        await client.request("ping", {"pad": "x" * 5000})
        with pytest.raises(RequestFailed, match="429"):
            await client.request("ping")
        await trio.sleep(4.2)
        await client.request("ping")


@pytest.mark.parametrize(
    "limits", [{"requests_of_user": Rate(1, burst=3)}, {"requests_size_of_user": Rate(50, burst=3)}]
)
async def test_all_connections_of_a_user_share_one_allowance(limits, autojump_clock):
    async with (
        open_world(limited(**limits)) as world,
        world.open_client(token="ann") as phone,
        world.open_client(token="ann") as laptop,
        world.open_client(token="bob") as other,
    ):
        refused = 0
        for client in (phone, laptop) * 6:
            try:
                await client.request("ping")
            except RequestFailed:
                refused += 1
        assert refused == 9 if "requests_of_user" in limits else refused > 3
        await other.request("ping")


async def test_a_refused_request_is_answered_once_and_never_carried_out(autojump_clock):
    server = limited(requests=Rate(1))
    async with (
        open_world(server) as world,
        world.open_link(subprotocols=["trio-hub.v1.json"], headers={"Authorization": "Bearer ann"}) as link,
    ):
        await anext(link)
        for seq in (1, 2, 2):
            await link.send(json.dumps({"seq": seq, "action": "subscribe", "data": {"topic": f"t{seq}"}}))
        replies = [json.loads(await anext(link)) for _ in range(3)]
        assert [reply["status"] for reply in replies] == ["OK", "FAIL", "FAIL"]
        assert replies[1] == replies[2]
        await trio.sleep(5)
        await link.send(json.dumps({"seq": 2, "action": "subscribe", "data": {"topic": "t2"}}))
        assert json.loads(await anext(link)) == replies[1]
        (connection,) = server.hub.connections()
        assert connection.topics == {"t1"}


async def test_a_flood_of_pings_ends_the_link_and_not_the_connection(autojump_clock):
    options = HubOptions(link=LinkOptions(control_frames=Rate(10)))
    async with open_world(options=options) as world, world.open_scripted_client() as client:
        await client.upgrade()
        await client.hear()  # hello
        for _ in range(11):
            await client.say(Frame(Opcode.PING, b"x"))
            await wait_all_tasks_blocked()
        *pongs, last = await client.hear_all()
        assert pongs == [Frame(Opcode.PONG, b"x")] * 10
        assert last == Frame.close(CloseCode.POLICY, "too many control frames")


async def test_malformed_requests_are_requests_too(autojump_clock):
    async with (
        open_world(limited(requests=Rate(1))) as world,
        world.open_link(headers={"Authorization": "Bearer ann"}) as link,
    ):
        await anext(link)
        for seq in range(1, 4):
            await link.send(json.dumps({"seq": seq, "action": 5}))
        statuses = [json.loads(await anext(link))["error"]["status_code"] for _ in range(3)]
        assert statuses == [400, 429, 429]


async def test_bytes_are_counted_and_not_characters(autojump_clock):
    async with open_world(limited(requests_size=Rate(1000))) as world, world.open_client(token="ann") as client:
        await client.request("ping", {"pad": "\N{GRINNING FACE}" * 500})
        with pytest.raises(RequestFailed, match="429"):
            await client.request("ping")


async def test_a_stranger_who_reads_nothing_gets_to_ask_no_more(autojump_clock):
    """Before the challenge, too, replies do not pile up."""
    options = HubOptions(link=LinkOptions(owed_size=1000), authenticate_within=60)
    server = Server(authenticate=by_name, options=options)
    async with open_world(server) as world, world.open_link() as link:
        cable_is_full = False
        with trio.move_on_after(30):
            for seq in range(1, 100_000):
                await link.send(json.dumps({"seq": seq, "action": "ping"}))
            cable_is_full = True
        assert not cable_is_full


async def test_links_that_are_asked_who_they_are_take_places(autojump_clock):
    async with open_world(limited(connections=2)) as world:
        async with world.open_link(), world.open_link():
            await wait_all_tasks_blocked()
            assert (await refused(world)).status == 503
        await trio.sleep(1)
        async with world.open_link():
            pass


async def test_who_is_asked_about_takes_a_place_from_the_beginning(autojump_clock):
    """However long the application takes to say who they are."""

    async def authenticate(credentials: Credentials) -> Session | None:
        await trio.sleep(1)
        return Session("ann") if credentials.token == "good" else None

    server = Server(authenticate=authenticate, options=HubOptions(connections=3))
    async with open_world(server) as world, trio.open_nursery() as tasks:
        statuses = []

        async def come(token: str | None) -> None:
            try:
                async with world.open_link(headers={"Authorization": f"Bearer {token}"} if token else {}):
                    statuses.append(101)
                    await trio.sleep(2)
            except Refused as refused:
                statuses.append(refused.status)

        for token in ("good", "bad", None, "good", None):
            tasks.start_soon(come, token)
            await wait_all_tasks_blocked()
        assert statuses == [503, 503]
        await trio.sleep(1.5)
        assert sorted(statuses) == [101, 101, 401, 503, 503]


async def test_who_was_turned_away_keeps_the_place_until_the_link_is_closed(autojump_clock):
    """A stranger that says nothing to our goodbye is still there."""
    async with open_world(limited(connections=1)) as world, world.open_scripted_client() as stranger:
        await stranger.upgrade()
        await stranger.say(Frame.text('{"seq": 1, "action": "authentication_challenge", "data": {"token": 1}}'))
        await stranger.hear()
        assert await stranger.hear() == Frame.close(CloseCode.NOT_AUTHENTICATED, "the token is not known")
        assert (await refused(world)).status == 503
        await trio.sleep(6)
        async with world.open_link():
            pass


# -- arriving


async def refused(world: World, **asked) -> Refused:
    with pytest.raises(Refused) as caught:
        async with world.open_link(**asked):
            raise AssertionError("let in")
    return caught.value


async def test_so_many_come_at_once_and_the_others_a_little_later(autojump_clock):
    headers = {"Authorization": "Bearer ann"}
    async with open_world(limited(arrivals=Rate(2))) as world:
        for _ in range(2):
            async with world.open_link(headers=headers):
                pass
        refusal = await refused(world, headers=headers)
        assert (refusal.status, refusal.headers["retry-after"]) == (503, "5")
        await trio.sleep(0.6)
        async with world.open_link(headers=headers):
            pass
        assert world.server.hub.statistics().refused == 1


def test_addresses_that_count_as_one():
    from trio_hub.hub.roster import _area_of

    assert _area_of("192.0.2.1") == "192.0.2.1"
    assert _area_of("2001:db8:1:2:3::4") == _area_of("2001:db8:1:2::") != _area_of("2001:db8:1:3::")
    assert _area_of("fe80::1%eth0") == _area_of("fe80::2")


async def test_so_many_connections_from_one_address_and_none_more_behind_our_proxy():
    """On a real socket: addresses are the system's."""
    server = limited(connections_of_address=2)
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(server.serve, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws"

        def come_from(address: str):
            return open_link(url, headers={"Authorization": "Bearer ann", "X-Forwarded-For": address})

        async with come_from("192.0.2.1") as one, come_from("192.0.2.1") as two, come_from("192.0.2.2") as other:
            for link in (one, two, other):
                await anext(link)
            with pytest.raises(Refused, match="503"):
                async with come_from("192.0.2.1"):
                    pass
            addresses = sorted(each.address for each in server.hub.connections())
            assert addresses == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]
        server.hub.close(everyone(), CloseReason(CloseCode.NORMAL))
        await wait_all_tasks_blocked()
        async with come_from("192.0.2.1") as link:
            await anext(link)
        tasks.cancel_scope.cancel()


async def test_places_on_the_way_in_are_counted_and_given_back():
    roster = limited(connections=100_000).hub.roster
    others = [roster.take_place(None, f"10.0.{n >> 8}.{n & 255}") for n in range(1000)]
    assert roster._strangers.total() == roster._stranger_count == 1000
    for give_back in others:
        give_back()
    assert roster._strangers.total() == roster._stranger_count == 0
