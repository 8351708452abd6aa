"""What becomes of sessions and tickets at one node becomes of them at all."""

import json

import attrs
import pytest
import trio

from tests.cluster.several import open_nodes
from trio_hub.app.presence import PresenceOptions
from trio_hub.app.statuses import Status
from trio_hub.app.tickets import TicketOffice
from trio_hub.errors import Closed, Refused
from trio_hub.messages import Event
from trio_hub.session import Session
from trio_hub.targets import topic, user


async def test_who_is_revoked_at_one_node_is_gone_at_all(autojump_clock):
    async with (
        open_nodes("a", "b") as (_, (a, b)),
        b.open_client(token="bob") as bob,
        b.open_client(token="eve") as eve,
    ):
        a.server.sessions.revoke(user("bob"))
        with pytest.raises(Closed, match="4501"):
            await anext(bob)
        await a.server.publish(Event("still"), to=user("eve"))
        assert (await anext(eve)).name == "still"


async def test_a_revocation_reaches_a_node_that_was_cut_off(autojump_clock):
    async with open_nodes("a", "b") as (backplane, (a, b)), b.open_client(token="bob") as bob:
        backplane.cut("b")
        a.server.sessions.revoke(user("bob"))
        await trio.sleep(10)
        assert b.server.hub.connections()
        backplane.mend("b")
        with pytest.raises(Closed, match="4501"), trio.fail_after(1):
            await anext(bob)


async def test_a_revocation_waits_until_it_can_be_told(autojump_clock):
    async with open_nodes("a", "b") as (backplane, (a, b)), b.open_client(token="bob") as bob:
        backplane.cut("a")
        a.server.sessions.revoke(user("bob"))
        await trio.sleep(10)
        backplane.mend("a")
        with pytest.raises(Closed, match="4501"), trio.fail_after(1):
            await anext(bob)


async def test_a_session_is_read_anew_at_all_nodes(autojump_clock):
    async def read(session: Session) -> Session:
        return attrs.evolve(session, claims={"topics": ["secret"]})

    def topics_of(session: Session) -> list[str]:
        return list(session.claims.get("topics", []))

    nodes = open_nodes("a", "b", read_session=read, topics_of=topics_of)
    async with nodes as (_, (a, b)), b.open_client(token="bob") as bob:
        await a.server.sessions.invalidate(user("bob"))
        await trio.sleep(0.1)
        await a.server.publish(Event("psst"), to=topic("secret"))
        assert (await anext(bob)).name == "psst"


async def test_a_ticket_of_one_node_is_good_at_another_and_once(autojump_clock):
    one, other = TicketOffice(), TicketOffice()
    b_alone = open_nodes("b", tickets=one)
    async with b_alone as (backplane, (b,)), open_nodes("c", backplane=backplane, tickets=other) as (_, (c,)):
        ticket = await one.issue(Session("zoe"))
        async with c.open_link(f"/ws?ticket={ticket}") as link:
            assert json.loads(await anext(link))["event"] == "hello"
            assert [each.user for each in c.server.hub.connections()] == ["zoe"]
        with pytest.raises(Refused, match="401"):
            async with b.open_link(f"/ws?ticket={ticket}"):
                pass


async def test_a_deaf_node_says_so(autojump_clock):
    async with open_nodes("a", "b") as (backplane, (_, b)):
        assert not b.server.relay.health().is_deaf
        backplane.cut("b")
        await trio.sleep(5)
        assert b.server.relay.health().is_deaf
        async with b.open_scripted_client() as client:
            await client.say_raw(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            answer = await client.stream.receive_some(1000)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"hears no other nodes" in answer
        backplane.mend("b")
        await trio.sleep(5)
        assert not b.server.relay.health().is_deaf


async def test_many_statuses_push_out_no_revocation(autojump_clock, caplog):
    presence = PresenceOptions()
    async with open_nodes("a", "b", presence=presence) as (backplane, (a, b)), b.open_client(token="bob") as bob:
        await bob.connected()
        backplane.cut("a")
        a.server.sessions.revoke(user("bob"))
        for number in range(10_001):
            a.server.presence.set_status("ann", Status.DND if number % 2 else Status.AWAY)
        backplane.mend("a")
        await trio.sleep(10)
        assert not b.server.hub.connections(user("bob"))
        assert caplog.text.count("never know") == 1
