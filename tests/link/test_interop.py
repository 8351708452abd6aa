"""Links talk with strangers: `websockets` and `trio-websocket`, each at either end, over real sockets."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio_websocket
import websockets.trio.client
import websockets.trio.server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory

from trio_hub.errors import LinkLost, Refused
from trio_hub.link.dialing import Address, connect, open_link
from trio_hub.link.link import Link
from trio_hub.link.serving import serve_links
from trio_hub.messages import CloseReason
from trio_hub.options import CompressionOptions, LinkOptions

COMPRESSED = LinkOptions(compression=CompressionOptions())
MESSAGES = [
    "",
    "grüße €",
    "x" * 125,
    "x" * 126,
    "€" * 40_000,
    b"",
    b"\x00\xff",
    bytes(65_535),
    bytes(65_536),
    b"y" * 2**20,
]
IDS = ["empty text", "text", "125", "126", "long text", "empty", "binary", "65535", "65536", "1 MiB"]


class Echo:
    """A server of ours, which does what it is told and notes how its links end."""

    def __init__(self) -> None:
        self.closed: list[CloseReason] = []
        self.gone = trio.Event()

    async def __call__(self, link: Link) -> None:
        try:
            async for message in link:
                if message == "leave":
                    link.end(CloseReason(4321, "as you wish"))
                else:
                    await link.send(message)
        finally:
            self.closed.append(link.closed)
            self.gone.set()


@asynccontextmanager
async def ours(options: LinkOptions | None = None):
    """Serve links of ours; yield the URL and the server."""
    echo = Echo()
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, echo, options=options))
        with trio.fail_after(10):
            yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/", echo
        tasks.cancel_scope.cancel()


# -- websockets as the client

compressions = pytest.mark.parametrize("compression", [None, "deflate"])
"""It offers compression unless told not to; we agree to none unless told to."""


def websockets_client(url: str, **more):
    return websockets.trio.client.connect(url, proxy=None, **{"compression": None, "max_size": None, **more})


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
@compressions
async def test_a_websockets_client_hears_its_own_words(message, compression):
    async with ours() as (url, _), websockets_client(url, compression=compression) as client:
        await client.send(message)
        assert await client.recv() == message


@pytest.mark.parametrize(
    "offer",
    [
        {},
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"client_max_window_bits": 9},
        {"client_max_window_bits": None},
    ],
    ids=str,
)
async def test_a_websockets_client_hears_its_own_words_compressed(offer):
    offers = [ClientPerMessageDeflateFactory(**offer)]
    async with ours(COMPRESSED) as (url, _), websockets_client(url, extensions=offers) as client:
        (agreed,) = client.protocol.extensions
        assert agreed.remote_no_context_takeover
        for message in MESSAGES * 2:
            await client.send(message)
            assert await client.recv() == message
        await client.send(["one ", "", "two ", "thr\u00e9e"])
        assert await client.recv() == "one two thrée"


async def test_a_websockets_client_whose_offers_we_decline_is_served_without():
    offers = [ClientPerMessageDeflateFactory(server_max_window_bits=8)]
    async with ours(COMPRESSED) as (url, _), websockets_client(url, extensions=offers) as client:
        assert client.protocol.extensions == []
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000


async def test_a_websockets_client_with_a_bomb_is_told_that_its_message_is_too_large():
    async with ours(COMPRESSED) as (url, _), websockets_client(url, compression="deflate") as client:
        await client.send(bytes(2**26))
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (
            1009,
            "message inflates to more than 1048576 bytes",
        )


async def test_a_websockets_client_may_speak_in_fragments():
    async with ours() as (url, _), websockets_client(url) as client:
        await client.send(["one ", "", "two ", "thr\u00e9e"])
        assert await client.recv() == "one two thrée"
        await client.send([b"\x00" * 70_000, b"\xff"])
        assert await client.recv() == b"\x00" * 70_000 + b"\xff"


async def test_a_websockets_clients_pings_are_answered():
    async with ours() as (url, _), websockets_client(url) as client:
        for payload in (b"", b"payload", b"x" * 125):
            answered = await client.ping(payload)
            await answered.wait()


async def test_a_websockets_client_closes_with_its_code():
    async with ours() as (url, echo):
        async with websockets_client(url) as client:
            await client.aclose(4001, "enough")
            assert (client.close_code, client.close_reason) == (4001, "enough")
        await echo.gone.wait()
        assert echo.closed == [CloseReason(4001, "enough")]


async def test_a_websockets_client_hears_our_code():
    async with ours() as (url, _), websockets_client(url) as client:
        await client.send("leave")
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "as you wish")
        assert caught.value.sent.code == 4321, "it was the one to answer"


async def test_a_websockets_client_is_told_that_its_message_is_too_large():
    async with ours() as (url, _), websockets_client(url) as client:
        await client.send(b"x" * (2**20 + 1))
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1009, "message is larger than 1048576 bytes")


async def test_a_websockets_client_asks_for_what_is_no_upgrade_in_vain():
    async with ours() as (url, _):
        with pytest.raises(InvalidStatus) as caught:
            async with websockets_client(url, additional_headers={"X-Name": "x" * 20_000}):
                raise AssertionError
        assert caught.value.response.status_code == 431


# -- websockets as the server


@asynccontextmanager
async def websockets_server(handler=None, **more):
    async def echo(connection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await heed(connection, await connection.recv())

    async def heed(connection, message: str | bytes) -> None:
        if message == "leave":
            await connection.aclose(4321, "as you wish")
        elif message == "fragments":
            await connection.send(["one ", "two ", "three"])
        elif message == "ping":
            answered = await connection.ping(b"payload")
            await answered.wait()
            await connection.send("ponged")
        else:
            await connection.send(message)

    async with trio.open_nursery() as tasks:
        serve = partial(websockets.trio.server.serve, handler or echo, 0, host="127.0.0.1", max_size=None, **more)
        server = await tasks.start(serve)
        with trio.fail_after(10):
            yield f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}/"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
async def test_a_websockets_server_gives_our_words_back(message):
    async with websockets_server() as url, open_link(url) as link:
        await link.send(message)
        assert await link.receive() == [message]


@pytest.mark.parametrize(
    "agreed",
    [
        {},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
    ],
    ids=str,
)
async def test_a_websockets_server_gives_our_words_back_compressed(agreed):
    extensions = [ServerPerMessageDeflateFactory(**agreed)]
    async with websockets_server(extensions=extensions) as url, open_link(url, options=COMPRESSED) as link:
        assert link.compression is not None
        for message in MESSAGES * 2:  # where context is kept, the second time leans on the first
            await link.send(message)
            assert await link.receive() == [message]
        await link.send("fragments")
        assert await link.receive() == ["one two three"]


async def test_a_websockets_server_may_agree_to_no_compression():
    async with websockets_server(compression=None) as url, open_link(url, options=COMPRESSED) as link:
        assert link.compression is None
        await link.send("x" * 1000)
        assert await link.receive() == ["x" * 1000]


async def test_a_websockets_server_may_speak_in_fragments_and_ping():
    async with websockets_server() as url, open_link(url) as link:
        await link.send("fragments")
        assert await link.receive() == ["one two three"]
        await link.send("ping")
        assert await link.receive() == ["ponged"]


async def test_a_websockets_server_hears_our_code_and_we_hear_its():
    heard, noted = [], trio.Event()

    async def note(connection) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            await connection.recv()
        heard.append((caught.value.rcvd.code, caught.value.rcvd.reason))
        noted.set()

    async with websockets_server(note) as url, open_link(url) as link:
        await link.close(4001, "enough")
        with trio.fail_after(10):
            await noted.wait()  # the stream has ended, and its handler may have had no turn yet
    assert heard == [(4001, "enough")]
    async with websockets_server() as url, open_link(url) as link:
        await link.send("leave")
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.close == CloseReason(4321, "as you wish")


async def test_a_websockets_server_agrees_on_a_subprotocol():
    async with (
        websockets_server(subprotocols=["two", "one"]) as url,
        open_link(url, subprotocols=["one", "zero"]) as link,
    ):
        assert link.subprotocol == "one"


async def test_a_websockets_server_may_refuse_us():
    def refuse(connection, request):
        return connection.respond(403, "not you\n")

    async with websockets_server(process_request=refuse) as url:
        with pytest.raises(Refused) as caught:
            async with open_link(url):
                raise AssertionError
        assert (caught.value.status, caught.value.body) == (403, b"not you\n")


# -- trio-websocket


def trio_websocket_client(url: str):
    return trio_websocket.open_websocket_url(url, max_message_size=2**24)


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
async def test_a_trio_websocket_client_hears_its_own_words(message):
    async with ours() as (url, _), trio_websocket_client(url) as client:
        await client.send_message(message)
        assert await client.get_message() == message


async def test_a_trio_websocket_client_pings_and_closes():
    async with ours() as (url, echo):
        async with trio_websocket_client(url) as client:
            await client.ping(b"payload")
            await client.aclose(4001, "enough")
        await echo.gone.wait()
        assert echo.closed == [CloseReason(4001, "enough")]


async def test_a_trio_websocket_client_hears_our_code():
    async with ours() as (url, _), trio.open_nursery() as tasks:
        address = Address.parse(url)
        stream = await connect(address)  # by ourselves, since it would not close it
        client = await trio_websocket.wrap_client_stream(tasks, stream, address.host, address.resource)
        await client.send_message("leave")
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await client.get_message()
        assert (caught.value.reason.code, caught.value.reason.reason) == (4321, "as you wish")
        await stream.aclose()


@asynccontextmanager
async def trio_websocket_server():
    async def echo(request) -> None:
        connection = await request.accept(subprotocol=next(iter(request.proposed_subprotocols), None))
        try:
            while True:
                message = await connection.get_message()
                if message == "leave":
                    await connection.aclose(4321, "as you wish")
                elif message == "ping":
                    await connection.ping(b"payload")
                    await connection.send_message("ponged")
                else:
                    await connection.send_message(message)
        except trio_websocket.ConnectionClosed:
            return

    async with trio.open_nursery() as tasks:
        serve = partial(trio_websocket.serve_websocket, echo, "127.0.0.1", 0, None, max_message_size=2**24)
        server = await tasks.start(serve)
        with trio.fail_after(10):
            yield f"ws://127.0.0.1:{server.port}/"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("message", MESSAGES, ids=IDS)
async def test_a_trio_websocket_server_gives_our_words_back(message):
    async with trio_websocket_server() as url, open_link(url) as link:
        await link.send(message)
        assert await link.receive() == [message]


async def test_a_trio_websocket_server_pings_and_closes():
    async with trio_websocket_server() as url, open_link(url, subprotocols=["one"]) as link:
        assert link.subprotocol == "one"
        await link.send("ping")
        assert await link.receive() == ["ponged"]
        await link.send("leave")
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.close == CloseReason(4321, "as you wish")
