"""The upgrade, seen from both sides, and what strangers say instead of it."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import h11
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import FIN, TEXT, spoken
from trio_hub.errors import LinkLost, Misuse, PeerFault, Refused, StreamReset
from trio_hub.link.dialing import Address, connect, dial, open_link
from trio_hub.link.heads import HTTPFault, check_upgrade, read_head
from trio_hub.link.link import Link
from trio_hub.link.listening import open_unix_listener
from trio_hub.link.opening import accept_link, request_link
from trio_hub.link.pool import open_pool
from trio_hub.link.serving import serve_links
from trio_hub.link.streams import open_streams
from trio_hub.link.tasks import failures_in
from trio_hub.messages import CloseReason
from trio_hub.options import CompressionOptions, LinkOptions, OpeningOptions
from trio_hub.peer.calls import open_calls
from trio_hub.peer.client import open_client
from trio_hub.testing import Cable, CableListener, ScriptedServer, Weather, upgrade_response

KEY = base64.b64encode(b"0123456789abcdef").decode()
COMPRESSED = LinkOptions(compression=CompressionOptions())
OPENING = OpeningOptions(deadline=10, head_size=4096, head_count=20, body_size=10_000)


async def echo(link: Link) -> None:
    async for message in link:
        await link.send(message)


async def wait(link: Link) -> None:
    """Let the client do as it likes."""
    async for _ in link:
        pass


def upgrade(
    *more: str, start: str = "GET /ws HTTP/1.1", without: str = "", end: str = "\r\n", **replaced: str
) -> bytes:
    """Return the head of a proper upgrade, with some headers more, replaced or left out."""
    headers = {
        "Host": "memory",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        **{name.replace("_", "-"): value for name, value in replaced.items()},
    }
    lines = [start, *(f"{name}: {value}" for name, value in headers.items() if name != without), *more]
    return (end.join(lines) + end * 2).encode("latin-1")


async def all_of(stream: trio.abc.Stream) -> bytes:
    """Return everything until the end."""
    parts = []
    while data := await stream.receive_some(65536):
        parts.append(data)
    return b"".join(parts)


async def head_of(stream: trio.abc.Stream) -> tuple[bytes, bytes]:
    """Return a response's head, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        assert more, f"the stream ended after {data!r}"
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def read_answer(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one whole response, by an HTTP parser's judgement."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(data)
    response = parser.next_event()
    assert isinstance(response, h11.Response), response
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert parser.trailing_data[0] == b"", "one answer, no more"
    return response.status_code, {name.decode(): value.decode() for name, value in response.headers}, body


@asynccontextmanager
async def open_door(handler=echo, opening: OpeningOptions = OPENING):
    """Serve links over cables. In the end the door must still work, and whoever came must have left no task behind."""
    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, handler, listeners=[listener], opening=opening))
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        yield listener
        link = await request_link(listener.dial(), host="memory", resource="/")
        async with link.running():
            await link.send("still serving?")
            assert await link.receive() == ["still serving?"]
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def served(handler) -> AsyncIterator[Link]:
    """A client's link to a handler."""
    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, handler, listeners=[listener]))
        async with open_link("ws://memory/", open_stream=Weather(listener.reach).open_stream) as link:
            yield link
        await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


# -- both roles together


@asynccontextmanager
async def opened(near: trio.abc.Stream, far: trio.abc.Stream, *, serving: LinkOptions | None = None, **asked):
    """Upgrade a pair of streams, and yield the client's and the server's link."""
    links = {}

    async def accept() -> None:
        head = await read_head(far, OPENING)
        links["head"] = head
        subprotocol = next(iter(head.subprotocols), None)
        link = links["server"] = accept_link(
            far, head, subprotocol=subprotocol, headers={"X-Served-By": "us"}, options=serving
        )
        link.writer.flush()
        await link.writer.run()

    async with trio.open_nursery() as tasks:
        tasks.start_soon(accept)
        links["client"] = await request_link(near, **{"host": "memory", "resource": "/ws?a=1", **asked})
        tasks.cancel_scope.cancel()
    yield links["client"], links["server"], links["head"]
    await trio.aclose_forcefully(near)
    await trio.aclose_forcefully(far)


async def test_both_roles_agree_on_a_link(autojump_clock):
    cable = Cable()
    asked = {"subprotocols": ["one", "two"], "headers": {"Authorization": "Bearer abc", "X-Name": "grüße"[:2]}}
    async with opened(cable.near, cable.far, **asked) as (client, server, head):
        assert client.subprotocol == server.subprotocol == "one"
        assert (head.method, head.path, head.query) == ("GET", "/ws", {"a": ["1"]})
        assert head.subprotocols == ["one", "two"]
        assert head.bearer == "abc"
        assert head.headers["host"] == "memory"
        async with trio.open_nursery() as tasks:
            tasks.start_soon(client.writer.run)
            await client.send("hello")
            assert await server.receive() == ["hello"]
            tasks.cancel_scope.cancel()


async def test_no_subprotocol_is_none(autojump_clock):
    cable = Cable()
    async with opened(cable.near, cable.far) as (client, server, _):
        assert client.subprotocol is server.subprotocol is None


async def test_both_roles_agree_on_compression_where_both_want_it(autojump_clock):
    cable = Cable()
    async with opened(cable.near, cable.far, serving=COMPRESSED, options=COMPRESSED) as (client, server, _):
        assert client.compression == server.compression is not None
        async with trio.open_nursery() as tasks:
            tasks.start_soon(client.writer.run)
            for message in ("x" * 10_000, bytes(10_000), "small"):
                await client.send(message)
                assert await server.receive() == [message]
            assert client.writer.written < 1000
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("serving", "asking"), [(COMPRESSED, None), (None, COMPRESSED)], ids=["server", "client"])
async def test_nothing_is_compressed_where_only_one_wants_it(serving, asking, autojump_clock):
    cable = Cable()
    async with opened(cable.near, cable.far, serving=serving, options=asking) as (client, server, head):
        assert client.compression is server.compression is None
        assert ("sec-websocket-extensions" in head.headers) is (asking is not None)


async def test_open_link_and_serve_links_meet_over_a_real_socket():
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(serve_links, echo)
        port = listener.socket.getsockname()[1]
        async with open_link(f"ws://127.0.0.1:{port}/any/path") as link:
            await link.send("grüße")
            await link.send(b"\x00" * 300_000)
            assert [message async for message in take(link, 2)] == ["grüße", b"\x00" * 300_000]
        assert link.closed.code == 1000
        tasks.cancel_scope.cancel()


async def take(link: Link, count: int):
    async for message in link:
        yield message
        count -= 1
        if not count:
            return


LOST = LinkLost(CloseReason(1006, "another"))
GROUP = ExceptionGroup("of a nursery", [StreamReset(4000), LOST])


@pytest.mark.parametrize("raised", [LOST, GROUP, ZeroDivisionError()], ids=["another link", "in a group", "a failure"])
async def test_what_is_not_the_peers_doing_is_a_failure_of_the_handler(raised, autojump_clock, caplog):
    async def pass_on(link: Link) -> None:
        raise raised

    async with served(pass_on) as link:
        assert [message async for message in link] == []
        assert link.closed == CloseReason(1011)
    (logged,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert failures_in(logged.exc_info[1]) == failures_in(raised)


@pytest.mark.parametrize("raised", [StreamReset(4000), PeerFault(1009, "too large")], ids=["given up", "too large"])
async def test_what_the_peer_does_is_no_failure_of_the_handler(raised, autojump_clock, caplog):
    async def give_up(link: Link) -> None:
        raise raised

    async with served(give_up) as link:
        assert [message async for message in link] == []
        assert link.closed == CloseReason(1011)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_that_its_own_link_is_lost_is_no_failure_of_a_handler(autojump_clock, caplog):
    async def read_on(link: Link) -> None:
        while True:
            await link.receive()

    async with served(read_on) as link:
        await link.close(4000)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("open_it", [open_link, open_streams, open_calls])
async def test_any_stream_may_lead_to_a_server(open_it, autojump_clock):
    listener = CableListener()
    weather = Weather(listener.reach)
    async with trio.open_nursery() as tasks:
        serving = partial(serve_links, wait, listeners=[listener], subprotocols=["streams.trio-hub.v1"])
        await tasks.start(serving)
        async with open_it("wss://nowhere.example/", open_stream=weather.open_stream) as opened:
            assert opened is not None
        assert weather.dials == 1
        weather.cut()
        with pytest.raises(LinkLost, match="the weather is bad"):
            async with open_it("wss://nowhere.example/", open_stream=weather.open_stream):
                raise AssertionError
        tasks.cancel_scope.cancel()


async def test_a_link_over_a_unix_socket(tmp_path):
    path = tmp_path / "links"

    async def open_stream(address: Address) -> trio.abc.Stream:
        return await trio.open_unix_socket(path)

    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, echo, listeners=[await open_unix_listener(path)]))
        async with open_link("ws://localhost/", open_stream=open_stream) as link:
            await link.send("by file")
            assert await link.receive() == ["by file"]
        tasks.cancel_scope.cancel()


async def test_what_the_block_raises_comes_out_bare_and_the_server_hears_1011():
    ended = []

    async def listen(link: Link) -> None:
        async for _ in link:
            pass
        ended.append(link.closed.code)

    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(serve_links, listen)
        port = listener.socket.getsockname()[1]
        with pytest.raises(ZeroDivisionError):
            async with open_link(f"ws://127.0.0.1:{port}/"):
                raise ZeroDivisionError
        tasks.cancel_scope.cancel()
    assert ended == [1011]


# -- what comes right behind the head


async def test_a_frame_right_behind_the_request_is_not_lost(autojump_clock):
    async with open_door() as listener:
        stream = listener.dial()
        await stream.send_all(upgrade() + spoken(FIN | TEXT, b"first") + spoken(FIN | TEXT, b"second")[:3])
        head, rest = await head_of(stream)
        assert head.startswith(b"HTTP/1.1 101")
        await stream.send_all(spoken(FIN | TEXT, b"second")[3:])
        expected = spoken(FIN | TEXT, b"first", masked=False) + spoken(FIN | TEXT, b"second", masked=False)
        while len(rest) < len(expected):
            rest += await stream.receive_some()
        assert rest == expected
        stream.hang_up()


@pytest.mark.parametrize("cut", [0, 1, 5], ids=["whole", "one byte later", "in the frame"])
async def test_a_frame_right_behind_the_101_is_not_lost(cut, autojump_clock):
    cable = Cable()

    async def answer() -> None:
        head = await read_head(cable.far, OPENING)
        response = upgrade_response(head.headers["sec-websocket-key"]) + spoken(FIN | TEXT, b"early", masked=False)
        await cable.far.send_all(response[: len(response) - cut])
        await wait_all_tasks_blocked()
        await cable.far.send_all(response[len(response) - cut :])

    async with trio.open_nursery() as tasks:
        tasks.start_soon(answer)
        link = await request_link(cable.near, host="memory", resource="/")
        assert await link.receive() == ["early"]
    cable.far.hang_up()
    await link.close()


async def test_a_head_may_come_byte_by_byte(autojump_clock):
    async with open_door() as listener:
        stream = listener.dial()
        for byte in upgrade():
            await stream.send_all(bytes((byte,)))
            await wait_all_tasks_blocked()
        assert (await head_of(stream))[0].startswith(b"HTTP/1.1 101")
        stream.hang_up()


# -- hostile heads

NAMES = ["Host", "Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "Origin", "Cookie"]

HOSTILE = {
    **{
        f"bytes above 127 in {name}": (upgrade(**{name.replace("-", "_"): "caf\xe9"}), 400, "not ASCII")
        for name in NAMES
    },
    "bytes above 127 in a subprotocol": (upgrade("Sec-WebSocket-Protocol: \xe9"), 400, "not ASCII"),
    "bytes above 127 in an extension": (upgrade("Sec-WebSocket-Extensions: \xe9"), 400, "not ASCII"),
    "bytes above 127 in the target": (upgrade(start="GET /\xe9 HTTP/1.1"), 400, "not ASCII"),
    "bytes above 127 in a header's name": (upgrade("X-\xe9: 1"), 400, "not ASCII"),
    "one long header": (upgrade(f"Cookie: {'x' * 5000}"), 431, "4096"),
    "an endless header": (b"GET / HTTP/1.1\r\nCookie: " + b"x" * 9000, 431, "4096"),
    "too many headers": (upgrade(*(f"X-{n}: {n}" for n in range(20))), 431, "20 headers"),
    "no request": (b"\r\n\r\n", 400, "not HTTP"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, "not HTTP"),
    "a TLS client hello": (bytes.fromhex("16030102000100fc0303") + b"\xd4" * 32, 400, "not ASCII"),
    "no Host": (upgrade(without="Host"), 400, "not HTTP"),
    "two Hosts": (upgrade("host: memory"), 400, "several"),
    "a folded header": (upgrade("X-Name: a", " b"), 400, "header 7"),
    "lines that end with a line feed alone": (upgrade(end="\n"), 400, "line feed alone"),
    "one such line": (upgrade("X-Name: a\nX-Other: b"), 400, "line feed alone"),
    "an empty line before it": (b"\r\n" + upgrade(), 400, "request line"),
    "a header without a name": (upgrade(": value"), 400, "header 6"),
    "a header without a colon": (upgrade("X-Name"), 400, "header 6"),
    "HTTP/2.0": (upgrade(start="GET /ws HTTP/2.0"), 400, "request line"),
    "two spaces in the first line": (upgrade(start="GET  /ws HTTP/1.1"), 400, "request line"),
    "a body": (upgrade("Content-Length: 5"), 400, "no body"),
    "a body in chunks": (upgrade("Transfer-Encoding: chunked"), 400, "no body"),
    "a space before the colon": (upgrade("X-Name : value"), 400, "not HTTP"),
    "a NUL": (upgrade("X-Name: a\x00b"), 400, "not HTTP"),
    "a target of another host": (upgrade(start="GET http://evil.example/ws HTTP/1.1"), 400, "another host"),
    "a target with a name and a password": (upgrade(start="GET http://a@memory/ws HTTP/1.1"), 400, "another host"),
    "a target with a fragment": (upgrade(start="GET /ws#x?topics=a HTTP/1.1"), 400, "fragment"),
    "a body of two lengths": (upgrade("Transfer-Encoding: chunked", "Content-Length: 0"), 400, "two lengths"),
    "a head within the head": (upgrade("X-Name: a\n\nGET /admin HTTP/1.1"), 400, "not HTTP"),
    "POST": (upgrade(start="POST /ws HTTP/1.1"), 400, "GET in HTTP/1.1"),
    "HTTP/1.0": (upgrade(start="GET /ws HTTP/1.0"), 400, "GET in HTTP/1.1"),
    "no Connection": (upgrade(without="Connection"), 400, "Connection"),
    "Connection: close": (upgrade(Connection="close"), 400, "Connection"),
    "no Upgrade": (upgrade(without="Upgrade"), 400, "Upgrade"),
    "Upgrade: h2c": (upgrade(Upgrade="h2c"), 400, "Upgrade"),
    "Upgrade: websockets": (upgrade(Upgrade="websockets"), 400, "Upgrade"),
    "no version": (upgrade(without="Sec-WebSocket-Version"), 426, "version 13"),
    "version 8": (upgrade(Sec_WebSocket_Version="8"), 426, "version 13"),
    "no key": (upgrade(without="Sec-WebSocket-Key"), 400, "16 bytes"),
    "a short key": (upgrade(Sec_WebSocket_Key="c2hvcnQ="), 400, "16 bytes"),
    "a key that is no base64": (upgrade(Sec_WebSocket_Key="!" * 24), 400, "16 bytes"),
    "two keys": (upgrade(f"Sec-WebSocket-Key: {KEY}"), 400, "16 bytes"),
    "two versions": (upgrade("Sec-WebSocket-Version: 13"), 426, "version 13"),
}


@pytest.mark.parametrize(("said", "status", "words"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_head_is_answered_with_a_status(said, status, words, autojump_clock, caplog):
    caplog.set_level(logging.ERROR)
    async with open_door() as listener:
        stream = listener.dial()
        await stream.send_all(said)
        answered, headers, body = read_answer(await all_of(stream))
        stream.hang_up()
        assert answered == status
        assert words in body.decode()
        assert headers["connection"].startswith("close")
        if status == 426:
            assert headers["upgrade"] == "websocket"
            assert headers["sec-websocket-version"] == "13"
        assert trio.current_time() < 1
    assert not caplog.records, "strangers fill no log"


ODD_BUT_PROPER = {
    "keep-alive too": upgrade(Connection="keep-alive, Upgrade"),
    "other cases": upgrade(Upgrade="WebSocket", Connection="UPGRADE"),
    "an extension we do not speak": upgrade("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    "subprotocols in two headers": upgrade("Sec-WebSocket-Protocol: one", "Sec-WebSocket-Protocol: two"),
    "an empty subprotocol": upgrade("Sec-WebSocket-Protocol: "),
    "two Connection headers": upgrade("Connection: keep-alive"),
    "a Host that is no name": upgrade(Host="a..b"),
    "a Host in broken Punycode": upgrade(Host="xn--"),
    "a Host that is too long": upgrade(Host="x" * 70),
    "a body of no length": upgrade("Content-Length: 0"),
    "spaces and tabs around a value": upgrade("X-Name: \t a \t b \t "),
    "an empty value": upgrade("X-Name:"),
    "a whole URL": upgrade(start="GET http://memory/ws HTTP/1.1"),
    "20 headers": upgrade(*(f"X-{n}: {n}" for n in range(15))),
}


@pytest.mark.parametrize("said", ODD_BUT_PROPER.values(), ids=ODD_BUT_PROPER.keys())
async def test_an_unusual_but_proper_head_is_accepted(said, autojump_clock):
    async with open_door() as listener:
        stream = listener.dial()
        await stream.send_all(said)
        head, _ = await head_of(stream)
        assert head.startswith(b"HTTP/1.1 101")
        assert b"xtensions" not in head
        stream.hang_up()


@pytest.mark.parametrize(
    "said",
    [b"", b"G", upgrade()[:-1], b"GET / HTTP/1.1\r\nHost: x\r\n"],
    ids=["nothing", "a byte", "all but a byte", "half"],
)
async def test_a_head_that_is_never_finished_is_hung_up_on_at_the_deadline(said, autojump_clock):
    async with open_door() as listener:
        stream = listener.dial()
        await stream.send_all(said)
        assert await all_of(stream) == b""
        assert trio.current_time() == pytest.approx(10)


@pytest.mark.parametrize("said", [b"", b"GET / HT", upgrade()[:-1], b"\x16\x03"])
async def test_a_stranger_who_leaves_midway_leaves_nothing_behind(said, autojump_clock):
    async with open_door() as listener:
        stream = listener.dial()
        await stream.send_all(said)
        stream.hang_up()
        await wait_all_tasks_blocked()
        assert trio.current_time() == 0


async def test_a_refused_stranger_who_stays_is_hung_up_on_at_the_deadline(autojump_clock):
    async with open_door() as listener:
        stream = listener.dial()
        await stream.send_all(b"nonsense\r\n\r\n")
        assert read_answer(await all_of(stream))[0] == 400
        await stream.send_all(b"x" * 10_000)
        autojump_clock.jump(OPENING.deadline)
        await wait_all_tasks_blocked()


async def test_a_stranger_who_leaves_before_the_answer_is_no_error(autojump_clock, caplog):
    async with open_door() as listener:
        cable = Cable()
        listener._knock.send_nowait(cable.far)
        await cable.near.send_all(upgrade())
        cable.cut()
        await wait_all_tasks_blocked()
        cable = Cable(capacity=10)
        listener._knock.send_nowait(cable.far)
        with trio.move_on_after(1):
            await cable.near.send_all(b"nonsense\r\n\r\n")
            await wait_all_tasks_blocked()
        cable.cut()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_500_who_connect_and_leave_do_no_harm():
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(serve_links, echo)
        port = listener.socket.getsockname()[1]
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(500):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if number % 3:
                await stream.send_all(upgrade()[: number % 150])
            await trio.aclose_forcefully(stream)
        async with open_link(f"ws://127.0.0.1:{port}") as link:
            await link.send("still serving?")
            assert await link.receive() == ["still serving?"]
        with trio.fail_after(5):
            while trio.lowlevel.current_statistics().tasks_living > before:
                await wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("name", NAMES)
async def test_a_head_is_checked_alone_too(name, autojump_clock):
    cable = Cable()
    await cable.near.send_all(upgrade(**{name.replace("-", "_"): "\xff"}))
    with pytest.raises(HTTPFault) as caught:
        await read_head(cable.far, OPENING)
    assert caught.value.status == 400


async def test_accept_link_sends_nothing_where_the_head_is_no_upgrade(autojump_clock):
    cable = Cable()
    await cable.near.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await read_head(cable.far, OPENING)
    assert not head.wants_upgrade
    with pytest.raises(HTTPFault):
        check_upgrade(head)
    with pytest.raises(HTTPFault):
        accept_link(cable.far, head)
    cable.far.hang_up()
    assert await all_of(cable.near) == b""


async def test_accept_link_over_a_broken_stream_is_a_lost_link(autojump_clock):
    cable = Cable()
    await cable.near.send_all(upgrade())
    head = await read_head(cable.far, OPENING)
    cable.cut()
    link = accept_link(cable.far, head)
    async with link.running():
        with pytest.raises(LinkLost):
            await link.receive()


async def test_a_subprotocol_that_was_not_offered_is_a_misuse(autojump_clock):
    cable = Cable()
    await cable.near.send_all(upgrade("Sec-WebSocket-Protocol: one"))
    head = await read_head(cable.far, OPENING)
    with pytest.raises(Misuse):
        accept_link(cable.far, head, subprotocol="two")


@pytest.mark.parametrize(
    ("said", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic YTpi", None),
        ("abc", None),
    ],
)
async def test_a_bearer_token_is_found(said, token, autojump_clock):
    cable = Cable()
    await cable.near.send_all(upgrade(Authorization=said))
    assert (await read_head(cable.far, OPENING)).bearer == token


# -- the caller's side


async def ask(answer: bytes, *, opening: OpeningOptions = OPENING, hang_up: bool = True, **asked) -> Link:
    """Dial somebody who answers so, whatever is asked."""
    cable = Cable()

    async def open_stream(address: Address) -> trio.abc.Stream:
        return cable.near

    async def say() -> None:
        await read_head(cable.far, OpeningOptions())
        try:
            await cable.far.send_all(answer)
        except trio.BrokenResourceError:
            return
        if hang_up:
            await cable.far.send_eof()

    async with trio.open_nursery() as tasks:
        tasks.start_soon(say)
        try:
            return await dial(
                Address.parse("ws://memory/"),
                open_stream=open_stream,
                options=LinkOptions(),
                opening=opening,
                **asked,
            )
        except BaseException as error:
            with pytest.raises(trio.ClosedResourceError):
                await cable.near.receive_some(1)
            tasks.cancel_scope.cancel()
            caught = error
    raise caught


async def refusal(answer: bytes, **arguments) -> LinkLost:
    with pytest.raises(LinkLost) as caught:
        await ask(answer, **arguments)
    assert caught.value.close.code == 1006
    return caught.value


async def test_a_refusal_says_status_headers_and_body(autojump_clock):
    body = b"come back later"
    refused = await refusal(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 15\r\n\r\n" + body, hang_up=False
    )
    assert isinstance(refused, Refused)
    assert (refused.status, refused.headers["retry-after"], refused.body) == (503, "5", body)
    assert str(refused.close) == "1006 HTTP 503 come back later"
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, b""),
        (b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 404, b"abc"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\nuntil the end", 502, b"until the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", 302, b""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403, b"no"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nhalf of it", 500, b"half of it"),
        (b"HTTP/1.1 400 caf\xe9\r\nX-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n", 400, b""),
    ],
    ids=["401", "chunked", "HTTP/1.0", "200", "302", "after 103", "broken off", "latin-1"],
)
async def test_every_status_but_101_is_a_refusal(answer, status, body, autojump_clock):
    refused = await refusal(answer)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.body) == (status, body)


async def test_a_refusals_body_is_bounded(autojump_clock):
    refused = await refusal(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000)
    assert isinstance(refused, Refused)
    assert 10_000 <= len(refused.body) <= 10_000 + 4096


def wrong_answer(*replaced: tuple[bytes, bytes]) -> bytes:
    answer = upgrade_response(KEY)
    for old, new in replaced:
        answer = answer.replace(old, new)
    return answer


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101",
        b"HTTP/1.1 200",
        b"\x15\x03\x03\x00\x02\x02\x46" * 20,
        upgrade_response(KEY),
        wrong_answer((b"Sec-WebSocket-Accept", b"X-Accept")),
        wrong_answer((b"Upgrade: websocket", b"Upgrade: h2c")),
        b"HTTP/1.1 101 Switching Protocols\r\nnonsense\r\n\r\n",
        b"HTTP/1.1 101 caf\xe9\r\nUpgrade: caf\xe9\r\nConnection: \xe9\r\nSec-WebSocket-Accept: \xe9\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + upgrade_response(KEY) + b"\x81\x01a",
    ],
    ids=[
        "nothing",
        "another protocol",
        "half of 101",
        "half of 200",
        "a TLS alert",
        "wrong accept key",
        "no accept key",
        "another upgrade",
        "no headers",
        "not ASCII",
        "100 before",
    ],
)
@pytest.mark.parametrize("hang_up", [True, False], ids=["hangs up", "stays"])
async def test_what_is_no_answer_is_a_lost_link(answer, hang_up, autojump_clock):
    lost = await refusal(answer, hang_up=hang_up)
    assert not isinstance(lost, Refused)
    assert lost.close.reason
    assert trio.current_time() <= OPENING.deadline


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (None, "permessage-deflate"),
        (COMPRESSED, "x-another"),
        (COMPRESSED, "permessage-deflate, permessage-deflate"),
        (COMPRESSED, "permessage-deflate; client_max_window_bits=8"),
        (COMPRESSED, "permessage-deflate\r\nsec-websocket-extensions: x-another"),
    ],
)
async def test_an_extension_that_was_not_offered_is_no_answer(options, answer, autojump_clock):
    cable = Cable()
    server = ScriptedServer(cable.far)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(partial(server.accept, headers={"Sec-WebSocket-Extensions": answer}))
        with pytest.raises(LinkLost, match="the upgrade failed"):
            await request_link(cable.near, host="memory", resource="/", options=options)


@pytest.mark.parametrize(
    "start", [b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/1.1 200 OK\r\n", b""], ids=["101", "200", "nothing"]
)
async def test_an_endless_head_is_given_up_early(start, autojump_clock):
    lost = await refusal(start + b"X-Name: and so on\r\n" * 100_000)
    assert not isinstance(lost, Refused)
    assert trio.current_time() == 0


async def test_silence_is_a_lost_link_at_the_deadline(autojump_clock):
    lost = await refusal(b"", hang_up=False)
    assert lost.close.reason == "no answer within 10 s"
    assert trio.current_time() == pytest.approx(10)


async def test_a_stream_that_breaks_is_a_lost_link(autojump_clock):
    cable = Cable()
    async with trio.open_nursery() as tasks:

        async def break_it() -> None:
            await read_head(cable.far, OPENING)
            cable.cut()

        tasks.start_soon(break_it)
        with pytest.raises(LinkLost):
            await request_link(cable.near, host="memory", resource="/")
    with pytest.raises(LinkLost):
        await request_link(cable.near, host="memory", resource="/")


async def test_nobody_there_is_a_lost_link():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(LinkLost, match="cannot connect"):
        async with open_link(f"ws://127.0.0.1:{port}"):
            raise AssertionError


@pytest.mark.parametrize("name", ["a..b", "x" * 70, "under_score.invalid"])
async def test_a_name_that_cannot_be_looked_up_is_a_lost_link(name):
    with pytest.raises(LinkLost, match="cannot connect"):
        await connect(Address.parse(f"ws://{name}:1"))


@pytest.mark.parametrize("headers", [{"X-Name": "a\r\nX-Other: b"}, {"X Name": "a"}, {"": "a"}])
async def test_headers_that_cannot_be_sent_are_a_misuse(headers, autojump_clock):
    cable = Cable()
    with pytest.raises(Misuse):
        await request_link(cable.near, host="memory", resource="/", headers=headers)
    cable.near.hang_up()
    assert await all_of(cable.far) == b""


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "resource", "host_header"),
    [
        ("ws://example.org", "example.org", 80, False, "/", "example.org"),
        ("wss://example.org", "example.org", 443, True, "/", "example.org"),
        ("ws://example.org:443", "example.org", 443, False, "/", "example.org:443"),
        ("wss://example.org:80/a/b", "example.org", 80, True, "/a/b", "example.org:80"),
        ("WSS://Example.ORG/Ws", "example.org", 443, True, "/Ws", "example.org"),
        ("ws://[::1]:8065/ws?a=1&b=%20#part", "::1", 8065, False, "/ws?a=1&b=%20", "[::1]:8065"),
        ("wss://[2001:db8::1]/", "2001:db8::1", 443, True, "/", "[2001:db8::1]"),
        ("ws://127.0.0.1:9?x", "127.0.0.1", 9, False, "/?x", "127.0.0.1:9"),
    ],
)
def test_a_url_says_where_to_go(url, host, port, tls, resource, host_header):
    address = Address.parse(url)
    assert (address.host, address.port, address.tls, address.resource) == (host, port, tls, resource)
    assert address.host_header == host_header
    assert address.authorization is None


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("ws://ann:secret@example.org", b"ann:secret"),
        ("ws://ann@example.org", b"ann:"),
        ("ws://a%40b:p%3Aq%2F@example.org", b"a@b:p:q/"),
        ("ws://%C3%BC:%E2%82%AC@example.org", "ü:€".encode()),
    ],
)
def test_credentials_in_a_url_become_a_basic_header(url, credentials):
    address = Address.parse(url)
    assert base64.b64decode(address.authorization.removeprefix("Basic ")) == credentials
    assert address.host_header == "example.org"
    assert "Basic" not in repr(address), "secrets stay out of logs"


async def test_credentials_in_a_url_are_shown_unless_headers_say_otherwise(autojump_clock):
    given = "Bearer x"
    for headers, expected in [({}, "Basic YTpi"), ({"Authorization": given}, given), ({"authorization": given}, given)]:
        cable = Cable()

        async def open_stream(address: Address, cable=cable) -> trio.abc.Stream:
            return cable.near

        with trio.move_on_after(1), pytest.raises(LinkLost):
            await dial(
                Address.parse("ws://a:b@memory/"),
                headers=headers,
                open_stream=open_stream,
                options=LinkOptions(),
                opening=OpeningOptions(deadline=0.5),
            )
        assert (await read_head(cable.far, OPENING)).headers["authorization"] == expected


@pytest.mark.parametrize("wrong", ["chat", ["a\nb"], ["a b"], ["a,b"], ["a/b"], ["caf\xe9"], [""], ["good", 5], [b"a"]])
async def test_subprotocols_are_tokens(wrong):
    with pytest.raises(Misuse, match="subprotocol"):
        async with open_link("ws://nobody.invalid/", subprotocols=wrong):
            pass
    with pytest.raises(Misuse, match="subprotocol"):
        await serve_links(echo, listeners=[], subprotocols=wrong)


async def test_what_cannot_be_sent_is_found_before_anybody_is_called():
    with pytest.raises(Misuse, match="headers"):
        async with open_link("ws://nobody.invalid/", headers={"X-Name": "a\nb"}):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "http://example.org",
        "ws://",
        "ws:///path",
        "ws://:80/",
        "ws://[::1/",
        "ws://example.org:99999",
        "ws://example.org:port",
        "ws://example.org:0/",
        "ws://example.org/caf\xe9",
        "ws://example.org/a b",
        "ws://example.org/a\x7fb",
        "//example.org/",
    ],
)
def test_what_is_no_websocket_url_is_a_misuse(url):
    with pytest.raises(Misuse):
        Address.parse(url)


@pytest.mark.parametrize("open_it", [open_link, open_streams, open_calls, open_client])
async def test_a_tls_context_where_there_is_no_tls_is_a_misuse(open_it, autojump_clock):
    with pytest.raises(Misuse, match="wss://"):
        async with open_it("ws://127.0.0.1:1/", ssl_context=ssl.create_default_context()):
            raise AssertionError


async def test_a_pool_takes_no_tls_context_where_there_is_no_tls(autojump_clock):
    async with open_pool() as pool:
        with pytest.raises(Misuse, match="wss://"):
            pool.dial("ws://127.0.0.1:1/", ssl_context=ssl.create_default_context())
        assert pool.members == []


def test_a_query_can_be_added_to():
    address = Address.parse("ws://example.org/ws")
    assert address.with_query({"a": "1 2"}).resource == "/ws?a=1+2"
    assert address.with_query({"a": "1"}).with_query({"b": "&"}).resource == "/ws?a=1&b=%26"
    assert address.with_query({}) == address


# -- TLS


async def test_a_link_over_tls_works(tls):
    server_context, client_context = tls
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, echo, ssl_context=server_context))
        port = listener.transport_listener.socket.getsockname()[1]
        async with open_link(f"wss://127.0.0.1:{port}", ssl_context=client_context) as link:
            await link.send("secret")
            await link.send(b"x" * 500_000)
            assert [message async for message in take(link, 2)] == ["secret", b"x" * 500_000]
        assert link.closed.code == 1000
        tasks.cancel_scope.cancel()


async def test_a_certificate_nobody_vouches_for_is_a_lost_link(tls):
    server_context, _ = tls
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, echo, ssl_context=server_context))
        port = listener.transport_listener.socket.getsockname()[1]
        with pytest.raises(LinkLost, match="no TLS"):
            async with open_link(f"wss://127.0.0.1:{port}"):
                raise AssertionError
        tasks.cancel_scope.cancel()


async def test_a_certificate_for_somebody_else_is_a_lost_link(tls):
    server_context, client_context = tls
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, echo, ssl_context=server_context))
        port = listener.transport_listener.socket.getsockname()[1]
        with pytest.raises(LinkLost, match="no TLS"):
            async with open_link(f"wss://localhost:{port}", ssl_context=client_context):
                raise AssertionError
        tasks.cancel_scope.cancel()


async def test_tls_to_somebody_who_says_nothing_is_a_lost_link_in_time():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(LinkLost, match="no answer"):
            async with open_link(f"wss://127.0.0.1:{port}", opening=OpeningOptions(deadline=0.1)):
                raise AssertionError


async def test_plain_words_at_a_tls_door_do_no_harm(tls, caplog):
    server_context, client_context = tls
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, echo, ssl_context=server_context))
        port = listener.transport_listener.socket.getsockname()[1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(upgrade())
        with trio.fail_after(5), suppress(trio.BrokenResourceError):  # an end or a reset
            await all_of(stream)
        await stream.aclose()
        async with open_link(f"wss://127.0.0.1:{port}", ssl_context=client_context) as link:
            await link.send("still serving?")
            assert await link.receive() == ["still serving?"]
        tasks.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
