"""Messages too large to hold: sent as they are made, had as they come, and never short without a word."""

import contextlib
import io
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.link.pairs import (
    BINARY,
    CONT,
    FIN,
    PING,
    TEXT,
    link_and_peer,
    linked,
    linked_in_memory,
    receive,
    spoken,
    tcp_pair,
)
from trio_hub.dialect import Dialect
from trio_hub.errors import LinkLost, Misuse, PeerFault, StreamReset
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Kind
from trio_hub.options import CompressionOptions, LinkOptions
from trio_hub.testing import Cable
from trio_hub.wire.deflate import OFFER, OFFER_OF_WEBSON
from trio_hub.wire.frames import Pong

WEBSON = LinkOptions(dialect=Dialect.webson(streams=4))


class Spring:
    """A source that gives what a test pours, and fails when it says so."""

    def __init__(self) -> None:
        self.pour, self._poured = trio.open_memory_channel[str | bytes | Exception](10)

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[str | bytes]:
        async for item in self._poured:
            if isinstance(item, Exception):
                raise item
            yield item


async def sink(link: Link) -> None:
    """Receive to the end."""
    async for _ in link:
        pass


async def test_a_piece_is_had_before_the_next_is_made(autojump_clock):
    spring = Spring()
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, spring)
        messages = server.messages()
        await spring.pour.send("Once upon ")
        message = await anext(messages)
        assert await anext(message) == "Once upon "
        await spring.pour.send("a time")
        assert await anext(message) == "a time"
        spring.pour.close()
        assert [chunk async for chunk in message] == []
        assert await message.read() == ""


@pytest.mark.parametrize(
    "source",
    [
        b"b" * 200_000,
        bytearray(b"b" * 200_000),
        memoryview(b"b" * 200_000),
        [memoryview(b"b" * 100_000), bytearray(b"b" * 100_000)],
        io.BytesIO(b"b" * 200_000),
    ],
)
async def test_bytes_come_from_whatever_has_some(source, autojump_clock):
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.BINARY, source)
        assert await anext(server) == b"b" * 200_000


async def test_bytes_with_gaps_are_a_misuse(autojump_clock):
    async with linked_in_memory() as (client, server):
        with pytest.raises(Misuse, match="gaps"):
            await client.send_stream(Kind.BINARY, memoryview(b"abcdef")[::2])
        await client.send("and on it goes")
        assert await receive(server, 1) == ["and on it goes"]


async def test_private_control_frames_pass_a_message_in_fragments(autojump_clock):
    spring = Spring()
    options = LinkOptions(dialect=Dialect(opcodes={11}))
    async with linked_in_memory(options=options) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, spring)
        await spring.pour.send("first")
        await trio.testing.wait_all_tasks_blocked()
        await client.send(b"sent", 11)
        client.post(b"posted", 11)
        client.writer.flush()
        assert await receive(server, 2) == [b"sent", b"posted"]
        spring.pour.close()
        assert await receive(server, 1) == ["first"]


@pytest.mark.parametrize("source", ["b" * 200_000, ["b" * 100_000, "", "b" * 100_000], io.StringIO("b" * 200_000)])
async def test_text_comes_from_whatever_has_some(source, autojump_clock):
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, source)
        assert await anext(server) == "b" * 200_000


async def test_a_file_is_sent_and_received_over_a_real_socket():
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)) * 4000)
        for wrapped in (file, trio.wrap_file(file)):
            file.seek(0)
            async with linked(*await tcp_pair()) as (client, server), open_tasks() as tasks:
                tasks.start_soon(client.send_stream, Kind.BINARY, wrapped)
                message = await anext(server.messages())
                assert b"".join([chunk async for chunk in message]) == bytes(range(256)) * 4000


async def test_a_file_that_does_not_wait_is_no_source(autojump_clock):
    """What it has not got yet would pass for its end."""

    class Impatient:
        def read(self, size: int) -> bytes | None:
            return None

    async with linked_in_memory() as (client, _):
        with pytest.raises(Misuse, match="must wait"):
            await client.send_stream(Kind.BINARY, Impatient())


async def test_a_frame_is_passed_on_while_it_comes(autojump_clock):
    """Of a gigabyte in one frame, what is there can be had; and nothing is held."""
    async with link_and_peer(options=LinkOptions(max_message=100)) as (link, peer):
        head = bytes((FIN | BINARY, 0x80 | 127)) + (1 << 30).to_bytes(8) + bytes(4)
        await peer.stream.send_all(head + b"x" * 50_000)
        message = await anext(link.messages())
        assert await anext(message) == b"x" * 50_000
        await peer.stream.send_all(b"y" * 7)
        assert await anext(message) == b"y" * 7
        await peer.stream.send_all(b"z" * 101)
        with pytest.raises(PeerFault, match="1009"):
            await message.read()


async def test_tiny_frames_take_little_more_than_what_is_in_them(autojump_clock):
    """They are joined, where one read has brought many and where a message is read whole."""
    tiny = spoken(CONT, b"xy") * 200
    async with link_and_peer() as (link, peer), open_tasks() as tasks:

        async def say() -> None:
            await peer.stream.send_all(spoken(BINARY))
            for _ in range(500):
                await peer.stream.send_all(tiny)
            await peer.stream.send_all(spoken(FIN | CONT))

        messages = link.messages()
        tasks.start_soon(say)
        assert min([len(chunk) async for chunk in await anext(messages)]) >= 400
        tasks.start_soon(say)
        message = await anext(messages)
        tracemalloc.start()
        try:
            assert await message.read() == b"xy" * 100_000
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


async def test_a_message_that_is_cut_short_is_an_error(autojump_clock):
    cable = Cable()
    async with link_and_peer(cable=cable) as (link, peer):
        await peer.say(BINARY, b"half")
        message = await anext(link.messages())
        assert await anext(message) == b"half"
        await peer.stream.aclose()
        with pytest.raises(LinkLost):
            await anext(message)


@pytest.mark.parametrize("failure", ["the source fails", "the sender is cancelled"])
async def test_a_sender_that_stops_midway_is_an_error_at_the_receiver(failure, autojump_clock):
    """RFC 6455 has no other way to say so than the end of the link."""
    spring = Spring()
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        scope = trio.CancelScope()
        raised = []

        async def send() -> None:
            with scope:
                try:
                    await client.send_stream(Kind.BINARY, spring)
                except ZeroDivisionError as error:
                    raised.append(error)

        tasks.start_soon(send)
        await spring.pour.send(b"half")
        messages = server.messages()
        message = await anext(messages)
        assert await anext(message) == b"half"
        if failure == "the source fails":
            await spring.pour.send(ZeroDivisionError())
        else:
            scope.cancel()
        with pytest.raises(LinkLost, match="1011 a message was given up midway"):
            await anext(message)
        with pytest.raises(StopAsyncIteration):
            await anext(messages)
        assert len(raised) == (failure == "the source fails")


async def test_other_messages_wait_for_the_end_of_one_in_fragments(autojump_clock):
    spring = Spring()
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, spring)
        await spring.pour.send("first")
        await trio.testing.wait_all_tasks_blocked()
        tasks.start_soon(client.send, "second")
        await trio.testing.wait_all_tasks_blocked()
        client.post("third")
        client.probe()
        spring.pour.close()
        assert sorted(await receive(server, 3)) == ["first", "second", "third"]


async def test_what_cannot_be_sent_is_found_before_it_waits(autojump_clock):
    spring = Spring()
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, spring)
        await spring.pour.send("first")
        await trio.testing.wait_all_tasks_blocked()
        for wrong, kind in (("\ud800", None), ("x", Kind.BINARY), (b"x", 5)):
            with pytest.raises(Misuse):
                client.post(wrong, kind)
        client.post("second")
        spring.pour.close()
        assert await receive(server, 2) == ["first", "second"]


@pytest.mark.parametrize("source", [5, [5]], ids=["no source", "no text"])
async def test_a_message_of_which_nothing_was_said_leaves_the_link_alone(source, autojump_clock):
    async with linked_in_memory() as (client, server):
        with pytest.raises(Misuse):
            await client.send_stream(Kind.TEXT, source)
        with trio.move_on_after(1):
            await client.send_stream(Kind.TEXT, Spring())
        await client.send("and on it goes")
        assert await receive(server, 1) == ["and on it goes"]


async def test_pings_are_answered_amid_a_message(autojump_clock):
    spring = Spring()
    async with link_and_peer() as (link, peer), open_tasks() as tasks:
        tasks.start_soon(link.send_stream, Kind.TEXT, spring)
        tasks.start_soon(sink, link)
        await spring.pour.send("first")
        await peer.say(FIN | PING, b"there?")
        assert await peer.hear() == Pong(b"there?")
        spring.pour.close()
        assert await peer.hear() == "first"
        tasks.cancel_scope.cancel()


async def test_whoever_waits_for_a_turn_learns_of_the_end(autojump_clock):
    spring = Spring()
    async with linked_in_memory() as (client, _), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.TEXT, ["first"])
        await trio.testing.wait_all_tasks_blocked()

        async def long() -> None:
            with pytest.raises(LinkLost):
                await client.send_stream(Kind.TEXT, spring)

        async def waiting() -> None:
            with pytest.raises(LinkLost):
                await client.send("second")

        tasks.start_soon(long)
        await spring.pour.send("...")
        await trio.testing.wait_all_tasks_blocked()
        tasks.start_soon(waiting)
        await trio.testing.wait_all_tasks_blocked()
        await client.close()  # whether or not the spring gives more


async def test_the_rest_of_a_message_is_dropped_for_the_next(autojump_clock):
    async with linked_in_memory() as (client, server):
        await client.send_stream(Kind.BINARY, [b"a" * 100_000, b"b" * 100_000])
        await client.send("next")
        messages = server.messages()
        first = await anext(messages)
        assert await anext(first)
        second = await anext(messages)
        assert (second.kind, await second.read()) == (Kind.TEXT, "next")
        with pytest.raises(StreamReset):
            await anext(first)


async def test_what_came_whole_before_is_not_lost(autojump_clock):
    async with linked_in_memory() as (client, server):
        await client.send_all(["one", "two", "three"])
        assert await anext(server) == "one"
        messages = server.messages()
        assert [await (await anext(messages)).read() for _ in range(2)] == ["two", "three"]


async def test_half_a_frame_that_was_read_before_is_not_lost(autojump_clock):
    async with link_and_peer() as (link, peer):
        frame = spoken(FIN | TEXT, b"second")
        await peer.stream.send_all(spoken(FIN | TEXT, b"first") + frame[:9])
        assert await link.receive() == ["first"]
        await peer.stream.send_all(frame[9:])
        assert await (await anext(link.messages())).read() == "second"


async def test_pieces_begin_between_messages(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.say(TEXT, b"half")
        with trio.move_on_after(1):
            await link.receive()
        with pytest.raises(Misuse, match="partly read"):
            link.messages()


async def test_text_is_checked_piece_by_piece(autojump_clock):
    snowman = "\u2603".encode()
    async with link_and_peer() as (link, peer):
        await peer.say(TEXT, snowman[:1])
        await peer.say(CONT, snowman[1:])
        await peer.say(CONT, b"\xff")
        message = await anext(link.messages())
        assert await anext(message) == "\u2603"
        with pytest.raises(PeerFault, match="1007"):
            await anext(message)


async def test_what_inflates_a_thousandfold_comes_in_small_pieces(autojump_clock):
    cable = Cable()
    options = LinkOptions(max_message=10_000, compression=CompressionOptions())
    async with open_tasks() as tasks:
        near = Link(cable.near, client=True, compression=OFFER, options=options)
        far = Link(cable.far, client=False, compression=OFFER, options=options)
        async with near.running(), far.running():
            tasks.start_soon(near.send_stream, Kind.BINARY, [bytes(60_000)] * 10)
            message = await anext(far.messages())
            sizes = [len(chunk) async for chunk in message]
            assert sum(sizes) == 600_000
            assert max(sizes) <= 10_000
            tasks.start_soon(partial(near.close))
            await sink_messages(far)


async def sink_messages(link: Link) -> None:
    async for _ in link.messages():
        pass


# -- webson's streams


async def test_several_messages_are_under_way_on_streams(autojump_clock):
    springs = [Spring() for _ in range(3)]
    async with streaming() as (client, server), open_tasks() as tasks:
        messages = server.messages()
        arrived = []
        for number, spring in enumerate(springs):
            tasks.start_soon(client.send_stream, Kind.TEXT, spring)
            await spring.pour.send(f"{number}a")
            arrived.append(await anext(messages))
        assert [message.stream for message in arrived] == [1, 2, 3]
        for number in (2, 0, 1):
            await springs[number].pour.send(f"{number}b")
            springs[number].pour.close()
        assert [await message.read() for message in arrived] == ["0a0b", "1a1b", "2a2b"]


async def test_a_stream_that_is_given_up_leaves_the_others_alone(autojump_clock):
    bad, good = Spring(), Spring()
    async with streaming() as (client, server), open_tasks() as tasks:

        async def fail() -> None:
            with pytest.raises(ZeroDivisionError):
                await client.send_stream(Kind.TEXT, bad)

        tasks.start_soon(fail)
        await bad.pour.send("half")
        tasks.start_soon(client.send_stream, Kind.TEXT, good)
        await good.pour.send("whole")
        messages = server.messages()
        first, second = await anext(messages), await anext(messages)
        await bad.pour.send(ZeroDivisionError())
        good.pour.close()
        assert await second.read() == "whole"
        assert await anext(first) == "half"
        with pytest.raises(StreamReset, match="its sender gave it up"):
            await anext(first)
        await client.send("and on it goes")
        assert await (await anext(messages)).read() == "and on it goes"


async def test_a_link_whose_streams_were_all_given_up_ends(autojump_clock):
    """A number that was given up is never used again, and none is left."""
    async with streaming() as (client, server), open_tasks() as tasks:
        tasks.start_soon(sink_messages, server)
        for number in range(4):
            assert client.closed is None, number
            spring = Spring()
            await spring.pour.send(b"half")
            await spring.pour.send(ZeroDivisionError())
            with pytest.raises(ZeroDivisionError):
                await client.send_stream(Kind.BINARY, spring)
        with pytest.raises(LinkLost, match="1011"):
            await client.send("no more")


async def test_pieces_that_nobody_reads_are_given_up_when_they_are_too_many(autojump_clock):
    slow, quick = Spring(), Spring()
    options = LinkOptions(dialect=WEBSON.dialect, max_message=10_000)
    async with streaming(options) as (client, server), open_tasks() as tasks:
        tasks.start_soon(client.send_stream, Kind.BINARY, slow)
        await slow.pour.send(b"1")
        messages = server.messages()
        unread = await anext(messages)
        tasks.start_soon(client.send_stream, Kind.BINARY, quick)
        await quick.pour.send(b"2")
        read = await anext(messages)
        await slow.pour.send(b"x" * 20_000)
        slow.pour.close()
        await trio.testing.wait_all_tasks_blocked()
        quick.pour.close()
        assert await read.read() == b"2"
        with pytest.raises(StreamReset, match="too much of it waited"):
            await unread.read()
        await client.send("and on it goes")
        assert await (await anext(messages)).read() == "and on it goes"


@pytest.mark.parametrize("compressed", [False, True])
async def test_what_one_read_brings_is_no_more_than_a_reader_can_take(compressed, autojump_clock):
    """Each message is small, and is read before anything else is, though one read has brought very many."""
    compression = CompressionOptions() if compressed else None
    options = LinkOptions(dialect=WEBSON.dialect, max_message=10_000, compression=compression)
    async with streaming(options) as (client, server):
        client.writer.post(client.framed(["x" * 4_000] * 300))
        client.writer.flush()
        messages = server.messages()
        assert [await (await anext(messages)).read() for _ in range(300)] == ["x" * 4_000] * 300


async def test_what_is_given_up_makes_room_for_what_the_same_read_brings(autojump_clock):
    options = LinkOptions(dialect=WEBSON.dialect, max_message=10_000)
    async with streaming(options) as (client, server):

        async def say(*frames: bytes) -> None:
            client.writer.post(b"".join(frames) + client.framed(["and another"]))
            client.writer.flush()
            assert await (await anext(messages)).read() == "and another"

        messages = server.messages()
        large, small = [client.framer.begin(Kind.BINARY) for _ in range(2)]
        client.writer.post(large.piece(b"1") + small.piece(b"1"))
        client.writer.flush()
        too_much, enough = await anext(messages), await anext(messages)
        await say(large.piece(b"x" * 9_000))
        await say(large.piece(b"x" * 2_000), small.piece(b"x" * 9_000))
        await say(small.piece(b"", last=True))
        assert await enough.read() == b"1" + b"x" * 9_000
        with pytest.raises(StreamReset, match="too much of it waited"):
            await too_much.read()


async def test_messages_that_were_let_go_take_no_room(autojump_clock):
    options = LinkOptions(dialect=WEBSON.dialect, max_message=10_000)
    async with streaming(options) as (client, server), open_tasks() as tasks:
        slow = Spring()
        tasks.start_soon(client.send_stream, Kind.BINARY, slow)
        await slow.pour.send(b"1")
        messages = server.messages()
        read = await anext(messages)
        for _ in range(5):
            await client.send_stream(Kind.BINARY, b"x" * 9_000)
            await anext(messages)
        await slow.pour.send(b"2" * 9_000)
        slow.pour.close()
        assert await read.read() == b"1" + b"2" * 9_000


async def test_messages_without_end_amid_another_break_the_link(autojump_clock):
    options = LinkOptions(dialect=Dialect(opcodes={11}))
    async with link_and_peer(options=options) as (link, peer), open_tasks() as tasks:

        async def flood() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                while True:
                    await peer.stream.send_all(spoken(FIN | 11) * 1000)

        await peer.say(BINARY, b"begun")
        message = await anext(link.messages())
        tasks.start_soon(flood)
        with pytest.raises(PeerFault, match="too many messages wait"):
            await message.read()
        tasks.cancel_scope.cancel()
    assert link.closed is not None
    assert link.closed.code == 1008


async def test_whoever_asks_for_the_messages_again_goes_on(autojump_clock):
    async with linked_in_memory() as (client, server):
        await client.send_all(["first", "second", "third"])
        assert await (await anext(server.messages())).read() == "first"
        assert await (await anext(server.messages())).read() == "second"
        with pytest.raises(Misuse, match="piece by piece"):
            await server.receive()
        with pytest.raises(Misuse, match="piece by piece"):
            await anext(server)
        assert await (await anext(server.messages())).read() == "third"


@asynccontextmanager
async def streaming(options: LinkOptions = WEBSON) -> AsyncIterator[tuple[Link, Link]]:
    """Two ends that have agreed on four streams of webson's."""
    cable = Cable()
    agreed = OFFER_OF_WEBSON if options.compression else None
    client = Link(cable.near, client=True, options=options, compression=agreed, streams=4)
    server = Link(cable.far, client=False, options=options, compression=agreed, streams=4)
    async with server.running(), client.running():
        yield client, server
