"""The door: who is let in, who is not and how they are told, and how everybody leaves."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub.app.auth import known_tokens
from trio_hub.errors import LinkLost, Misuse, Refused
from trio_hub.link.dialing import open_link
from trio_hub.link.link import Link
from trio_hub.link.listening import open_unix_listener
from trio_hub.link.opening import request_link
from trio_hub.messages import Event
from trio_hub.options import HubOptions, LinkOptions, OpeningOptions
from trio_hub.server import Server
from trio_hub.session import Credentials, Session
from trio_hub.targets import everyone, topic
from trio_hub.testing import Cable, World, open_world

V1 = ["trio-hub.v1.json"]
TOKENS = known_tokens({"ann's": "ann", "bob's": "bob"})


async def say(link: Link, seq: int, action: str, **data) -> None:
    await link.send(json.dumps({"seq": seq, "action": action, "data": data}))


async def prove(link: Link, seq: int, token: str) -> None:
    await say(link, seq, "authentication_challenge", token=token)


class Ear:
    """Hears what comes on a link, one object after the other."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def next(self) -> dict:
        with trio.fail_after(30):
            return json.loads(await anext(self._link))

    async def hello(self) -> dict:
        said = await self.next()
        assert said["event"] == "hello", said
        return said["data"]

    async def end(self) -> tuple[int, str]:
        """Return the code and reason with which the link ends; nothing else may come."""
        with trio.fail_after(30), pytest.raises(LinkLost) as caught:
            pytest.fail(f"heard {await self._link.receive()}")
        return caught.value.close.code, caught.value.close.reason


async def refused(world: World, resource: str = "/ws", **asked) -> Refused:
    """Ask for a link, and return the refusal."""
    with pytest.raises(Refused) as caught:
        async with world.open_link(resource, **asked):
            raise AssertionError("let in")
    return caught.value


# -- refusals at the upgrade


async def test_another_path_is_404(autojump_clock):
    async with open_world() as world:
        for resource in ("/", "/ws/", "/WS", "/elsewhere?x=/ws"):
            refusal = await refused(world, resource)
            assert refusal.status == 404
            assert b"/api/v4/websocket, /ws" in refusal.body


@pytest.mark.parametrize("path", ["/ws", "/api/v4/websocket", "/ws?x=1&connection_id=&sequence_number=0"])
async def test_the_known_paths_are_served(path, autojump_clock):
    async with open_world() as world, world.open_link(path) as link:
        assert len((await Ear(link).hello())["connection_id"]) == 26


async def test_an_application_chooses_its_paths(autojump_clock):
    async with open_world(paths=["/live"]) as world:
        assert (await refused(world, "/ws")).status == 404
        async with world.open_link("/live") as link:
            await Ear(link).hello()


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://memory.evil.example",
        "http://evil.example/memory",
        "null",
        "memory",
        "http://memory:81",
        "http://[",
        "http://user@memory",
        "https://friend.example.evil.example",
        "http://friend.example",
        "",
    ],
)
async def test_pages_of_other_origins_are_403(origin, autojump_clock):
    async with open_world(origins=["https://friend.example"]) as world:
        assert (await refused(world, headers={"Origin": origin})).status == 403


@pytest.mark.parametrize("origin", ["http://memory", "https://memory", "https://friend.example"])
async def test_pages_of_our_own_host_and_of_listed_origins_may_connect(origin, autojump_clock):
    async with (
        open_world(origins=["https://friend.example"]) as world,
        world.open_link(headers={"Origin": origin}) as link,
    ):
        await Ear(link).hello()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("connection_id=short", b"connection_id"),
        ("connection_id=" + "A" * 26, b"connection_id"),
        ("connection_id=" + "a" * 27, b"connection_id"),
        ("connection_id=" + "a" * 25 + "%0a", b"connection_id"),
        ("connection_id=" + "a" * 26 + "&sequence_number=-1", b"sequence_number"),
        ("connection_id=" + "a" * 26 + "&sequence_number=1.0", b"sequence_number"),
        ("connection_id=" + "a" * 26 + "&sequence_number=", b"sequence_number"),
        ("connection_id=" + "a" * 26 + "&sequence_number=" + "9" * 17, b"sequence_number"),
        ("sequence_number=%D9%A1", b"sequence_number"),
        ("sequence_number=x", b"sequence_number"),
        ("topics=" + "x" * 201, b"topic"),
        ("topics=a%00b", b"topic"),
        ("topics=" + ",".join("abcd"), b"3 topics"),
        ("topics=a,b&topics=c,d", b"3 topics"),
    ],
)
async def test_a_malformed_query_is_400(query, words, autojump_clock):
    async with open_world(options=HubOptions(topics=3)) as world:
        refusal = await refused(world, f"/ws?{query}")
        assert refusal.status == 400
        assert words in refusal.body


async def test_a_token_nobody_knows_is_401(autojump_clock):
    async with open_world(authenticate=TOKENS) as world:
        for token in ("eve's", "ann'", "ann's ann's"):
            refusal = await refused(world, headers={"Authorization": f"Bearer {token}"})
            assert refusal.status == 401
            assert refusal.headers["www-authenticate"] == "Bearer"
        assert world.server.hub.statistics().index.connections == 0


async def test_a_known_token_is_let_in_and_says_who_it_is(autojump_clock):
    async with (
        open_world(authenticate=TOKENS) as world,
        world.open_link(headers={"Authorization": "Bearer bob's"}) as link,
    ):
        await Ear(link).hello()
        assert [connection.user for connection in world.server.hub.connections()] == ["bob"]


async def test_one_connection_too_many_is_503(autojump_clock):
    async with (
        open_world(options=HubOptions(connections=2)) as world,
        world.open_link() as one,
        world.open_link() as two,
    ):
        await Ear(one).hello()
        await Ear(two).hello()
        refusal = await refused(world)
        assert refusal.status == 503
        assert int(refusal.headers["retry-after"]) > 0


async def test_a_topic_without_right_is_403(autojump_clock):
    def only_ann(session: Session, name: str) -> bool:
        return session.user == "ann" or name == "town"

    async with open_world(authenticate=TOKENS, may_subscribe=only_ann) as world:
        refusal = await refused(world, "/ws?topics=town,secret", headers={"Authorization": "Bearer bob's"})
        assert refusal.status == 403
        assert b"'secret'" in refusal.body
        for resource, token in [("/ws?topics=town,secret", "ann's"), ("/ws?topics=town", "bob's")]:
            async with world.open_link(resource, headers={"Authorization": f"Bearer {token}"}) as link:
                await Ear(link).hello()


async def test_an_authenticate_that_raises_is_500_and_logged(autojump_clock, caplog):
    async def broken(credentials: Credentials) -> Session:
        raise ZeroDivisionError("the database is gone")

    async with open_world(authenticate=broken) as world:
        refusal = await refused(world)
        assert refusal.status == 500
        assert b"database" not in refusal.body
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


async def test_a_wrong_upgrade_is_400_or_426(autojump_clock):
    async with open_world() as world:
        for version, status in [("8", 426), ("13", 400)]:
            async with world.open_scripted_client() as client:
                wrong = {"Sec-WebSocket-Version": version, "Sec-WebSocket-Key": "short"}
                assert (await client.upgrade(headers=wrong)).status == status


async def test_authenticate_is_shown_headers_and_query(autojump_clock):
    shown = []

    async def look(credentials: Credentials) -> Session:
        shown.append(credentials)
        return Session("ann")

    async with (
        open_world(authenticate=look) as world,
        world.open_link("/ws?ticket=abc", headers={"Cookie": "id=1"}) as link,
    ):
        await Ear(link).hello()
    (credentials,) = shown
    assert credentials.token is None
    assert credentials.headers["cookie"] == "id=1"
    assert credentials.query["ticket"] == ["abc"]


# -- heads that are never finished


async def raw(world: World, said: bytes) -> Cable:
    cable = Cable()
    world.reach(cable.far)
    await cable.near.send_all(said)
    return cable


async def all_of(stream: trio.abc.Stream) -> bytes:
    parts = []
    while data := await stream.receive_some():
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("said", [b"", b"GET /ws HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_is_not_finished_in_time_is_408(said, autojump_clock):
    async with open_world(options=HubOptions(opening=OpeningOptions(deadline=7))) as world:
        cable = await raw(world, said)
        answer = await all_of(cable.near)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert trio.current_time() == pytest.approx(7)


async def test_a_stranger_is_answered_once_however_long_it_stays(autojump_clock):
    async with open_world() as world:
        before = trio.lowlevel.current_statistics().tasks_living
        cable = await raw(world, b"nonsense\r\n\r\n")
        answer = await all_of(cable.near)
        autojump_clock.jump(60)
        await wait_all_tasks_blocked()
        autojump_clock.jump(60)
        await wait_all_tasks_blocked()
        answer += await all_of(cable.near)
        assert answer.count(b"HTTP/1.1") == 1
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_an_upgrade_whose_authentication_takes_too_long_is_cut_off(autojump_clock):
    async def slow(credentials: Credentials) -> Session:
        await trio.sleep_forever()

    async with open_world(authenticate=slow) as world:
        with pytest.raises(LinkLost):
            async with world.open_link():
                raise AssertionError
        assert trio.current_time() == pytest.approx(10)


async def test_a_stranger_who_leaves_midway_leaves_nothing(autojump_clock, caplog):
    async with open_world() as world:
        before = trio.lowlevel.current_statistics().tasks_living
        (await raw(world, b"GET / HT")).near.hang_up()
        (await raw(world, b"GET / HT")).cut()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
    assert not caplog.records


# -- the challenge


async def test_who_shows_nothing_is_asked_in_band(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        ear = Ear(link)
        await wait_all_tasks_blocked()
        assert world.server.hub.statistics().index.connections == 0
        await prove(link, 1, "ann's")
        assert await ear.next() == {"status": "OK", "seq_reply": 1}
        await ear.hello()
        assert [connection.user for connection in world.server.hub.connections()] == ["ann"]
        await say(link, 2, "ping")
        assert (await ear.next())["data"]["text"] == "pong"


async def test_a_challenge_that_comes_late_is_4500(autojump_clock):
    async with (
        open_world(authenticate=TOKENS, options=HubOptions(authenticate_within=4)) as world,
        world.open_link() as link,
    ):
        assert await Ear(link).end() == (4500, "no authentication_challenge came in time")
        assert trio.current_time() == pytest.approx(4)


async def test_a_bad_token_is_a_fail_and_then_4500(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        ear = Ear(link)
        await prove(link, 1, "eve's")
        reply = await ear.next()
        assert (reply["status"], reply["seq_reply"], reply["error"]["status_code"]) == ("FAIL", 1, 401)
        assert (await ear.end())[0] == 4500
        assert trio.current_time() < 1


@pytest.mark.parametrize("data", [{}, {"token": 5}, {"token": None}, None, "ann's"])
async def test_a_challenge_of_the_wrong_form_is_a_fail_and_then_4500(data, autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        ear = Ear(link)
        await link.send(json.dumps({"seq": 1, "action": "authentication_challenge", "data": data}))
        assert (await ear.next())["error"]["status_code"] == 400
        assert (await ear.end())[0] == 4500


async def test_other_requests_before_the_challenge_get_401_at_once(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        ear = Ear(link)
        await say(link, 1, "ping")
        await link.send('{"seq": 2, "action": 5}')
        for seq in (1, 2):
            reply = await ear.next()
            assert (reply["seq_reply"], reply["error"]["status_code"]) == (seq, 401)
        await prove(link, 3, "ann's")
        assert await ear.next() == {"status": "OK", "seq_reply": 3}
        await ear.hello()


async def test_messages_behind_the_challenge_in_the_same_read_are_carried_out(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        ear = Ear(link)
        for seq, action, data in [
            (1, "ping", {}),
            (2, "authentication_challenge", {"token": "ann's"}),
            (3, "subscribe", {"topic": "town"}),
            (4, "ping", {}),
        ]:
            link.post(json.dumps({"seq": seq, "action": action, "data": data}))
        link.writer.flush()
        assert (await ear.next())["error"]["status_code"] == 401
        assert (await ear.next())["seq_reply"] == 2
        await ear.hello()
        assert [(await ear.next())["seq_reply"] for _ in range(2)] == [3, 4]
        (connection,) = world.server.hub.connections()
        assert connection.topics == {"town"}


async def test_a_batch_with_the_challenge_in_it_is_carried_out_once(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link(subprotocols=V1) as link:
        ear = Ear(link)
        batch = [
            {"seq": 1, "action": "ping"},
            {"seq": 2, "action": "authentication_challenge", "data": {"token": "ann's"}},
            {"seq": 3, "action": "subscribe", "data": {"topic": "town"}},
            {"seq": 4, "action": 5},
            {"seq": 5, "action": "ping"},
        ]
        await link.send(json.dumps(batch))
        await say(link, 6, "ping")
        heard = []
        while not heard or heard[-1].get("seq_reply") != 6:
            heard.append(await ear.next())
        replies = [(said["seq_reply"], said["status"]) for said in heard if "seq_reply" in said]
        assert sorted(replies) == [(1, "FAIL"), (2, "OK"), (3, "OK"), (4, "FAIL"), (5, "OK"), (6, "OK")]


async def test_nonsense_behind_the_challenge_is_a_fault_of_one_who_was_let_in(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        ear = Ear(link)
        link.post(json.dumps({"seq": 1, "action": "authentication_challenge", "data": {"token": "ann's"}}))
        link.post("nonsense")
        link.writer.flush()
        assert await ear.next() == {"status": "OK", "seq_reply": 1}
        await ear.hello()
        assert (await ear.end())[0] == 1007


@pytest.mark.parametrize(("nonsense", "code"), [("nonsense", 1007), ("[]", 1003), (b"\x00", 1003), ('{"a": 1}', 1003)])
async def test_nonsense_instead_of_the_challenge_ends_the_link(nonsense, code, autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        await link.send(nonsense)
        assert (await Ear(link).end())[0] == code


async def test_who_leaves_instead_of_answering_the_challenge_leaves_nothing(autojump_clock, caplog):
    async with open_world(authenticate=TOKENS) as world:
        before = trio.lowlevel.current_statistics().tasks_living
        cable = Cable()
        world.reach(cable.far)
        await request_link(cable.near, host="memory", resource="/ws")
        cable.cut()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
    assert not caplog.records


async def test_pings_are_answered_while_the_challenge_is_awaited(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        link.probe()
        with trio.move_on_after(1):
            await link.receive()
        assert link.heard


async def test_a_topic_without_right_is_1008_after_the_challenge(autojump_clock):
    async with (
        open_world(authenticate=TOKENS, may_subscribe=lambda session, name: False) as world,
        world.open_link("/ws?topics=secret") as link,
    ):
        ear = Ear(link)
        await prove(link, 1, "ann's")
        assert (await ear.next())["status"] == "OK"
        assert await ear.end() == (1008, "You may not subscribe to 'secret'")


async def test_an_authenticate_that_raises_in_band_is_1011_and_logged(autojump_clock, caplog):
    async def broken(credentials: Credentials) -> Session | None:
        if credentials.token is not None:
            raise ZeroDivisionError
        return None

    async with open_world(authenticate=broken) as world, world.open_link() as link:
        await prove(link, 1, "ann's")
        assert (await Ear(link).end())[0] == 1011
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


async def test_a_peer_that_reads_no_replies_gets_not_past_the_challenge(autojump_clock):
    options = HubOptions(link=LinkOptions(owed_size=1000, close_timeout=1))
    async with open_world(authenticate=TOKENS, options=options) as world:
        before = trio.lowlevel.current_statistics().tasks_living
        cable = Cable(capacity=2000)
        world.reach(cable.far)
        link = await request_link(cable.near, host="memory", resource="/ws")
        async with trio.open_nursery() as tasks:
            tasks.start_soon(link.writer.run)
            for seq in range(1, 100):
                link.post(json.dumps({"seq": seq, "action": "ping"}))
            link.post(json.dumps({"seq": 100, "action": "authentication_challenge", "data": {"token": "ann's"}}))
            link.writer.flush()
            autojump_clock.jump(0)
            with trio.move_on_after(60):
                await trio.sleep_forever()
            tasks.cancel_scope.cancel()
        assert world.server.hub.statistics().index.connections == 0
        assert trio.lowlevel.current_statistics().tasks_living == before
        cable.near.hang_up()


async def test_a_second_challenge_is_answered_by_who_one_is(autojump_clock):
    async with (
        open_world(authenticate=TOKENS) as world,
        world.open_link(headers={"Authorization": "Bearer ann's"}) as link,
    ):
        ear = Ear(link)
        await ear.hello()
        for seq, (token, status) in enumerate([("ann's", "OK"), ("bob's", "FAIL"), ("eve's", "FAIL")], 1):
            await prove(link, seq, token)
            reply = await ear.next()
            assert (reply["seq_reply"], reply["status"]) == (seq, status)
        (connection,) = world.server.hub.connections()
        assert connection.user == "ann"


# -- resuming


async def connect_once(world: World, token: str = "ann's") -> str:
    """Connect, and be cut off; return the connection id to be resumed."""
    cable = Cable()
    async with world.open_link(headers={"Authorization": f"Bearer {token}"}, cable=cable) as link:
        id = (await Ear(link).hello())["connection_id"]
        cable.cut()
    await wait_all_tasks_blocked()
    return id


async def test_a_resume_is_decided_only_after_the_challenge(autojump_clock):
    async with open_world(authenticate=TOKENS) as world:
        id = await connect_once(world)
        await world.server.publish(Event("missed"), to=everyone())
        async with world.open_link(f"/ws?connection_id={id}&sequence_number=1") as link:
            ear = Ear(link)
            with trio.move_on_after(1) as silence:
                await link.receive()
            assert silence.cancelled_caught, "nothing is said to a stranger"
            await prove(link, 1, "ann's")
            assert (await ear.next())["status"] == "OK"
            missed = await ear.next()
            assert (missed["event"], missed["seq"]) == ("missed", 1)


async def test_nobody_resumes_the_connection_of_somebody_else(autojump_clock):
    async with open_world(authenticate=TOKENS) as world:
        id = await connect_once(world)
        async with world.open_link(f"/ws?connection_id={id}&sequence_number=1") as link:
            ear = Ear(link)
            await prove(link, 1, "bob's")
            assert (await ear.next())["status"] == "OK"
            hello = await ear.hello()
            assert hello["connection_id"] != id
            assert hello["gap"]["reason"] == "unknown"


async def test_a_resume_that_asks_for_too_many_topics_is_told_and_let_go(autojump_clock):
    async with open_world(authenticate=TOKENS, options=HubOptions(topics=2)) as world:
        headers = {"Authorization": "Bearer ann's"}
        cable = Cable()
        async with world.open_link("/ws?topics=a,b", headers=headers, cable=cable) as link:
            id = (await Ear(link).hello())["connection_id"]
            cable.cut()
        await wait_all_tasks_blocked()
        resource = f"/ws?topics=c&connection_id={id}&sequence_number=1"
        async with world.open_link(resource, headers=headers) as link:
            assert (await Ear(link).end())[0] == 1008


# -- topics, spellings


async def test_topics_in_the_query_are_heard_from_the_first_moment(autojump_clock):
    async with open_world() as world, world.open_link("/ws?topics=town,caf%C3%A9&topics=%20x") as link:
        ear = Ear(link)
        await ear.hello()
        for name in ("town", "café", " x"):
            await world.server.publish(Event("news"), to=topic(name))
            assert (await ear.next())["broadcast"] == {"topic": name}
        await world.server.publish(Event("news"), to=topic("elsewhere"))
        await world.server.publish(Event("over"), to=everyone())
        assert (await ear.next())["event"] == "over"


async def test_topics_in_the_query_are_heard_after_a_challenge_too(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link("/ws?topics=town") as link:
        ear = Ear(link)
        await prove(link, 1, "ann's")
        await ear.next()
        await ear.hello()
        await world.server.publish(Event("news"), to=topic("town"))
        assert (await ear.next())["event"] == "news"


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [([], None), (V1, V1[0]), (["other", *V1], V1[0]), (["other"], None)],
    ids=["none", "v1", "v1 among others", "others"],
)
async def test_the_first_spelling_we_know_is_spoken(offered, agreed, autojump_clock):
    async with open_world() as world, world.open_link(subprotocols=offered) as link:
        assert link.subprotocol == agreed
        assert ("seq" in await Ear(link).next()) is (agreed is None)


# -- listening


def port_of(listeners) -> int:
    listener = listeners[0]
    while isinstance(listener, trio.SSLListener):
        listener = listener.transport_listener
    return listener.socket.getsockname()[1]


@asynccontextmanager
async def served(server: Server, *arguments, **more):
    """Serve for the length of the block; yield the listeners and the nursery it is served in."""
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(partial(server.serve, *arguments, **more))
        yield listeners
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", None, "example.org", "192.0.2.1", "127.0.0.1.example.org", ""])
async def test_guests_from_other_machines_are_a_misuse(host):
    with pytest.raises(Misuse, match="guests"):
        await Server().serve(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
async def test_guests_of_this_machine_are_served(host):
    async with served(Server(), host) as listeners:
        assert port_of(listeners)


async def test_with_an_authenticate_every_interface_may_be_served():
    async with (
        served(Server(authenticate=TOKENS), None) as listeners,
        open_link(f"ws://127.0.0.1:{port_of(listeners)}/ws", headers={"Authorization": "Bearer ann's"}) as link,
    ):
        await Ear(link).hello()


async def test_a_port_that_is_taken_is_a_misuse():
    async with served(Server()) as listeners:
        with pytest.raises(Misuse, match="in use"):
            await Server().serve("127.0.0.1", port_of(listeners))


async def test_a_real_socket_is_served_from_the_upgrade_to_the_goodbye():
    server = Server()
    async with served(server) as listeners:
        async with open_link(f"ws://127.0.0.1:{port_of(listeners)}/ws?topics=town") as link:
            ear = Ear(link)
            await ear.hello()
            await server.publish(Event("news", {"n": 1}), to=topic("town"))
            assert (await ear.next())["data"] == {"n": 1}
            await say(link, 1, "ping")
            assert (await ear.next())["seq_reply"] == 1
        assert link.closed.code == 1000


async def test_a_challenge_over_a_real_socket_is_answered():
    async with (
        served(Server(authenticate=TOKENS)) as listeners,
        open_link(f"ws://127.0.0.1:{port_of(listeners)}/ws") as link,
    ):
        ear = Ear(link)
        await say(link, 1, "ping")
        assert (await ear.next())["error"]["status_code"] == 401
        await prove(link, 2, "ann's")
        assert (await ear.next())["status"] == "OK"
        await ear.hello()


async def test_unix_sockets_are_served(tmp_path):
    listener = await open_unix_listener(tmp_path / "hub.sock")
    async with served(Server(), listeners=[listener]):
        stream = await trio.open_unix_socket(tmp_path / "hub.sock")
        async with (await request_link(stream, host="unix", resource="/ws")).running() as link:
            await Ear(link).hello()


async def test_tls_is_served_challenge_included(tls):
    server_context, client_context = tls
    server = Server(authenticate=TOKENS)
    async with served(server, ssl_context=server_context) as listeners:
        url = f"wss://127.0.0.1:{port_of(listeners)}/ws"
        async with open_link(url, ssl_context=client_context) as link:
            ear = Ear(link)
            await say(link, 1, "ping")
            assert (await ear.next())["error"]["status_code"] == 401
            await prove(link, 2, "ann's")
            assert (await ear.next())["status"] == "OK"
            await ear.hello()
            await server.publish(Event("news", {"text": "x" * 200_000}), to=everyone())
            assert (await ear.next())["event"] == "news"
        with pytest.raises(Refused) as caught:
            async with open_link(url, ssl_context=client_context, headers={"Authorization": "Bearer eve's"}):
                raise AssertionError
        assert caught.value.status == 401


# -- leaving


async def test_drain_tells_everybody_when_to_come_back_and_serve_returns():
    server, done = Server(), trio.Event()
    told = []

    async def serve(task_status) -> None:
        await server.serve(task_status=task_status)
        done.set()

    async def stay(port: int, ready: trio.Event) -> None:
        async with open_link(f"ws://127.0.0.1:{port}/ws") as link:
            ear = Ear(link)
            await ear.hello()
            ready.set()
            told.append(await ear.end())

    async with trio.open_nursery() as tasks:
        port = port_of(await tasks.start(lambda task_status: serve(task_status)))
        for _ in range(5):
            ready = trio.Event()
            tasks.start_soon(stay, port, ready)
            await ready.wait()
        with trio.fail_after(4):
            await server.drain(deadline=5, spread=3)
            await done.wait()
    assert [code for code, _ in told] == [1012] * 5
    retries = [json.loads(reason)["retry_after"] for _, reason in told]
    assert all(0 <= retry <= 3 for retry in retries)
    assert len(set(retries)) > 1, "each at a time of its own"
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_drain_takes_no_longer_than_its_deadline(autojump_clock):
    options = HubOptions(link=LinkOptions(close_timeout=60))
    async with open_world(options=options) as world:
        cable = Cable()
        world.reach(cable.far)
        await request_link(cable.near, host="memory", resource="/ws")
        await wait_all_tasks_blocked()
        await world.server.drain(deadline=3)
        assert trio.current_time() == pytest.approx(3)
        cable.cut()


async def test_drain_ends_those_who_are_away(autojump_clock):
    async with open_world(authenticate=TOKENS) as world:
        await connect_once(world)
        assert world.server.hub.statistics().index.connections == 1
        await world.server.drain(deadline=3)
        await wait_all_tasks_blocked()
        assert world.server.hub.statistics().index.connections == 0
        assert trio.current_time() < 1


async def test_who_proves_themselves_during_a_drain_is_told_too(autojump_clock):
    async with open_world(authenticate=TOKENS) as world, world.open_link() as link:
        await wait_all_tasks_blocked()
        ear = Ear(link)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(world.server.drain)
            await wait_all_tasks_blocked()
            await prove(link, 1, "ann's")
            assert (await ear.next())["status"] == "OK"
            await ear.hello()
            assert (await ear.end())[0] == 1012


async def test_a_stranger_who_comes_during_a_drain_is_503(autojump_clock):
    async with open_world() as world:
        await world.server.drain()
        refusal = await refused(world)
        assert refusal.status == 503
        assert int(refusal.headers["retry-after"]) > 0


async def test_when_cancelled_every_link_is_cut():
    server = Server()
    async with trio.open_nursery() as outer:
        serving = trio.CancelScope()

        async def serve(task_status) -> None:
            with serving:
                await server.serve(task_status=task_status)

        port = port_of(await outer.start(lambda task_status: serve(task_status)))
        async with open_link(f"ws://127.0.0.1:{port}/ws") as link:
            ear = Ear(link)
            await ear.hello()
            serving.cancel()
            assert (await ear.end())[0] in (1001, 1006)


async def test_one_failing_stream_ends_no_other(autojump_clock, caplog):
    class Broken(trio.abc.Stream):
        async def send_all(self, data) -> None:
            raise ZeroDivisionError

        async def wait_send_all_might_not_block(self) -> None: ...

        async def receive_some(self, max_bytes=None) -> bytes:
            raise ZeroDivisionError

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    class Door(trio.abc.Listener[trio.abc.Stream]):
        def __init__(self) -> None:
            self.knock, self.door = trio.open_memory_channel[trio.abc.Stream](10)

        async def accept(self) -> trio.abc.Stream:
            return await self.door.receive()

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    door = Door()
    async with served(Server(), listeners=[door]):
        cable = Cable()
        door.knock.send_nowait(cable.far)
        async with (await request_link(cable.near, host="memory", resource="/ws")).running() as link:
            ear = Ear(link)
            await ear.hello()
            door.knock.send_nowait(Broken())
            await wait_all_tasks_blocked()
            await say(link, 1, "ping")
            assert (await ear.next())["seq_reply"] == 1
    assert [record.exc_info[0] for record in caplog.records if record.levelno >= logging.ERROR] == [ZeroDivisionError]


async def test_basic_credentials_are_no_token(autojump_clock):
    basic = base64.b64encode(b"ann:ann's").decode()
    async with (
        open_world(authenticate=TOKENS) as world,
        world.open_link(headers={"Authorization": f"Basic {basic}"}) as link,
    ):
        await prove(link, 1, "ann's")
        assert (await Ear(link).next())["status"] == "OK"


async def test_guests_call_this_machine_by_its_own_name():
    """A page may have a name of its own lead to this machine; its browser then calls us by that name."""
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(Server().serve)
        port = listener.socket.getsockname()[1]
        names = [("localhost", 101), ("127.0.0.1", 101), ("evil.example", 403), ("[", 403), ("[::1]", 101)]
        for host, status in [(f"{name}:{port}", status) for name, status in names]:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            lines = [
                "GET /ws HTTP/1.1",
                f"Host: {host}",
                f"Origin: http://{host}",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ]
            await stream.send_all("\r\n".join([*lines, "", ""]).encode())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 %d" % status)
            await trio.aclose_forcefully(stream)
        tasks.cancel_scope.cancel()


async def test_guests_are_not_served_on_listeners_for_others():
    listeners = await trio.open_tcp_listeners(0, host="0.0.0.0")
    with pytest.raises(Misuse, match=r"0\.0\.0\.0"):
        await Server().serve(listeners=listeners)
    for listener in listeners:
        await listener.aclose()


async def test_a_drain_does_not_wait_for_strangers(autojump_clock):
    async with open_world() as world:
        cable = Cable()
        world.reach(cable.far)
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        await world.server.drain(deadline=5)
        assert trio.current_time() - begun < 1


async def test_a_drain_writes_what_is_owed_first(autojump_clock):
    async with open_world() as world, world.open_link("/ws?topics=town") as slow:
        await slow.receive()
        for n in range(500):
            await world.server.publish(Event("tick", {"n": n, "big": "x" * 1000}), to=topic("town"))
        (connection,) = world.server.hub.connections()
        assert connection.outbox.statistics().owed_count > 0  # more than the cable holds
        heard = []
        async with trio.open_nursery() as tasks:
            tasks.start_soon(partial(world.server.drain, deadline=10))
            heard += [json.loads(message)["data"]["n"] async for message in slow]
        assert heard == list(range(500))
        assert slow.closed.code == 1012


async def test_a_drain_does_not_wait_for_ever_for_who_does_not_read(autojump_clock):
    async with open_world() as world, world.open_link("/ws?topics=town") as stuck, world.open_link() as other:
        await stuck.receive()
        await other.receive()
        for n in range(500):
            await world.server.publish(Event("tick", {"n": n, "big": "x" * 1000}), to=topic("town"))
        begun = trio.current_time()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(partial(world.server.drain, deadline=10))
            with pytest.raises(LinkLost) as caught:
                await other.receive()
            assert caught.value.close.code == 1012
            assert trio.current_time() - begun == pytest.approx(5, abs=0.1)
        assert trio.current_time() - begun <= 10.1


async def test_what_somebody_says_is_echoed_to_their_other_devices_at_least(autojump_clock):
    async with (
        open_world() as world,
        world.open_client(topics=["town"]) as phone,
        world.open_client(topics=["town"]) as laptop,
    ):
        await phone.publish("town", "said", {"n": 1}, echo=False)
        await phone.publish("town", "said", {"n": 2})
        assert (await phone.receive()).data == {"n": 2}
        assert [(await laptop.receive()).data for _ in range(2)] == [{"n": 1}, {"n": 2}]
