"""Peers that a test plays itself: they say what it says, right or wrong, and hear what is said."""

from __future__ import annotations

import json

import pytest
import trio
import trio_websocket
from hypothesis import given
from hypothesis import strategies as st

from trio_hub import LinkLost, Misuse, Refused, open_client
from trio_hub.link.link import Link
from trio_hub.link.opening import request_link
from trio_hub.testing import (
    Cable,
    Direction,
    Frame,
    Opcode,
    ScriptedClient,
    ScriptedServer,
    open_scripted_server,
    open_world,
    upgrade_request,
    upgrade_response,
)
from trio_hub.testing.frame import cut_frame
from trio_hub.wire.reading import FrameReader

V1 = "trio-hub.v1.json"


def peers():
    """A client's and a server's end, both scripted."""
    cable = Cable()
    return ScriptedClient(cable.near), ScriptedServer(cable.far), cable


# -- frames

frames = st.builds(
    Frame,
    st.integers(0, 15),
    st.binary(max_size=200) | st.sampled_from([bytes(size) for size in (125, 126, 65535, 65536)]),
    fin=st.booleans(),
    reserved=st.integers(0, 7),
    masked=st.none() | st.booleans(),
)


@given(said=st.lists(frames, max_size=4), masks=st.booleans())
def test_any_frame_is_heard_as_it_was_said(said, masks):
    data = b"".join(each.encoded(masked=masks) for each in said)
    for each in said:
        heard, data = cut_frame(data)
        assert heard == each
        assert heard.masked == (masks if each.masked is None else each.masked)
    assert data == b""


@given(frame=frames, masks=st.booleans(), data=st.data())
def test_a_torn_frame_is_not_heard(frame, masks, data):
    whole = frame.encoded(masked=masks)
    assert cut_frame(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@pytest.mark.parametrize("masked", [True, False])
def test_a_proper_frame_is_proper_for_others_too(masked):
    reader = FrameReader(masked=masked, max_message=1000, max_fragments=10)
    said = [
        Frame(Opcode.TEXT, "hü".encode(), fin=False),
        Frame(Opcode.PING, b"?"),
        Frame(Opcode.CONTINUATION, b"llo"),
        Frame.json({"n": 1}),
    ]
    heard = reader.feed(b"".join(each.encoded(masked=masked) for each in said))
    assert [heard[1], heard[2]] == ["hüllo", '{"n":1}']


def test_a_frame_says_what_it_is():
    assert "TEXT" in repr(Frame(1, b"hello"))
    assert Frame(3).opcode == 3
    assert Frame.close(4000, "bye").payload == b"\x0f\xa0bye"


# -- both ends


async def test_they_hear_what_is_said_and_answer_nothing(autojump_clock):
    client, server, _ = peers()
    await client.say("hello", Frame(Opcode.PING, b"?"), Frame.close())
    await client.say_raw(Frame.text("torn").encoded(masked=True)[:7])
    await client.hang_up()
    assert await server.hear() == Frame.text("hello")
    assert await server.hear_all() == [Frame(Opcode.PING, b"?"), Frame.close()]
    assert await server.hear() is None
    assert len(server.unheard) == 7


@pytest.mark.parametrize("direction", [Direction.UP, Direction.DOWN])
async def test_a_frame_may_come_in_any_pieces(autojump_clock, direction):
    client, server, cable = peers()
    speaker, hearer = (client, server) if direction is Direction.UP else (server, client)
    cable.split(1)
    await speaker.say("hello", "x" * 300)
    await speaker.hang_up()
    assert await hearer.hear_all() == [Frame.text("hello"), Frame.text("x" * 300)]


async def test_a_broken_stream_is_a_lost_link(autojump_clock):
    client, server, cable = peers()
    cable.cut()
    for doing in (client.say("hello"), client.hear(), server.hear_request()):
        with pytest.raises(LinkLost):
            await doing


# -- the upgrade


async def test_a_server_accepts_by_hand_and_a_client_hears_it(autojump_clock):
    client, server, _ = peers()
    await client.say_raw(upgrade_request("/ws?a=1", subprotocols=["one", "two"], headers={"X-Name": "me"}))
    await client.say("right behind the request")
    head = await server.hear_request()
    assert (head.path, head.query, head.subprotocols) == ("/ws", {"a": ["1"]}, ["one", "two"])
    assert head.headers["x-name"] == "me"
    await server.accept(subprotocol="two", headers={"X-Served-By": "us"})
    await server.say("right behind the answer")
    assert await server.hear() == Frame.text("right behind the request")
    answer = await client.hear_response()
    assert (answer.status, answer.headers["sec-websocket-protocol"], answer.headers["x-served-by"]) == (
        101,
        "two",
        "us",
    )
    assert await client.hear() == Frame.text("right behind the answer")


async def test_a_server_refuses_by_hand(autojump_clock):
    async with open_scripted_server(lambda server: server.refuse(429, b"slowly", {"Retry-After": "7"})) as weather:
        with pytest.raises(Refused) as caught:
            await request_link(await weather.open_stream(), host="memory", resource="/")
    assert (caught.value.status, caught.value.body, caught.value.headers["retry-after"]) == (429, b"slowly", "7")


async def test_a_refusal_is_heard_whole(autojump_clock):
    client, server, cable = peers()
    cable.split(3)
    await client.say_raw(upgrade_request())
    await server.hear_request()
    await server.say_raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await server.refuse(403, b"not you")
    answer = await client.hear_response()
    assert (answer.status, answer.body) == (403, b"not you")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"SSH-2.0\r\n\r\n"])
async def test_what_is_no_answer_is_a_lost_link(autojump_clock, said):
    client, server, _ = peers()
    await server.say_raw(said)
    await server.hang_up()
    with pytest.raises(LinkLost, match="no answer"):
        await client.hear_response()


async def test_what_is_no_request_fails_the_test(autojump_clock):
    client, server, _ = peers()
    await client.say_raw(b"SSH-2.0\r\n\r\n")
    with pytest.raises(AssertionError, match="no request"):
        await server.accept()


# -- against real ends


async def echo(server):
    await server.accept()
    while (heard := await server.hear()) is not None:
        await server.say(Frame(heard.opcode, heard.payload))


async def test_a_scripted_server_serves_anybodys_client(autojump_clock):
    async with open_scripted_server(echo) as weather, trio.open_nursery() as tasks:
        weather.split(1)
        stream = await weather.open_stream()
        socket = await trio_websocket.wrap_client_stream(tasks, stream, "memory", "/chat")
        await socket.send_message("hello")
        assert await socket.get_message() == "hello"
        await socket.aclose()
        tasks.cancel_scope.cancel()


async def test_a_scripted_client_speaks_to_a_hub(autojump_clock):
    async with open_world() as world, world.open_scripted_client() as client:
        assert (await client.upgrade("/ws", subprotocols=[V1])).status == 101
        hello = await client.hear()
        assert json.loads(hello.payload)["event"] == "hello"
        assert hello.masked is False
        await client.say(Frame(Opcode.PING, b"?"), Frame.json({"seq": 1, "action": "ping"}))
        assert await client.hear() == Frame(Opcode.PONG, b"?")
        assert json.loads((await client.hear()).payload)["seq_reply"] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        Frame(Opcode.TEXT, b"{}", masked=False),
        Frame(Opcode.TEXT, b"{}", reserved=4),
        Frame(Opcode.CONTINUATION, b"{}"),
        Frame(Opcode.PING, fin=False),
        Frame(3),
        Frame.close(1006),
    ],
    ids=["unmasked", "compressed", "continuation of nothing", "fragmented ping", "unknown", "unsayable code"],
)
async def test_a_hub_hangs_up_on_a_client_that_says_it_wrong(autojump_clock, wrong):
    async with open_world() as world, world.open_scripted_client(cable=Cable(capacity=1000)) as client:
        await client.upgrade()
        await client.hear()  # hello
        await client.say(wrong)
        (goodbye,) = await client.hear_all()
        assert (goodbye.opcode, goodbye.payload[:2]) == (Opcode.CLOSE, b"\x03\xea")


# -- scripts


async def test_each_link_has_its_script_and_the_last_one_serves_on(autojump_clock):
    served = []

    def script(name):
        async def serve(server):
            served.append(name)
            await server.refuse()

        return serve

    async with open_scripted_server(script("first"), script("then")) as weather:
        for _ in range(3):
            with pytest.raises(Refused):
                await request_link(await weather.open_stream(), host="memory", resource="/")
    assert served == ["first", "then", "then"]


async def test_a_script_whose_client_has_left_is_over(autojump_clock):
    async def talk(server):
        await server.accept()
        while True:
            await server.say("hello")

    async with open_scripted_server(talk) as weather:
        link = await request_link(await weather.open_stream(), host="memory", resource="/")
        weather.cut_once()
        await link.close()


async def test_a_script_that_ends_has_hung_up(autojump_clock):
    async with open_scripted_server(ScriptedServer.accept) as weather:
        link = await request_link(await weather.open_stream(), host="memory", resource="/")
        with pytest.raises(LinkLost, match="without a goodbye"):
            await link.receive()
        await link.close()


async def test_an_assertion_that_fails_in_a_script_fails_the_test():
    async def suspicious(server):
        assert (await server.hear_request()).path == "/elsewhere"

    with pytest.raises(AssertionError, match="elsewhere"):
        async with open_scripted_server(suspicious) as weather:
            await request_link(await weather.open_stream(), host="memory", resource="/here")


async def test_a_server_without_a_script_is_a_misuse():
    with pytest.raises(Misuse):
        async with open_scripted_server():
            pass


async def test_a_script_may_hand_its_stream_to_the_real_server(autojump_clock):
    async with open_world() as world:

        async def really(server):
            await world.server.serve_stream(server.stream)

        async with (
            open_scripted_server(lambda server: server.refuse(), really) as weather,
            open_client("ws://hub", open_stream=weather.open_stream) as client,
        ):
            assert (await client.request("ping"))["text"] == "pong"
            assert weather.dials == 2


async def test_a_link_may_take_over_where_the_script_stops(autojump_clock):
    async def as_link(server):
        await server.accept()
        async with Link(server.stream, client=False, unread=server.unheard).running() as link:
            await link.send("from here on it is a link")

    async with open_scripted_server(as_link) as weather:
        link = await request_link(await weather.open_stream(), host="memory", resource="/")
        assert await link.receive() == ["from here on it is a link"]
        await link.close()


def test_an_answer_is_that_of_the_rfc():
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in upgrade_response("dGhlIHNhbXBsZSBub25jZQ==")
