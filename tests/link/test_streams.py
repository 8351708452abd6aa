"""Many messages at once on one link: each at its own pace, and none delays or harms another."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import BINARY, FIN, RawPeer, tcp_pair
from trio_hub.errors import LinkLost, Misuse, PeerFault, StreamReset
from trio_hub.link.dialing import open_link
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.link.serving import serve_links
from trio_hub.link.streams import SUBPROTOCOL, Streams, open_streams
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseReason, Kind
from trio_hub.options import CompressionOptions, LinkOptions, StreamsOptions
from trio_hub.testing import Cable, Direction
from trio_hub.wire.deflate import Parameters

SMALL = StreamsOptions(window=40, messages=4, chunk=10)


def link_of(stream: trio.abc.Stream, *, client: bool, options: LinkOptions | None = None) -> Link:
    agreed = Parameters() if options is not None and options.compression else None
    return Link(stream, client=client, subprotocol=SUBPROTOCOL, compression=agreed, options=options)


@asynccontextmanager
async def streams_on(
    near: trio.abc.Stream,
    far: trio.abc.Stream,
    options: StreamsOptions | None = None,
    link_options: LinkOptions | None = None,
) -> AsyncIterator[tuple[Streams, Streams]]:
    """A client's and a server's messages, over any two streams."""
    client, server = [link_of(end, client=end is near, options=link_options) for end in (near, far)]
    async with open_tasks() as tasks:
        for link in (client, server):
            link.writer.run_in(tasks)
        async with Streams(client, options).running() as ours, Streams(server, options).running() as theirs:
            yield ours, theirs
        async with trio.open_nursery() as closing:
            closing.start_soon(client.close)
            closing.start_soon(server.close)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def streams_in_memory(
    options: StreamsOptions | None = None, *, cable: Cable | None = None, link_options: LinkOptions | None = None
) -> AsyncIterator[tuple[Streams, Streams]]:
    cable = cable or Cable()
    async with streams_on(cable.near, cable.far, options, link_options) as both:
        yield both


@asynccontextmanager
async def streams_and_peer(options: StreamsOptions | None = None) -> AsyncIterator[tuple[Streams, RawPeer]]:
    """A server's messages, and a raw peer who has said hello and may say anything."""
    cable = Cable()
    async with link_of(cable.far, client=False).running() as link, Streams(link, options).running() as streams:
        peer = RawPeer(cable.near)
        await peer.say(FIN | BINARY, b"\x05\x80\x01\x00\x00\x04")
        assert (await peer.hear())[0] == 0x05
        yield streams, peer
        cable.near.hang_up()


async def endless(sent: list[int] | None = None) -> AsyncIterator[bytes]:
    while True:
        if sent is not None:
            sent.append(1)
        yield b"0123456789"


async def suppressed(pass_on, *args) -> None:
    """Send or take, until the link ends or the message is given up."""
    try:
        await pass_on(*args)
    except (StreamReset, LinkLost):
        pass


async def iterate(message: Incoming) -> None:
    """Take a message and keep nothing of it."""
    async for _ in message:
        pass


# -- messages


async def test_messages_come_whole_in_both_directions(autojump_clock):
    async with streams_in_memory() as both:
        for sender, receiver in (both, both[::-1]):
            for message in ("grüße", b"\x00\xff", "", b""):
                await sender.send(message)
                assert await (await anext(receiver)).read() == message


async def test_many_messages_come_in_order_though_few_may_wait(autojump_clock):
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:

        async def send_all() -> None:
            for n in range(100):
                await client.send(str(n))

        tasks.start_soon(send_all)
        assert [await (await anext(server)).read() for _ in range(100)] == [str(n) for n in range(100)]


async def test_a_message_larger_than_every_window_comes_whole(autojump_clock):
    large = bytes(range(256)) * 40
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send, large)
        message = await anext(server)
        assert message.kind == Kind.BINARY
        assert message.stream == 1
        assert await message.read() == large


async def test_everything_comes_when_every_read_is_split(autojump_clock):
    cable = Cable()
    cable.split(1)
    async with streams_in_memory(SMALL, cable=cable) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send, "größer" * 20)
        tasks.start_soon(server.send, b"x" * 200)
        assert await (await anext(server)).read() == "größer" * 20
        assert await (await anext(client)).read() == b"x" * 200


async def test_a_message_is_read_by_one_task(autojump_clock):
    more, got = trio.Event(), []

    async def slowly() -> AsyncIterator[str]:
        yield "once"
        await more.wait()
        yield " more"

    async with streams_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, slowly())
        message = await anext(server)

        async def read() -> None:
            got.append(await message.read())

        with trio.move_on_after(1):  # who is cancelled makes room for another
            async for _ in message:
                await anext(message)
        tasks.start_soon(read)
        await wait_all_tasks_blocked()
        with pytest.raises(Misuse, match="another task"), trio.fail_after(1):
            await message.read()
        more.set()
    assert got == [" more"]


async def test_messages_may_be_compressed(autojump_clock):
    options = LinkOptions(compression=CompressionOptions(above=1))
    async with streams_in_memory(link_options=options) as (client, server):
        await client.send("again and " * 1000)
        assert await (await anext(server)).read() == "again and " * 1000


async def test_a_message_may_come_from_many_things(autojump_clock, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 10)

    async def pieces() -> AsyncIterator[bytes]:
        for n in range(10):
            yield b"%d" % n * 7

    async with streams_in_memory(SMALL) as (client, server):
        with path.open("rb") as file:
            sources = [(b"abc", b"abc"), (b"", b""), (pieces(), b"".join(b"%d" % n * 7 for n in range(10)))]
            sources += [([b"a", b"", b"b"], b"ab"), ([], b""), (file, path.read_bytes()), (io.BytesIO(b"a"), b"a")]
            for source, expected in sources:
                async with open_tasks() as tasks:
                    tasks.start_soon(client.send_stream, Kind.BINARY, source)
                    assert await (await anext(server)).read() == expected


async def test_text_is_decoded_though_it_is_cut_inside_characters(autojump_clock):
    text = "€" * 50
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, [text])
        message = await anext(server)
        chunks = [chunk async for chunk in message]
        assert message.kind == Kind.TEXT
        assert "".join(chunks) == text
        assert len(chunks) > 1
        assert all(chunks)


async def test_text_that_is_not_utf8_harms_its_message_alone(autojump_clock):
    async with streams_and_peer() as (streams, peer):
        for frames in ([b"\x81\xff"], [b"\x81\xe2\x82"], [b"\x41\xff"]):
            for frame in frames:
                await peer.say(FIN | BINARY, frame)
            message = await anext(streams)
            for _ in range(2):
                with pytest.raises(StreamReset) as caught:
                    await message.read()
                assert caught.value.code == 1007
        assert await peer.hear() == b"\x03\x03\x43\xefinvalid UTF-8"
        await peer.say(FIN | BINARY, b"\x81fine")
        assert await (await anext(streams)).read() == "fine"


async def test_a_message_that_ends_after_its_text_was_had_is_whole(autojump_clock):
    to_source, source = trio.open_memory_channel[str](0)
    async with streams_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, source)
        await to_source.send("grüße")
        message = await anext(server)
        assert await anext(message) == "grüße"
        await to_source.aclose()
        assert [chunk async for chunk in message] == []
        assert repr(message) == "<message of kind 1 on stream 1>"


async def test_other_kinds_than_text_and_binary_are_bytes(autojump_clock):
    async with streams_in_memory() as (client, server):
        await client.send_stream(3, b"odd")
        message = await anext(server)
        assert (message.kind, await message.read()) == (3, b"odd")


async def test_several_tasks_may_share_the_messages(autojump_clock):
    async with streams_in_memory() as (client, server):
        had = []

        async def take_two() -> None:
            had.extend([await (await anext(server)).read() for _ in range(2)])

        async with open_tasks() as tasks:
            for _ in range(3):
                tasks.start_soon(take_two)
            await wait_all_tasks_blocked()
            for n in range(6):
                await client.send(str(n))
        assert sorted(had) == list("012345")


# -- nobody delays anybody


async def test_a_small_message_overtakes_large_ones(autojump_clock):
    cable = Cable(capacity=1000)
    options = StreamsOptions(window=100_000, chunk=100)
    async with streams_in_memory(options, cable=cable) as (client, server), open_tasks() as tasks:
        cable.slow(1000, Direction.UP)
        for _ in range(3):
            tasks.start_soon(suppressed, client.send, b"x" * 90_000)
        messages = [await anext(server) for _ in range(3)]
        tasks.start_soon(client.send, "quick")
        with trio.fail_after(3):  # what the cable holds, what is in hand, and a chunk of each
            assert await (await anext(server)).read() == "quick"
        for message in messages:
            message.stop()


async def test_senders_take_turns(autojump_clock):
    cable = Cable(capacity=100)
    async with streams_in_memory(SMALL, cable=cable) as (client, server), open_tasks() as tasks:
        sent: list[list[int]] = [[], [], []]
        cable.slow(1000, Direction.UP)
        for one in sent:
            tasks.start_soon(suppressed, client.send_stream, Kind.BINARY, endless(one))
        for _ in sent:
            tasks.start_soon(suppressed, iterate, await anext(server))
        await trio.sleep(30)
        assert min(map(len, sent)) > 100
        assert max(map(len, sent)) < 1.1 * min(map(len, sent))
        tasks.cancel_scope.cancel()


async def test_a_message_that_nobody_reads_delays_no_other(autojump_clock):
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:
        sent: list[int] = []
        tasks.start_soon(suppressed, client.send_stream, Kind.BINARY, endless(sent))
        slow = await anext(server)
        for n in range(50):
            await client.send(str(n))
            assert await (await anext(server)).read() == str(n)
        assert len(sent) <= 5, "a window, and the piece that waits"
        slow.stop()


async def test_only_so_many_messages_wait_for_somebody_who_takes_them(autojump_clock):
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:
        sent = []

        async def send(n: int) -> None:
            await client.send(str(n))
            sent.append(n)

        for n in range(10):
            tasks.start_soon(send, n)
        await trio.sleep(1)
        assert len(sent) == 4
        had = {await (await anext(server)).read() for _ in range(10)}
        assert had == {str(n) for n in range(10)}


async def test_a_send_that_is_cancelled_while_it_waits_was_not_sent(autojump_clock):
    async with streams_in_memory(SMALL) as (client, server):
        for n in range(4):
            await client.send(str(n))
        with trio.move_on_after(1) as scope:
            await client.send("not this")
        assert scope.cancelled_caught
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send("nor this")
        assert scope.cancelled_caught
        async with open_tasks() as tasks:
            tasks.start_soon(client.send, "but this")
            assert [await (await anext(server)).read() for _ in range(5)] == ["0", "1", "2", "3", "but this"]


async def test_what_was_cancelled_while_it_was_taken_is_not_lost(autojump_clock):
    async with streams_in_memory() as (client, server), open_tasks() as tasks:
        with trio.move_on_after(1) as scope:
            await anext(server)
        assert scope.cancelled_caught
        to_source, source = trio.open_memory_channel[bytes](0)
        tasks.start_soon(client.send_stream, Kind.BINARY, source)
        await to_source.send(b"a")
        message = await anext(server)
        assert await anext(message) == b"a"
        with trio.move_on_after(1) as scope:
            await anext(message)
        assert scope.cancelled_caught
        await to_source.send(b"b")
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(message)
        assert scope.cancelled_caught
        await to_source.aclose()
        assert await message.read() == b"b"


# -- given up


async def test_a_source_that_fails_resets_its_message_alone(autojump_clock):
    async def failing() -> AsyncIterator[bytes]:
        yield b"begun"
        await trio.sleep(1)
        raise ZeroDivisionError

    async with streams_in_memory() as (client, server), open_tasks() as tasks:

        async def send() -> None:
            with pytest.raises(ZeroDivisionError):
                await client.send_stream(Kind.BINARY, failing())

        tasks.start_soon(send)
        message = await anext(server)
        assert await anext(message) == b"begun"
        with pytest.raises(StreamReset) as caught:
            await anext(message)
        assert (caught.value.code, caught.value.reason) == (1011, "its source failed")
        await client.send("and on")
        assert await (await anext(server)).read() == "and on"


async def test_a_source_of_another_kind_is_a_misuse_and_sends_nothing(autojump_clock):
    async with streams_in_memory() as (client, server):
        for kind, source in [(Kind.TEXT, b"a"), (Kind.BINARY, "a"), (Kind.TEXT, [b"a"]), (8, b"a"), (Kind.BINARY, 5)]:
            with pytest.raises(Misuse):
                await client.send_stream(kind, source)
        for message in (5, "\ud800"):
            with pytest.raises(Misuse):
                await client.send(message)
        await client.send("right")
        assert await (await anext(server)).read() == "right"


@pytest.mark.parametrize("send", ["send", "send_stream"])
async def test_a_cancelled_message_is_known_not_to_be_whole(send, autojump_clock):
    async with streams_in_memory(SMALL) as (client, server):
        arguments = (b"x" * 500,) if send == "send" else (Kind.BINARY, b"x" * 500)
        with trio.move_on_after(1) as scope:
            await getattr(client, send)(*arguments)
        assert scope.cancelled_caught
        with pytest.raises(StreamReset) as caught:
            await (await anext(server)).read()
        assert (caught.value.code, caught.value.reason) == (1001, "its sender was cancelled")


@pytest.mark.parametrize("send", ["send", "send_stream"])
async def test_a_small_message_is_not_sent_after_it_was_cancelled(send, autojump_clock):
    """Not by the writer either, which may draw before whoever was cancelled has its turn."""
    cable = Cable()
    async with streams_in_memory(cable=cable) as (client, server), open_tasks() as tasks:
        await client.send("hello")
        assert await (await anext(server)).read() == "hello"
        cable.stall()
        tasks.start_soon(client.send, bytes(200_000))
        await wait_all_tasks_blocked()
        arguments = (b"cancelled",) if send == "send" else (Kind.BINARY, b"cancelled")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as sending:
                sending.start_soon(partial(getattr(client, send), *arguments))
                await wait_all_tasks_blocked()
                scope.cancel()
                client.link.writer.post(client._draw(1 << 20)[0])
        assert scope.cancelled_caught
        cable.mend()
        large = await anext(server)
        tasks.start_soon(client.send, b"sent")
        assert await (await anext(server)).read() == b"sent"
        assert await large.read() == bytes(200_000)


async def test_who_is_sent_too_much_says_stop(autojump_clock):
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:

        async def send() -> None:
            with pytest.raises(StreamReset) as caught:
                await client.send_stream(Kind.BINARY, endless())
            assert (caught.value.code, caught.value.reason) == (4000, "enough")

        tasks.start_soon(send)
        message = await anext(server)
        await anext(message)
        message.stop(4000, "enough")
        message.stop(4001, "again")
        with pytest.raises(StreamReset, match="4000: enough"):
            await anext(message)
        await client.send("and on")
        assert await (await anext(server)).read() == "and on"


async def test_a_stop_reaches_a_sender_whose_source_has_nothing_to_say(autojump_clock):
    to_source, source = trio.open_memory_channel[bytes](0)
    async with streams_in_memory() as (client, server), open_tasks() as tasks:

        async def send() -> None:
            with pytest.raises(StreamReset, match="1000"):
                await client.send_stream(Kind.BINARY, source)
            stopped.set()

        stopped = trio.Event()
        tasks.start_soon(send)
        await to_source.send(b"a")
        (await anext(server)).stop()
        with trio.fail_after(1):
            await stopped.wait()


async def test_a_stop_wakes_whoever_waits_for_more(autojump_clock):
    to_source, source = trio.open_memory_channel[bytes](0)
    async with streams_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(suppressed, client.send_stream, Kind.BINARY, source)
        await to_source.send(b"a")
        message = await anext(server)
        await anext(message)
        tasks.start_soon(suppressed, iterate, message)
        await wait_all_tasks_blocked()
        message.stop()


async def test_messages_that_are_stopped_make_room_for_others(autojump_clock):
    async with streams_in_memory(SMALL) as (client, server), open_tasks() as tasks:
        for _ in range(20):
            tasks.start_soon(suppressed, client.send_stream, Kind.BINARY, endless())
        for _ in range(20):
            (await anext(server)).stop()


@pytest.mark.parametrize("code", [-1, 1 << 30])
async def test_a_code_is_a_number_that_can_be_sent(code, autojump_clock):
    async with streams_in_memory() as (client, server):
        await client.send("a")
        with pytest.raises(Misuse):
            (await anext(server)).stop(code)


async def test_a_message_of_a_plain_link_cannot_be_stopped(autojump_clock):
    cable = Cable()
    async with Link(cable.near, client=True).running() as link:
        await RawPeer(cable.far, client=False).say(FIN | BINARY, b"a")
        with pytest.raises(Misuse):
            (await anext(link.messages())).stop()
        cable.far.hang_up()


async def test_more_than_max_message_is_not_read_at_once_but_can_be_iterated_over(autojump_clock):
    link_options = LinkOptions(max_message=1000)
    options = StreamsOptions(window=500, chunk=100)
    async with streams_in_memory(options, link_options=link_options) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send, b"x" * 1500)
        message = await anext(server)
        with pytest.raises(PeerFault):
            await message.read()
        assert len(await message.read()) < 500


# -- the end


async def test_a_link_that_is_cut_is_told_to_everybody(autojump_clock):
    cable = Cable()
    to_source, source = trio.open_memory_channel[bytes](0)
    async with streams_in_memory(SMALL, cable=cable) as (client, server), open_tasks() as tasks:
        told = []

        async def lose(pass_on, *args) -> None:
            with pytest.raises(LinkLost):
                await pass_on(*args)
            told.append(pass_on)

        tasks.start_soon(lose, client.send_stream, Kind.BINARY, source)
        await to_source.send(b"a")
        tasks.start_soon(lose, iterate, await anext(server))
        tasks.start_soon(lose, client.send_stream, Kind.BINARY, endless())
        unread = await anext(server)
        tasks.start_soon(lose, client.send, b"x" * 1000)
        await anext(server)
        await wait_all_tasks_blocked()
        cable.cut()
        assert [message async for message in server] == []
        await wait_all_tasks_blocked()
        assert len(told) == 4
        assert await anext(unread), "what had come can still be had"
        for one_more in (unread.read(), client.send("a"), client.send_stream(Kind.BINARY, b"a")):
            with pytest.raises(LinkLost):
                await one_more


async def test_what_had_come_whole_is_had_after_the_end(autojump_clock):
    cable = Cable()
    async with streams_in_memory(cable=cable) as (client, server):
        await client.send("first")
        await client.send("last")
        await client.link.close()
        assert [await message.read() async for message in server] == ["first", "last"]
        assert server.closed == CloseReason(1000)


async def test_after_its_block_nothing_is_sent_any_more(autojump_clock):
    cable = Cable()
    async with link_of(cable.near, client=True).running() as link:
        async with Streams(link).running() as streams:
            assert streams.closed is None
        for send in (streams.send("a"), streams.send(b"a" * 1_000_000)):
            with pytest.raises(LinkLost, match="nobody runs its streams any more"):
                await send
        cable.far.hang_up()


async def test_an_error_in_the_block_comes_out_bare(autojump_clock):
    with pytest.raises(ZeroDivisionError):
        async with streams_in_memory():
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x00\x01a", "message 1 goes on, and is not under way"),
        (b"\x42" + b"x" * 41, "more of message 1 than its credit of 40 bytes"),
        (b"\x06\x01", "no frame begins with 0x06"),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_told_which(frame, reason, autojump_clock):
    async with streams_and_peer(SMALL) as (streams, peer):
        await peer.say(FIN | BINARY, frame)
        with pytest.raises(PeerFault) as caught:
            await anext(streams)
        assert caught.value.reason == reason
        with pytest.raises(LinkLost):
            await streams.send("a")
        await wait_all_tasks_blocked()
        streams.link.writer.flush()
        assert await peer.hear() == CloseReason(1002, reason)


async def test_a_peer_that_begins_too_many_messages_is_at_fault(autojump_clock):
    async with streams_and_peer(SMALL) as (streams, peer):
        for _ in range(5):
            await peer.say(FIN | BINARY, b"\x81a")
        await wait_all_tasks_blocked()
        for _ in range(4):
            assert await (await anext(streams)).read() == "a"
        with pytest.raises(PeerFault, match="message 5 begins, and 4 are allowed by now"):
            await anext(streams)


# -- agreeing on it


async def test_a_link_that_does_not_speak_it_is_a_misuse(autojump_clock):
    cable = Cable()
    with pytest.raises(Misuse, match=SUBPROTOCOL):
        Streams(Link(cable.near, client=True))


async def test_a_window_that_fits_into_no_message_is_a_misuse(autojump_clock):
    with pytest.raises(Misuse, match="window"):
        Streams(link_of(Cable().near, client=True, options=LinkOptions(max_message=1000)))


async def echo(link: Link) -> None:
    async with Streams(link).running() as streams, trio.open_nursery() as tasks:
        async for message in streams:
            tasks.start_soon(streams.send_stream, message.kind, message)


async def test_a_server_and_a_client_agree_on_it_by_themselves():
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, echo, subprotocols=["other", SUBPROTOCOL]))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_streams(url) as streams:
            await streams.send("echo")
            assert await (await anext(streams)).read() == "echo"
        tasks.cancel_scope.cancel()


async def test_a_server_that_does_not_speak_it_is_named_as_the_reason():
    async def wait(link: Link) -> None:
        async for _ in link:
            pass

    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, wait, subprotocols=["other"]))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(LinkLost, match=f"the server does not speak {SUBPROTOCOL}"):
            async with open_streams(url):
                raise AssertionError
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        (["a", "b"], ["b", "a"], "a"),
        (["a", "b"], ["b"], "b"),
        (["a"], ["c"], None),
        ([], ["a"], None),
        (["a"], [], None),
    ],
)
async def test_the_first_of_the_servers_subprotocols_that_is_offered_is_agreed_on(ours, theirs, agreed):
    async def say(link: Link) -> None:
        await link.send(str(link.subprotocol))

    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(partial(serve_links, say, subprotocols=ours))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_link(url, subprotocols=theirs) as link:
            assert link.subprotocol == agreed
            assert await link.receive() == [str(agreed)]
        tasks.cancel_scope.cancel()


# -- much


async def test_a_hundred_megabytes_pass_and_memory_stays_flat():
    piece = b"x" * 50_000

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield piece

    async with streams_on(*await tcp_pair()) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.BINARY, pieces())
        message = await anext(server)
        size = 0
        tracemalloc.start()
        try:
            async for chunk in message:
                size += len(chunk)
            assert size == 100_000_000
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()
