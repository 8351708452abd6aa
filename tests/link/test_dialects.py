"""Links in private dialects: both ends are ours, over real sockets, in every mix of options and with weather."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from trio_hub.dialect import STANDARD, Dialect
from trio_hub.errors import LinkLost, Misuse
from trio_hub.link.agreeing import Asking
from trio_hub.link.dialing import Address, dial, open_link
from trio_hub.link.dispatching import Dispatcher
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.link.serving import serve_links
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Kind
from trio_hub.options import CompressionOptions, DispatchOptions, LinkOptions, OpeningOptions, Order
from trio_hub.testing.listener import CableListener

KEY = bytes(range(32))
UPGRADE = {
    "Host": "here",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAECAwQFBgcICQoLDA0ODw==",
}
MASK = "bytes length is times 4!"
MIXES = {
    "standard": STANDARD,
    "magic key": Dialect(magic_key="masking here & there"),
    "private mask": Dialect(private_mask=MASK),
    "private mask, always": Dialect(private_mask=MASK, always_mask=True),
    "always masked": Dialect(always_mask=True),
    "chunks": Dialect(chunk_size=1000),
    "opcodes": Dialect(opcodes={3, 7, 11, 15}),
    "sealed": Dialect.sealed(KEY),
    "sealed with everything": Dialect.sealed(
        KEY, magic_key="magic", private_mask=MASK, always_mask=True, opcodes={5, 12}, chunk_size=777
    ),
    "webson": Dialect.webson(),
    "webson, streams": Dialect.webson(streams=7),
    "webson with everything": Dialect.webson(magic_key="magic", private_mask=MASK, always_mask=True, streams=1024),
}
BOTH = [
    pytest.param(dialect, compressed, id=f"{name}{' compressed' * compressed}")
    for name, dialect in MIXES.items()
    for compressed in (False, True)
]
CLIENT_SENDS = [b"x" * 100, "\u2603" * 50, b"y" * 10_000, "\u2603" * 3333, b"", ""]


def options_for(dialect: Dialect, compressed: bool = False, **more: Any) -> LinkOptions:
    return LinkOptions(dialect=dialect, compression=CompressionOptions() if compressed else None, **more)


async def echo(link: Link) -> None:
    async for message in link:
        await link.send(message)


async def echo_pieces(link: Link) -> None:
    """Send every message back while it comes, at the same time where they have streams."""
    async with trio.open_nursery() as tasks:
        async for message in link.messages():
            send = partial(link.send_stream, message.kind, message)
            if message.kind > 10:
                await link.send(await message.read(), message.kind)
            elif message.stream is None:
                await send()
            else:
                tasks.start_soon(send)


@asynccontextmanager
async def linked(options: LinkOptions, handler: Any = echo, theirs: LinkOptions | None = None) -> AsyncIterator[Link]:
    async with open_tasks() as tasks:
        listeners = await tasks.start(partial(serve_links, handler, options=theirs or options))
        port = listeners[0].socket.getsockname()[1]
        async with open_link(f"ws://127.0.0.1:{port}/v?q=1", options=options) as link:
            yield link
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("dialect", "compressed"), BOTH)
async def test_whole_messages_are_echoed(dialect, compressed):
    async with linked(options_for(dialect, compressed)) as link:
        for message in CLIENT_SENDS:
            await link.send(message)
            assert await anext(link) == message
    assert link.closed is not None
    assert link.closed.code == 1000


@pytest.mark.parametrize(("dialect", "compressed"), BOTH)
async def test_messages_are_had_and_sent_in_pieces(dialect, compressed):
    sources: list[tuple[int, list[Any]]] = [
        (Kind.BINARY, [b"x" * 100]),
        (Kind.TEXT, ["\u2603" * 3333, "", "end"]),
        (Kind.BINARY, [b"y" * 300_000, b"z" * 10]),
        (Kind.BINARY, []),
        *[(kind, [b"private"] * 3) for kind in dialect.opcodes if kind < 8],
    ]
    async with linked(options_for(dialect, compressed), echo_pieces) as link:
        messages = link.messages()
        for kind, source in sources:
            await link.send_stream(kind, source)
            message = await anext(messages)
            assert message.kind == kind
            assert await message.read() == ("" if kind == Kind.TEXT else b"").join(source)
        for kind in [kind for kind in dialect.opcodes if kind > 8]:
            await link.send(b"urgent", kind)
            message = await anext(messages)
            assert (message.kind, await message.read()) == (kind, b"urgent")


@pytest.mark.parametrize("order", Order, ids=lambda order: order.value)
@pytest.mark.parametrize(("dialect", "compressed"), BOTH)
async def test_messages_are_handed_to_handlers(dialect, compressed, order):
    async def serve(link: Link) -> None:
        dispatcher = Dispatcher(link, options=DispatchOptions(order=order))

        @dispatcher.on_message()
        async def echo_it(message: Incoming, link: Link) -> None:
            await link.send_stream(message.kind, message)

        assert (await dispatcher.run()).code == 1000

    async with linked(options_for(dialect, compressed), serve) as link, open_tasks() as tasks:
        tasks.start_soon(link.send_stream, Kind.BINARY, [b"z" * 50_000] * 20)
        for message in CLIENT_SENDS:
            await link.send(message)
        echoed = [await anext(link) for _ in range(len(CLIENT_SENDS) + 1)]
        said = [b"z" * 1_000_000, *CLIENT_SENDS]
        if order is Order.IN_ORDER and not dialect.streams:
            assert [message for message in echoed if message != said[0]] == CLIENT_SENDS
        assert sorted(map(repr, echoed)) == sorted(map(repr, said))


@pytest.mark.parametrize(("dialect", "compressed"), BOTH)
async def test_a_ping_has_its_pong(dialect, compressed):
    async with linked(options_for(dialect, compressed)) as link, trio.open_nursery() as tasks:
        tasks.start_soon(anext, link)
        assert 0 <= await link.ping() < 10
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (STANDARD, Dialect(magic_key="magic")),
        (Dialect(magic_key="magic"), STANDARD),
        (Dialect.sealed(KEY), Dialect.sealed(KEY[::-1])),
        (Dialect.sealed(KEY), STANDARD),
        (STANDARD, Dialect.sealed(KEY)),
    ],
    ids=["no magic", "magic alone", "another key", "sealed alone", "not sealed"],
)
async def test_ends_that_do_not_agree_have_no_link(ours, theirs):
    """A magic key is looked at by clients alone; a sealed link is proved to both."""
    served = []

    async def serve(link: Link) -> None:
        served.append(link)

    with pytest.raises(LinkLost):
        async with linked(options_for(ours), serve, theirs=options_for(theirs)):
            raise AssertionError("there is a link")
    assert theirs.secret is None or not served


@pytest.mark.parametrize("dialect", [Dialect.sealed(KEY), Dialect.webson(streams=7)], ids=["sealed", "webson"])
async def test_a_message_that_cannot_be_sent_leaves_the_link_sound(dialect):
    async with linked(options_for(dialect, max_message=2_000_000)) as link:
        with pytest.raises(Misuse):
            await link.send_all(["good", 5])  # type: ignore[list-item]
        for message in ("better", b"x" * 2_000_000):
            await link.send(message)
            assert await anext(link) == message


# -- a server waits for its client


@pytest.mark.parametrize("name", ["standard", "sealed", "webson"])
async def test_a_server_that_speaks_and_leaves_need_not_wait(name, autojump_clock):
    """For what came with the proof of the key is heard when it leaves, though it has received nothing."""
    listener, options = CableListener(), options_for(MIXES[name])

    async def lay_cable(address: Address) -> trio.abc.Stream:
        return listener.dial()

    async def greet(link: Link) -> None:
        await link.send("hello")

    async with open_tasks() as tasks:
        await tasks.start(partial(serve_links, greet, listeners=[listener], options=options))
        begun = trio.current_time()
        address = Address.parse("ws://memory/")
        link = await dial(address, open_stream=lay_cable, options=options, opening=OpeningOptions())
        async with link.running():
            assert [message async for message in link] == ["hello"]
        assert trio.current_time() - begun < 0.5
        tasks.cancel_scope.cancel()


async def test_whoever_does_not_prove_the_key_has_no_link(autojump_clock):
    """Over a stream that cannot be written at once, too."""
    listener, served = CableListener(), []

    async def serve(link: Link) -> None:
        served.append(link)

    async with open_tasks() as tasks:
        options = options_for(Dialect.sealed(KEY))
        await tasks.start(partial(serve_links, serve, listeners=[listener], options=options))
        stream = listener.dial()
        asking = Asking(options.dialect)
        lines = [f"{name}: {value}" for name, value in {**UPGRADE, **asking.headers}.items()]
        await stream.send_all("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode())
        begun = trio.current_time()
        with trio.fail_after(60):
            said = b"".join([data async for data in stream])
        assert said.startswith(b"HTTP/1.1 101")
        assert trio.current_time() - begun == pytest.approx(OpeningOptions().deadline + options.close_timeout, abs=1)
        assert not served
        tasks.cancel_scope.cancel()
