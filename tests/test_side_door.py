"""The side door: plain HTTP beside the WebSockets, for back ends and for whoever watches over us."""

from __future__ import annotations

import http.client
import json
from functools import partial

import h11
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub.app.auth import by_cookie, known_tokens
from trio_hub.app.tickets import MemoryTickets, TicketOffice
from trio_hub.errors import Closed, Misuse, Refused, Unreachable
from trio_hub.hub.editors import Editors
from trio_hub.hub.hub import Hub
from trio_hub.link.heads import read_head
from trio_hub.messages import Event
from trio_hub.options import HubOptions, OpeningOptions
from trio_hub.resources import Resources
from trio_hub.server import Server
from trio_hub.session import Credentials, Session
from trio_hub.side_door import SideDoor
from trio_hub.targets import everyone
from trio_hub.testing import Cable, World, open_world

ONE = {"event": "tick", "data": {"n": 1}, "to": "everyone"}


class Caller:
    """Somebody who speaks HTTP over one stream, as carefully as h11 does, or raw."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.parser = h11.Connection(h11.CLIENT)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and return status, headers and body of the answer."""
        all_headers = {"Host": "localhost", **({"Content-Length": str(len(body))} if body else {}), **(headers or {})}
        self.send_event(h11.Request(method=method, target=target, headers=list(all_headers.items())))
        if body:
            self.send_event(h11.Data(data=body))
        self.send_event(h11.EndOfMessage())
        await self.send(self._out)
        return await self.answer()

    _out = b""

    def send_event(self, event: h11.Event) -> None:
        if isinstance(event, h11.Request):
            self._out = b""
        self._out += self.parser.send(event) or b""

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return the next answer, and be ready for another request."""
        body, response = b"", None
        while True:
            event = await self.event()
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise AssertionError(event)
        if self.parser.our_state is self.parser.their_state is h11.DONE:
            self.parser.start_next_cycle()
        return response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body

    async def event(self):
        while (event := self.parser.next_event()) is h11.NEED_DATA:
            self.parser.receive_data(bytes(await self.stream.receive_some()))
        return event

    async def expect_the_end(self) -> None:
        assert await self.stream.receive_some() == b""


def caller(world: World) -> Caller:
    cable = Cable()
    world.reach(cable.far)
    return Caller(cable.near)


async def publish(world: World, what, **headers: str) -> tuple[int, dict]:
    """Post this to /publish; return status and body."""
    body = what if isinstance(what, bytes) else json.dumps(what).encode()
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, answer = await caller(world).ask("POST", "/publish", body, more)
    return status, json.loads(answer)


# -- watching


async def test_healthz_says_ok_and_what_the_hub_holds(autojump_clock):
    async with open_world() as world, world.open_client():
        status, headers, body = await caller(world).ask("GET", "/healthz")
        assert (status, headers["content-type"]) == (200, "application/json")
        health = json.loads(body)
        assert health["status"] == "ok"
        assert health["index"]["connections"] == 1


async def test_a_health_check_by_head_has_no_body(autojump_clock):
    async with open_world() as world:
        anybody = caller(world)
        await anybody.send(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := await anybody.stream.receive_some():
            answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == b""


@pytest.mark.parametrize("target", ["/", "/ws", "/healthz/", "/publish/x", "/HEALTHZ", "/tickets", "*"])
async def test_elsewhere_there_is_nothing(target, autojump_clock):
    async with open_world() as world:
        status, _, body = await caller(world).ask("OPTIONS" if target == "*" else "GET", target)
        assert status == 404
        assert json.loads(body) == {"error": "There is nothing here"}


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/healthz?x", "GET, HEAD"),
        ("GET", "/publish", "POST"),
        ("PUT", "/publish", "POST"),
        ("HEAD", "/publish", "POST"),
    ],
)
async def test_another_method_is_405_and_says_which_is_allowed(method, target, allowed, autojump_clock):
    async with open_world() as world:
        anybody = caller(world)
        await anybody.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await anybody.stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 405")
        assert f"Allow: {allowed}\r\n".encode() in answer


# -- publishing


async def test_one_event_is_published_and_counted(autojump_clock):
    async with open_world() as world, world.open_client() as one, world.open_client() as two:
        assert await publish(world, ONE) == (200, {"offered": 2})
        for client in (one, two):
            event = await client.receive()
            assert (event.name, event.data) == ("tick", {"n": 1})


async def test_an_array_is_published_in_order(autojump_clock):
    async with open_world() as world, world.open_client() as client:
        events = [{"event": "tick", "data": {"n": n}, "to": "everyone"} for n in range(50)]
        assert await publish(world, events) == (200, [{"offered": 1}] * 50)
        assert [(await client.receive()).data["n"] for _ in range(50)] == list(range(50))
        assert await publish(world, b" [] ") == (200, [])


async def test_each_kind_of_target_is_heard_by_those_it_names(autojump_clock):
    async with (
        open_world(authenticate=known_tokens({"a": "ann", "b": "bob"})) as world,
        world.open_client(token="a", topics=["town"]) as ann,
        world.open_client(token="b") as bob,
    ):
        for to, hearers in [
            ("everyone", [ann, bob]),
            ({"topic": "town"}, [ann]),
            ({"user": "bob"}, [bob]),
            ({"connection": ann.position.connection_id}, [ann]),
            ({"user": "eve"}, []),
        ]:
            assert await publish(world, {"event": "said", "to": to}) == (200, {"offered": len(hearers)})
            for hearer in hearers:
                event = await hearer.receive()
                assert (event.name, event.data) == ("said", {})


async def test_a_back_end_says_how_much_an_event_matters(autojump_clock):
    async with open_world() as world, world.open_client() as away:
        away.weather.cut()
        await trio.sleep(1)
        for n, delivery in enumerate(["must", "volatile", {"latest": "k"}, {"latest": "k"}, {"expires": 60}]):
            offered = int(delivery != "volatile")
            event = {"event": "e", "data": n, "to": "everyone", "delivery": delivery}
            assert await publish(world, event) == (200, {"offered": offered})
        away.weather.mend()
        assert [(await away.receive()).data for _ in range(3)] == [0, 3, 4]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"to": "everyone"}, "`event`"),
        ({"event": "tick"}, "`to`"),
        ({"event": 5, "to": "everyone"}, "$.event"),
        ({"event": "tick", "to": 5}, "$.to"),
        ({"event": "tick", "to": "nobody"}, "$.to"),
        ({"event": "tick", "to": {}}, "$.to"),
        ({"event": "tick", "to": {"topic": 5}}, "$.to"),
        ({"event": "tick", "to": {"topic": ""}}, "$.to"),
        ({"event": "tick", "to": {"galaxy": "x"}}, "$.to"),
        ({"event": "tick", "to": {"topic": "a", "user": "b"}}, "$.to"),
        ({"event": "tick", "to": {"topic": "a,b"}}, "$.to"),
        ({"event": "tick", "to": {"topic": "x" * 201}}, "$.to"),
        ([ONE, {"event": 5, "to": "everyone"}], "$[1].event"),
        ([ONE, 5], "$[1]"),
        ([ONE, {"event": "tick", "to": {"galaxy": "x"}}], "$[1].to"),
        ([ONE, {"event": "tick", "to": {"topic": "a,b"}}], "$[1].to"),
        (5, "object"),
        ({**ONE, "delivery": "sometimes"}, "$.delivery"),
        ({**ONE, "delivery": {"expires": -1}}, "$.delivery"),
        ({**ONE, "delivery": {"latest": 5}}, "$.delivery"),
        ({**ONE, "delivery": {}}, "$.delivery"),
        ([ONE, {**ONE, "delivery": {"sometimes": "x"}}], "$[1].delivery"),
        ({"event": "hello", "to": "everyone"}, "'hello'"),
        ({"event": "", "to": "everyone"}, "''"),
    ],
)
async def test_a_wrong_form_is_400_names_the_place_and_publishes_nothing(body, place, autojump_clock):
    async with open_world() as world:
        status, answer = await publish(world, body)
        assert status == 400
        assert place in answer["error"]
        assert world.server.hub.statistics().published == 0


async def test_of_an_array_with_a_name_that_cannot_be_nothing_is_published(autojump_clock):
    async with open_world() as world:
        status, answer = await publish(world, [ONE, ONE, {"event": "hello", "to": "everyone"}])
        assert status == 400
        assert "'hello'" in answer["error"]
        assert world.server.hub.statistics().published == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b'{"event":', b'"', b"[1", b'{"event": "\xff", "to": "everyone"}', b"[" * 100_000, b"\x00"],
    ids=["empty", "words", "half", "quote", "half an array", "not UTF-8", "deep", "zero"],
)
async def test_what_is_no_json_is_400(body, autojump_clock):
    async with open_world() as world:
        status, answer = await publish(world, body)
        assert status == 400
        assert answer["error"]


async def test_a_body_as_large_as_allowed_is_taken_and_a_larger_one_is_413(autojump_clock):
    async with open_world(options=HubOptions(opening=OpeningOptions(body_size=1000))) as world:
        body = json.dumps(ONE).encode()
        assert (await publish(world, body + b" " * (1000 - len(body))))[0] == 200
        status, answer = await publish(world, body + b" " * (1001 - len(body)))
        assert status == 413
        assert "1000 bytes" in answer["error"]


async def test_the_answer_to_a_body_far_too_large_arrives_over_a_real_socket():
    server = Server(options=HubOptions(opening=OpeningOptions(body_size=1000)))

    def post(port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", "/publish", b" " * 5_000_000)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(server.serve)
        port = listener.socket.getsockname()[1]
        status, body = await trio.to_thread.run_sync(post, port)
        assert status == 413
        assert b"1000 bytes" in body
        tasks.cancel_scope.cancel()


# -- rights


@pytest.mark.parametrize("key", ["", " "])
def test_an_empty_key_is_none_that_anybody_could_forget_to_set(key):
    with pytest.raises(Misuse, match="empty key"):
        Server(key=key)


async def test_with_a_key_it_must_be_shown_wherever_one_is(autojump_clock):
    async with open_world(key="sesame") as world:
        for wrong in ({}, {"Authorization": "Bearer sesam"}, {"Authorization": "Bearer"}, {"Authorization": "sesame"}):
            status, headers, body = await caller(world).ask("POST", "/publish", b"{}", wrong)
            assert status == 401
            assert headers["www-authenticate"] == "Bearer"
            assert b"sesame" not in body
        assert (await publish(world, ONE, Authorization="Basic sesame"))[0] == 401
        assert (await publish(world, ONE, Authorization="Bearer sesame"))[0] == 200
        assert (await publish(world, ONE, Authorization="bearer  sesame", Origin="https://x", Forwarded="x"))[0] == 200


@pytest.mark.parametrize("name", ["Origin", "Forwarded", "X-Forwarded-For"])
async def test_without_a_key_pages_and_proxies_may_not_publish(name, autojump_clock):
    async with open_world() as world, world.open_client() as client:
        assert (await publish(world, ONE, **{name: "http://memory"}))[0] == 403
        assert (await publish(world, ONE))[0] == 200
        await client.receive()


def side_door_of(hub: Hub) -> SideDoor:
    return SideDoor(Resources(hub, None, 10), OpeningOptions())


async def test_without_a_key_other_machines_may_not_publish(autojump_clock):
    async with open_world() as world:
        for peer, expected in [("", 200), ("192.0.2.1", 403), (None, 403)]:
            cable = Cable()
            door = side_door_of(world.server.hub)
            async with trio.open_nursery() as tasks:
                somebody = Caller(cable.near)

                async def serve(door=door, cable=cable, peer=peer) -> None:
                    head = await read_head(cable.far, OpeningOptions())
                    await door.serve(cable.far, head, peer=peer)

                tasks.start_soon(serve)
                status, _, _ = await somebody.ask("POST", "/publish", json.dumps(ONE).encode())
                assert status == expected
                tasks.cancel_scope.cancel()


async def test_over_loopback_and_tls_one_is_local(tls):
    server_context, client_context = tls
    server = Server()
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(server.serve, ssl_context=server_context))
        port = listener.transport_listener.socket.getsockname()[1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        stream = trio.SSLStream(stream, client_context, server_hostname="127.0.0.1", https_compatible=True)
        status, _, _ = await Caller(stream).ask("POST", "/publish", json.dumps(ONE).encode())
        assert status == 200
        await trio.aclose_forcefully(stream)
        tasks.cancel_scope.cancel()


async def test_nobody_publishes_through_a_hub_that_has_ended(autojump_clock):
    async with open_world() as world:
        hub = world.server.hub
    cable, somebody = Cable(), None
    with pytest.raises(Closed):
        await hub.publish(Event("tick"), to=everyone())
    async with trio.open_nursery() as tasks:
        somebody = Caller(cable.near)

        async def serve() -> None:
            head = await read_head(cable.far, OpeningOptions())
            await side_door_of(hub).serve(cable.far, head, peer="")

        tasks.start_soon(serve)
        status, _, _ = await somebody.ask("POST", "/publish", json.dumps(ONE).encode())
        assert status == 503
        tasks.cancel_scope.cancel()


# -- tickets


KEY = {"Authorization": "Bearer sesame"}


def with_tickets(office: TicketOffice | None = None, **arguments) -> Server:
    return Server(**{"tickets": office or TicketOffice(), "key": "sesame", **arguments})


async def order(world: World, what, headers: dict[str, str] = KEY) -> tuple[int, dict]:
    """Post this to /tickets; return status and body."""
    body = what if isinstance(what, bytes) else json.dumps(what).encode()
    status, _, answer = await caller(world).ask("POST", "/tickets", body, headers)
    return status, json.loads(answer)


async def test_a_ticket_opens_one_link_and_only_one(autojump_clock):
    async with open_world(with_tickets()) as world:
        status, answer = await order(world, {"user": "ann"})
        assert (status, list(answer)) == (200, ["ticket"])
        url = f"/ws?ticket={answer['ticket']}"
        async with world.open_link(url):
            (connection,) = world.server.hub.connections()
            assert connection.session == Session("ann")
            with pytest.raises(Refused, match="401"):
                async with world.open_link(url):
                    pass


async def test_a_ticket_opens_the_session_that_was_ordered(autojump_clock):
    claims = {"role": "editor", "channels": ["town", 5, None, {"a": 1.5}]}
    whole = {"user": "ann", "claims": claims, "session": "phone", "lasts": 90, "extended": True}
    async with open_world(with_tickets()) as world:
        _, answer = await order(world, whole)
        async with world.open_link(f"/ws?ticket={answer['ticket']}"):
            (connection,) = world.server.hub.connections()
            assert connection.session == Session("ann", claims, "phone", 90, True)


async def test_a_ticket_is_good_for_that_page_and_address_alone(autojump_clock):
    office = TicketOffice()
    async with open_world(with_tickets(office)) as world:
        for ordered, headers, address, is_good in [
            ({"origin": "https://example.org"}, {"origin": "https://example.org"}, "", True),
            ({"origin": "https://example.org"}, {"origin": "https://evil.example"}, "", False),
            ({"origin": "https://example.org"}, {}, "", False),
            ({"address": "192.0.2.1"}, {}, "192.0.2.1", True),
            ({"address": "192.0.2.1"}, {}, "192.0.2.2", False),
            ({"address": "2001:DB8:0::1"}, {}, "2001:db8::1", True),
            ({"origin": None, "address": None}, {}, "192.0.2.2", True),
        ]:
            _, answer = await order(world, {"user": "ann", **ordered})
            shown = Credentials(None, headers, {"ticket": [answer["ticket"]]}, address)
            assert (await office.authenticate(shown) is not None) == is_good, ordered


async def test_tickets_are_looked_at_before_anything_else(autojump_clock):
    async def find(value):
        return Session("bob")

    async with open_world(with_tickets(authenticate=by_cookie("sid", find))) as world:
        _, answer = await order(world, {"user": "ann"})
        async with world.open_link(f"/ws?ticket={answer['ticket']}", headers={"Cookie": "sid=x"}):
            (ann,) = world.server.hub.connections()
            async with world.open_link(headers={"Cookie": "sid=x"}):
                assert {each.user for each in world.server.hub.connections()} == {ann.user, "bob"} == {"ann", "bob"}


def test_cookies_and_any_page_are_refused_with_tickets_as_well():
    async def find(value):
        return None

    with pytest.raises(Misuse, match="cookies"):
        with_tickets(authenticate=by_cookie("sid", find), origins=["*"])


async def test_with_tickets_alone_nobody_is_a_guest(autojump_clock):
    async with open_world(with_tickets()) as world:
        async with world.open_link() as link:
            await link.send(json.dumps({"seq": 1, "action": "authentication_challenge", "data": {"token": "x"}}))
            assert json.loads(await anext(link))["error"]["status_code"] == 401
        assert not world.server.hub.connections()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "`user`"),
        ({"user": 5}, "$.user"),
        ({"user": ""}, "$.user"),
        ({"user": "ann", "claims": []}, "$.claims"),
        ({"user": "ann", "claims": None}, "$.claims"),
        ({"user": "ann", "session": 5}, "$.session"),
        ({"user": "ann", "lasts": 0}, "$.lasts"),
        ({"user": "ann", "lasts": -1}, "$.lasts"),
        ({"user": "ann", "lasts": "90"}, "$.lasts"),
        (b'{"user": "ann", "lasts": 1e999}', "$.lasts"),
        ({"user": "ann", "extended": 1}, "$.extended"),
        ({"user": "ann", "origin": 5}, "$.origin"),
        ({"user": "ann", "origin": "example.org"}, "$.origin"),
        ({"user": "ann", "origin": "https://example.org/"}, "$.origin"),
        ({"user": "ann", "address": "example.org"}, "$.address"),
        ({"user": "ann", "address": "192.0.2.0/24"}, "$.address"),
        ({"user": "ann", "adress": "192.0.2.1"}, "`adress`"),
        ([{"user": "ann"}], "array"),
        (5, "object"),
        (b"", ""),
        (b"nonsense", ""),
        (b'{"user": "ann\xff"}', ""),
        (b'{"user": "ann", "claims": {"a": ' + b"[" * 100_000, ""),
    ],
)
async def test_a_wrong_order_is_400_names_the_place_and_issues_nothing(body, place, autojump_clock):
    store = MemoryTickets()
    async with open_world(with_tickets(TicketOffice(store))) as world:
        status, answer = await order(world, body)
        assert status == 400
        assert place in answer["error"]
        assert not store._kept


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer sesam"}, {"Authorization": "sesame"}])
async def test_tickets_are_for_those_who_show_the_key(headers, autojump_clock):
    async with open_world(with_tickets()) as world:
        status, answer = await order(world, {"user": "ann"}, headers)
        assert status == 401
        assert "sesame" not in answer["error"]


async def test_without_a_key_nobody_orders_tickets_on_this_machine_either(autojump_clock):
    async with open_world(with_tickets(key=None)) as world:
        assert (await order(world, {"user": "ann"}))[0] == 403
        assert (await order(world, {"user": "ann"}, {}))[0] == 403


async def test_without_an_office_there_is_nothing(autojump_clock):
    async with open_world(key="sesame") as world:
        assert (await order(world, {"user": "ann"}))[0] == 404


async def test_a_ticket_is_posted_for(autojump_clock):
    async with open_world(with_tickets()) as world:
        status, headers, _ = await caller(world).ask("GET", "/tickets", headers=KEY)
        assert (status, headers["allow"]) == (405, "POST")


async def test_no_cache_keeps_a_ticket(autojump_clock):
    async with open_world(with_tickets()) as world:
        _, headers, _ = await caller(world).ask("POST", "/tickets", b'{"user": "ann"}', KEY)
        assert headers["cache-control"] == "no-store"


async def test_too_many_tickets_are_503_until_some_have_run_out(autojump_clock):
    async with open_world(with_tickets(TicketOffice(MemoryTickets(most=2), lasts=30))) as world:
        assert [(await order(world, {"user": "ann"}))[0] for _ in range(3)] == [200, 200, 503]
        status, headers, _ = await caller(world).ask("POST", "/tickets", b'{"user": "ann"}', KEY)
        assert (status, headers["retry-after"]) == (503, "5")
        await trio.sleep(31)
        assert (await order(world, {"user": "ann"}))[0] == 200


class BrokenTickets(MemoryTickets):
    """A store that cannot be reached, or does not answer."""

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        if b"bob" in value:
            await trio.sleep_forever()
        if b"eve" in value:
            raise Unreachable("away for a moment")
        raise OSError("no database")


async def test_a_store_that_fails_or_hangs_is_told_to_us_and_serves_nobody(autojump_clock, caplog):
    async with open_world(with_tickets(TicketOffice(BrokenTickets()))) as world:
        assert await order(world, {"user": "ann"}) == (500, {"error": "No tickets can be issued at the moment"})
        assert "no database" in caplog.text
        assert (await order(world, {"user": "bob"}))[0] == 503
        assert (await order(world, {"user": "eve"}))[0] == 503
        assert "away for a moment" in caplog.text
        assert trio.current_time() == pytest.approx(world.server.options.opening.deadline)
        assert (await caller(world).ask("GET", "/healthz"))[0] == 200


async def test_nothing_of_an_order_is_logged(autojump_clock, caplog):
    caplog.set_level("DEBUG")
    async with open_world(with_tickets()) as world:
        _, answer = await order(world, {"user": "ann-who", "claims": {"email": "private"}})
        async with world.open_link(f"/ws?ticket={answer['ticket']}"):
            pass
        for what in ({"user": "ann-who", "claims": 5}, {"user": "ann-who", "address": "private"}):
            assert (await order(world, what))[0] == 400
    for secret in ("sesame", "ann-who", "private", answer["ticket"]):
        assert secret not in caplog.text


# -- HTTP itself


async def test_one_stream_serves_several_requests(autojump_clock):
    async with open_world() as world, world.open_client() as client:
        somebody = caller(world)
        for number in range(5):
            body = json.dumps({"event": "tick", "data": number, "to": "everyone"}).encode()
            assert (await somebody.ask("POST", "/publish", body))[0] == 200
            assert (await somebody.ask("GET", "/nowhere"))[0] == 404
            assert (await somebody.ask("POST", "/publish", b"nonsense"))[0] == 400
        assert [(await client.receive()).data for _ in range(5)] == list(range(5))


async def test_pipelined_requests_are_answered_in_order(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        body = json.dumps(ONE).encode()
        post = b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        get = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
        await somebody.send(post + get + post + get[:-2] + b"Connection: close\r\n\r\n")
        answer = b""
        while data := await somebody.stream.receive_some():
            answer += data
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200, 404]


async def test_http_1_0_is_answered_and_the_stream_closed(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        await somebody.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await somebody.stream.receive_some()).startswith(b"HTTP/1.1 200")
        await somebody.expect_the_end()
        assert trio.current_time() < 1


async def test_connection_close_is_heeded(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        await somebody.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await somebody.stream.receive_some()).startswith(b"HTTP/1.1 200")
        await somebody.expect_the_end()
        assert trio.current_time() < 1


async def test_who_expects_a_100_gets_it_before_the_body(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        body = json.dumps(ONE).encode()
        headers = {"Host": "x", "Content-Length": str(len(body)), "Expect": "100-continue"}
        somebody.send_event(h11.Request(method="POST", target="/publish", headers=list(headers.items())))
        await somebody.send(somebody._out)
        informed = await somebody.event()
        assert (type(informed), informed.status_code) == (h11.InformationalResponse, 100)
        await somebody.send(somebody.parser.send(h11.Data(data=body)))
        somebody.parser.send(h11.EndOfMessage())
        assert (await somebody.answer())[0] == 200


async def test_a_chunked_body_is_understood(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        body = json.dumps(ONE).encode()
        head = b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        await somebody.send(head + b"5\r\n" + body[:5] + b"\r\n")
        await wait_all_tasks_blocked()
        await somebody.send(b"%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n")
        assert (await somebody.stream.receive_some()).startswith(b"HTTP/1.1 200")


async def test_a_body_may_come_byte_by_byte(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        body = json.dumps(ONE).encode()
        for byte in b"POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body):
            await somebody.send(bytes((byte,)))
            await wait_all_tasks_blocked()
        assert (await somebody.stream.receive_some()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "said",
    [
        b'POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"event":',
        b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
    ids=["length", "chunked"],
)
async def test_half_a_body_and_then_silence_is_told_so_at_the_deadline(said, autojump_clock):
    async with open_world(options=HubOptions(opening=OpeningOptions(deadline=7))) as world:
        somebody = caller(world)
        await somebody.send(said)
        assert (await somebody.stream.receive_some()).startswith(b"HTTP/1.1 408 Request Timeout")
        assert trio.current_time() == pytest.approx(7)
        assert world.server.hub.statistics().published == 0


async def test_who_keeps_asking_keeps_no_server_from_leaving(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        assert "connection" not in (await somebody.ask("GET", "/healthz"))[1]
        await somebody.send(b"GET /healthz HT")
        await world.server.drain(deadline=1)
        await somebody.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        answer = await somebody.stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in answer
        await somebody.expect_the_end()


async def test_an_idle_stream_keeps_no_server_from_leaving(autojump_clock):
    async with open_world() as world:
        idle, late = caller(world), Cable()
        assert (await idle.ask("GET", "/healthz"))[0] == 200
        now = trio.current_time()
        await world.server.drain(deadline=5)
        await idle.expect_the_end()
        assert trio.current_time() == now
        world.reach(late.far)  # accepted before, and asking only now
        assert (await Caller(late.near).ask("GET", "/healthz"))[1]["connection"] == "close"


async def test_so_many_streams_that_are_no_links_at_once(autojump_clock):
    """Heads that are not finished, and idle streams at the side door; links do not count."""
    async with open_world(options=HubOptions(strangers=2)) as world, world.open_client() as client:
        caller(world)  # who says nothing
        asking = caller(world)
        assert (await asking.ask("GET", "/healthz"))[0] == 200
        await caller(world).expect_the_end()
        assert world.server.hub.statistics().refused == 1
        await client.request("ping")
        await trio.sleep(11)
        assert (await caller(world).ask("GET", "/healthz"))[0] == 200


async def test_an_idle_stream_is_closed_at_the_deadline(autojump_clock):
    async with open_world(options=HubOptions(opening=OpeningOptions(deadline=7))) as world:
        somebody = caller(world)
        assert (await somebody.ask("GET", "/healthz"))[0] == 200
        await somebody.expect_the_end()
        assert trio.current_time() == pytest.approx(7)


async def test_who_asks_and_reads_no_answer_is_let_go_at_the_deadline(autojump_clock):
    async with open_world(options=HubOptions(strangers=1, opening=OpeningOptions(deadline=7))) as world:
        stubborn = caller(world)
        with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
            await stubborn.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000)
        assert trio.current_time() == pytest.approx(7)
        assert (await caller(world).ask("GET", "/healthz"))[0] == 200


async def test_nobody_asks_on_one_stream_for_ever(autojump_clock):
    async with open_world() as world:
        somebody = caller(world)
        for _ in range(600 // 8):
            status, headers, _ = await somebody.ask("GET", "/healthz")
            assert (status, "connection" in headers) == (200, False)
            await trio.sleep(8)
        assert (await somebody.ask("GET", "/healthz"))[1]["connection"] == "close"
        await somebody.expect_the_end()


@pytest.mark.parametrize(
    "said",
    [
        b'POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"event":',
        b"POST /publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal",
    ],
    ids=["half a body", "a bad chunk", "nonsense behind", "half a request behind"],
)
async def test_a_request_broken_off_leaves_nothing_behind(said, autojump_clock, caplog):
    async with open_world() as world:
        before = trio.lowlevel.current_statistics().tasks_living
        for leave in ("hang up", "cut"):
            cable = Cable()
            world.reach(cable.far)
            await cable.near.send_all(said)
            await wait_all_tasks_blocked()
            cable.near.hang_up() if leave == "hang up" else cable.cut()
            await wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == before
    assert not caplog.records


# -- those that follow on one stream


FOLLOWING = {
    "another name of this machine": (b"POST /publish HTTP/1.1\r\nHost: evil.example\r\n", 403, b"this machine"),
    "bare line feeds": (b"POST /publish HTTP/1.1\nHost: memory\n", 400, b"line feed"),
    "a folded header": (b"POST /publish HTTP/1.1\r\nHost: memory\r\nX-Name: a\r\n b\r\n", 400, b"header 3"),
    "bytes that are not ASCII": (b"POST /publish HTTP/1.1\r\nHost: memory\r\nX-Name: \xe9\r\n", 400, b"ASCII"),
    "many headers": (b"POST /publish HTTP/1.1\r\nHost: memory\r\n" + b"X-Name: a\r\n" * 150, 431, b"headers"),
    "a body of two lengths": (
        b"POST /publish HTTP/1.1\r\nHost: memory\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n",
        400,
        b"two lengths",
    ),
}


@pytest.mark.parametrize(("head", "status", "words"), FOLLOWING.values(), ids=FOLLOWING.keys())
async def test_later_requests_of_a_stream_are_looked_at_like_the_first(head, status, words):
    """On a real socket, whose address is this machine's."""
    body = json.dumps(ONE).encode()
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(Server().serve)
        port = listener.socket.getsockname()[1]
        head = head.replace(b"memory", b"127.0.0.1:%d" % port)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % port)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            await stream.send_all(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            await stream.send_eof()
            answer = b""
            while data := await stream.receive_some():
                answer += data
        assert answer.startswith(b"HTTP/1.1 %d" % status), answer
        assert words in answer
        tasks.cancel_scope.cancel()


async def test_a_whole_url_names_the_same_thing(autojump_clock):
    async with open_world() as world:
        cable = Cable()
        world.reach(cable.far)
        status, _, _ = await Caller(cable.near).ask("GET", "http://localhost/healthz")
        assert status == 200


# -- what can be said in Python can be said here


async def test_back_ends_put_targets_together_and_name_editors(autojump_clock):
    editors = Editors()

    @editors.editor("sign", key=lambda connection, arguments: connection.user)
    def sign(event: Event, user: str, arguments: dict[str, str]) -> Event:
        return Event(event.name, {"for": user, **arguments}, event.broadcast)

    async def by_name(credentials) -> Session | None:
        return None if credentials.token is None else Session(credentials.token)

    async with (
        open_world(Server(authenticate=by_name, editors=editors)) as world,
        world.open_client(token="ann", topics=["town"]) as ann,
        world.open_client(token="bob", topics=["town"]) as bob,
    ):
        to = {"minus": [{"topic": "town"}, {"any": [{"user": "ann"}, {"user": "eve"}]}]}
        said = {"event": "news", "to": to, "editors": [{"name": "sign", "arguments": {"by": "desk"}}]}
        assert await publish(world, said) == (200, {"offered": 1})
        event = await bob.receive()
        assert (event.data, event.broadcast) == ({"for": "bob", "by": "desk"}, {"topic": "town"})
        for wrong, words in [
            ({**said, "editors": [{"name": "forge"}]}, "no editor 'forge'"),
            ({**said, "to": {"minus": [{"topic": "town"}]}}, "`$.to`"),
            ({**said, "to": {"all": [{"topic": ""}]}}, "`$.to.all[0]`"),
        ]:
            status, answer = await publish(world, wrong)
            assert status == 400
            assert words in answer["error"]
        await world.server.publish(Event("end"), to=everyone())
        assert (await ann.receive()).name == "end"
