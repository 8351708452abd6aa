"""One link: what goes in comes out whole, whatever the bytes' way; and every end is told to both sides."""

from __future__ import annotations

import os
import socket
import struct
from types import SimpleNamespace

import pytest
import trio

from tests.link.pairs import (
    BINARY,
    CLOSE,
    CONT,
    FIN,
    PING,
    PONG,
    RESET_ON_CLOSE,
    TEXT,
    RawPeer,
    link_and_peer,
    linked,
    linked_in_memory,
    receive,
    send_forever,
    spoken,
    tcp_pair,
)
from trio_hub.dialect import STANDARD, Dialect
from trio_hub.errors import LinkLost, Misuse, PeerFault
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseReason
from trio_hub.options import CompressionOptions, LinkOptions
from trio_hub.testing import Cable
from trio_hub.wire.deflate import Deflater, Parameters
from trio_hub.wire.frames import Ping, Pong, close_frame, frame, message_frame

# -- messages


async def test_text_and_binary_arrive_in_both_directions(autojump_clock):
    async with linked_in_memory() as (client, server):
        for sender, receiver in [(client, server), (server, client)]:
            await sender.send("grüße")
            await sender.send(b"\x00\xff")
            await sender.send("")
            assert await receive(receiver, 3) == ["grüße", b"\x00\xff", ""]


async def test_pongs_that_were_asked_for_are_not_too_many(autojump_clock):
    async with link_and_peer(client=True) as (link, peer), open_tasks() as tasks:
        tasks.start_soon(anext, link, None)
        for _ in range(500):
            tasks.start_soon(link.ping)
            ping = await peer.hear()
            assert isinstance(ping, Ping)
            await peer.say(FIN | PONG, ping.payload)
        assert link.closed is None
        for _ in range(500):
            await peer.say(FIN | PONG, b"unasked")
        with pytest.raises(LinkLost, match="too many control frames"):
            await link.send("one more")
        tasks.cancel_scope.cancel()


async def test_a_ping_tells_how_long_it_took(autojump_clock):
    async with link_and_peer(client=True) as (link, peer), open_tasks() as tasks:
        tasks.start_soon(link.receive)
        took = []

        async def ask():
            took.append(await link.ping())

        tasks.start_soon(ask)
        ping = await peer.hear()
        await trio.sleep(0.25)
        await peer.say(FIN | PONG, b"another")
        await peer.say(FIN | PONG, ping.payload)
        await trio.testing.wait_all_tasks_blocked()
        assert took == [pytest.approx(0.25)]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("dialect", [Dialect.webson(), STANDARD], ids=["webson", "standard"])
async def test_only_webson_answers_pings_without_their_payload(dialect, autojump_clock):
    async with link_and_peer(client=True, options=LinkOptions(dialect=dialect)) as (link, peer), open_tasks() as tasks:
        tasks.start_soon(link.receive)
        with trio.move_on_after(1) as waiting:
            tasks.start_soon(peer.say, FIN | PONG, b"")
            await link.ping()
        assert waiting.cancelled_caught is dialect.is_standard
        tasks.cancel_scope.cancel()


async def test_a_ping_of_a_link_that_ends_is_lost(autojump_clock):
    async with link_and_peer(client=True) as (link, peer), open_tasks() as tasks:

        async def ask():
            with pytest.raises(LinkLost):
                await link.ping()

        tasks.start_soon(ask)
        await peer.hear()
        await peer.stream.aclose()
        with pytest.raises(LinkLost):
            await link.receive()


async def test_text_and_binary_arrive_over_real_sockets():
    async with linked(*await tcp_pair()) as (client, server):
        for sender, receiver in [(client, server), (server, client)]:
            await sender.send("grüße")
            await sender.send(b"\x00\xff")
            assert await receive(receiver, 2) == ["grüße", b"\x00\xff"]


async def test_a_message_larger_than_every_buffer_arrives_whole():
    large = "€" * 1_000_000
    options = LinkOptions(max_message=1 << 24)
    async with linked(*await tcp_pair(), options=options) as (client, server), trio.open_nursery() as tasks:
        tasks.start_soon(client.send, large)
        assert await receive(server, 1) == [large]


async def test_all_messages_of_one_read_are_returned_at_once(autojump_clock):
    async with link_and_peer() as (link, peer):
        words = [b"%d" % n for n in range(100)]
        await peer.stream.send_all(b"".join(spoken(FIN | TEXT, word) for word in words))
        assert await link.receive() == [word.decode() for word in words]
        assert link.received == 100
        peer.stream.hang_up()


async def test_frames_may_be_split_at_every_byte(autojump_clock):
    said = spoken(TEXT, "gr\u00fc".encode()) + spoken(FIN | CONT, b"n") + spoken(FIN | BINARY, b"\x01" * 130)
    for cut in range(1, len(said)):
        async with link_and_peer() as (link, peer):
            await peer.stream.send_all(said[:cut])
            with trio.move_on_after(1):
                assert await link.receive() == ["grün"]
            await peer.stream.send_all(said[cut:])
            expected = [b"\x01" * 130] if link.received else ["grün", b"\x01" * 130]
            assert await receive(link, len(expected)) == expected
            peer.stream.hang_up()


async def test_every_message_arrives_when_bytes_come_one_by_one(autojump_clock):
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:

        async def dribble():
            for byte in spoken(FIN | TEXT, b"slow") + spoken(FIN | BINARY, b"ly"):
                await peer.stream.send_all(bytes((byte,)))

        tasks.start_soon(dribble)
        assert await receive(link, 2) == ["slow", b"ly"]
        peer.stream.hang_up()


async def test_bytes_that_came_with_the_upgrade_are_received_first(autojump_clock):
    cable = Cable()
    async with Link(cable.near, client=False, unread=spoken(FIN | TEXT, b"early")).running() as link:
        await cable.far.send_all(spoken(FIN | TEXT, b"later"))
        assert await link.receive() == ["early"]
        assert await link.receive() == ["later"]
        cable.far.hang_up()


async def test_a_cancelled_receive_loses_nothing_that_came_with_the_upgrade(autojump_clock):
    cable = Cable()
    async with Link(cable.near, client=False, unread=spoken(FIN | TEXT, b"early")).running() as link:
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.receive()
        assert scope.cancelled_caught
        with trio.fail_after(1):
            assert await link.receive() == ["early"]
        cable.far.hang_up()


async def test_a_cancelled_receive_loses_nothing_that_came_later(autojump_clock):
    async with link_and_peer() as (link, peer):
        with trio.move_on_after(1) as scope:
            await link.receive()
        assert scope.cancelled_caught
        await peer.say(FIN | TEXT, b"kept")
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.receive()
        assert await link.receive() == ["kept"]
        peer.stream.hang_up()


async def test_what_is_held_back_is_received_again_first(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.stream.send_all(b"".join(spoken(FIN | TEXT, word) for word in (b"a", b"b", b"c")))
        first, *others = await link.receive()
        link.hold_back(others)
        link.hold_back([first])
        assert await link.receive() == ["a", "b", "c"]
        peer.stream.hang_up()


async def test_iteration_yields_message_by_message_and_stops_at_the_end(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.stream.send_all(b"".join(spoken(FIN | TEXT, word) for word in (b"a", b"b")))
        await peer.say(FIN | TEXT, b"c")
        await peer.say(FIN | CLOSE, struct.pack(">H", 4001) + b"enough")
        assert [message async for message in link] == ["a", "b", "c"]
        assert link.closed == CloseReason(4001, "enough")


@pytest.mark.parametrize("message", [bytearray(b"x"), 5, None])
async def test_a_message_of_another_kind_is_a_misuse(message, autojump_clock):
    async with linked_in_memory() as (client, _):
        with pytest.raises(Misuse, match=type(message).__name__):
            await client.send(message)


# -- pings


async def test_each_ping_of_one_read_is_answered_with_its_payload(autojump_clock):
    async with link_and_peer() as (link, peer):
        pings = spoken(FIN | PING, b"one") + spoken(FIN | PING, b"two") + spoken(FIN | PING, b"three")
        await peer.stream.send_all(pings + spoken(FIN | TEXT, b"and a word"))
        assert await link.receive() == ["and a word"]
        await link.send("next")
        heard = [await peer.hear() for _ in range(4)]
        assert heard == [Pong(b"one"), Pong(b"two"), Pong(b"three"), "next"]
        peer.stream.hang_up()


async def test_pings_are_answered_while_nothing_is_said(autojump_clock):
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:
        tasks.start_soon(link.receive)
        for payload in (b"", b"a", b"x" * 125):
            await peer.say(FIN | PING, payload)
            assert await peer.hear() == Pong(payload)
        await peer.say(FIN | PONG, b"unasked")
        await peer.say(FIN | TEXT, b"over")


async def test_a_clients_pong_is_masked(autojump_clock):
    async with link_and_peer(client=True) as (link, peer), trio.open_nursery() as tasks:
        tasks.start_soon(link.receive)
        await peer.say(FIN | PING, b"?")
        assert await peer.hear() == Pong(b"?")  # its reader takes masked frames only
        await peer.say(FIN | TEXT, b"over")


async def test_a_ping_of_ours_is_a_ping(autojump_clock):
    async with link_and_peer() as (link, peer):
        link.probe()
        assert await peer.hear() == Ping(b"")
        peer.stream.hang_up()


# -- endings


@pytest.mark.parametrize("client_first", [True, False], ids=["client", "server"])
async def test_both_ends_know_code_and_reason_whoever_closes(client_first, autojump_clock):
    async with linked_in_memory() as (client, server):
        first, second = (client, server) if client_first else (server, client)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(first.close, 4242, "enough said")
            with pytest.raises(LinkLost) as caught:
                await second.receive()
            assert caught.value.close == second.closed == CloseReason(4242, "enough said")
            await second.close(1000, "too late to matter")
        assert first.closed == second.closed == CloseReason(4242, "enough said")
        assert trio.current_time() < 1, "both were polite, so nobody had to wait"


async def test_both_ends_know_code_and_reason_over_real_sockets():
    async with linked(*await tcp_pair()) as (client, server), trio.open_nursery() as tasks:
        tasks.start_soon(server.close, 4242, "enough said")
        with pytest.raises(LinkLost) as caught:
            await client.receive()
        assert caught.value.close == CloseReason(4242, "enough said")
        tasks.start_soon(client.close)


async def test_the_close_frame_is_echoed_with_its_code(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.say(FIN | CLOSE, struct.pack(">H", 1001) + b"bye")
        with pytest.raises(LinkLost):
            await link.receive()
        assert await peer.hear() == CloseReason(1001, "bye")
    assert await peer.hear() is None, "the server is the one who closes the stream"


async def test_a_close_frame_without_a_code_is_1005_and_echoed_empty(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.say(FIN | CLOSE)
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.close.code == 1005
        assert await peer.hear() == CloseReason(1005)


async def test_what_was_said_before_a_close_in_the_same_read_is_received(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.stream.send_all(spoken(FIN | TEXT, b"last words") + spoken(FIN | CLOSE, b"\x03\xe8"))
        assert await link.receive() == ["last words"]
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.close == CloseReason(1000)


async def test_what_was_sent_before_close_arrives_before_the_goodbye(autojump_clock):
    async with link_and_peer() as (link, peer):
        for number in range(20):
            await link.send(str(number))
        async with trio.open_nursery() as tasks:
            tasks.start_soon(link.close, 1000, "done")
            heard = [await peer.hear() for _ in range(21)]
            assert heard == [*map(str, range(20)), CloseReason(1000, "done")]
            peer.stream.hang_up()


async def test_a_client_waits_for_the_server_to_close_the_stream(autojump_clock):
    async with link_and_peer(client=True) as (link, peer), trio.open_nursery() as tasks:
        tasks.start_soon(link.close)
        assert await peer.hear() == CloseReason(1000)
        await peer.say(FIN | CLOSE, b"\x03\xe8")
        with trio.move_on_after(2) as waited:
            await peer.hear()
        assert waited.cancelled_caught, "it has closed the stream before the server did"
        await peer.stream.aclose()
    assert trio.current_time() == pytest.approx(2)


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
async def test_a_peer_that_never_answers_a_goodbye_costs_close_timeout(client, autojump_clock):
    async with link_and_peer(client=client, options=LinkOptions(close_timeout=3)) as (link, peer):
        await link.close(4000, "leaving")
        assert trio.current_time() == pytest.approx(3)
        assert [await peer.hear(), await peer.hear()] == [CloseReason(4000, "leaving"), None]


async def test_a_peer_that_reads_nothing_costs_close_timeout(autojump_clock):
    cable = Cable(capacity=10)
    async with link_and_peer(cable=cable, options=LinkOptions(close_timeout=3)) as (link, _):
        await link.send("more than the cable holds")
        await link.close()
        assert trio.current_time() == pytest.approx(3)


async def test_words_after_our_goodbye_are_read_over_and_the_answer_is_still_heard(autojump_clock):
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:
        tasks.start_soon(link.close)
        assert await peer.hear() == CloseReason(1000)
        await peer.say(FIN | TEXT, b"one more thing")
        await peer.say(FIN | CLOSE, b"\x03\xe8")
        assert await peer.hear() is None
    assert trio.current_time() < 1


async def test_nonsense_after_our_goodbye_does_no_harm(autojump_clock):
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:
        tasks.start_soon(link.close)
        assert await peer.hear() == CloseReason(1000)
        await peer.stream.send_all(b"\xff\xff\xff\xff")
        await peer.stream.send_all(b"and more")
        peer.stream.hang_up()
    assert link.closed == CloseReason(1000)
    assert trio.current_time() < 1


async def test_an_end_without_a_goodbye_is_1006(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.say(FIN | TEXT, b"hello")
        peer.stream.hang_up()
        assert await link.receive() == ["hello"]
        for _ in range(2):
            with pytest.raises(LinkLost) as caught:
                await link.receive()
            assert caught.value.close.code == 1006
        with pytest.raises(LinkLost):
            await link.send("anybody?")


async def test_a_cut_cable_is_a_lost_link(autojump_clock):
    cable = Cable()
    async with link_and_peer(cable=cable) as (link, _), trio.open_nursery() as tasks:

        async def expect_the_end():
            with pytest.raises(LinkLost) as caught:
                await link.receive()
            assert caught.value.close == CloseReason(1006, "the cable was cut")

        tasks.start_soon(expect_the_end)
        await trio.testing.wait_all_tasks_blocked()
        cable.cut()


async def test_a_reset_is_a_lost_link():
    near, far = await tcp_pair()
    async with Link(near, client=False).running() as link:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await far.aclose()
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.close.code == 1006
        assert "reset" in caught.value.close.reason


async def test_writing_to_a_reset_stream_ends_the_link():
    near, far = await tcp_pair()
    async with Link(near, client=False).running() as link:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await far.aclose()
        with pytest.raises(LinkLost) as caught:
            await send_forever(link, "anybody?")
        assert caught.value.close == link.closed
        assert link.closed.code == 1006


async def test_a_link_that_dies_while_much_is_being_written_ends_for_sender_and_receiver():
    near, far = await tcp_pair(buffer=4096)
    async with Link(near, client=False).running() as link, trio.open_nursery() as tasks:

        async def receive_to_the_end():
            with pytest.raises(LinkLost):
                await link.receive()

        async def send_to_the_end():
            with pytest.raises(LinkLost):
                await send_forever(link, b"x" * 100_000)

        tasks.start_soon(receive_to_the_end)
        tasks.start_soon(send_to_the_end)
        await trio.testing.wait_all_tasks_blocked()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await far.aclose()


async def test_the_first_to_decide_on_the_end_is_right(autojump_clock):
    async with link_and_peer() as (link, peer):
        link.end(CloseReason(4100, "first"))
        link.end(CloseReason(4101, "second"))
        link.post("nobody hears this")
        link.writer.flush()
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.close == CloseReason(4100, "first")
        assert await peer.hear() == CloseReason(4100, "first")
        await peer.say(FIN | CLOSE, b"\x03\xe8")
    assert await peer.hear_rest() == []


async def test_end_wakes_who_is_receiving(autojump_clock):
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:

        async def expect_the_end():
            with pytest.raises(LinkLost) as caught:
                await link.receive()
            assert caught.value.close.code == 4102

        tasks.start_soon(expect_the_end)
        await trio.testing.wait_all_tasks_blocked()
        link.end(CloseReason(4102, "lost patience"))
        peer.stream.hang_up()


async def test_end_wakes_who_is_waiting_to_send(autojump_clock):
    cable = Cable(capacity=10)
    options = LinkOptions(owed_size=20)
    async with link_and_peer(cable=cable, options=options) as (link, _), trio.open_nursery() as tasks:

        async def send_until_the_end():
            with pytest.raises(LinkLost) as caught:
                await send_forever(link, "0123456789")
            assert caught.value.close.code == 4100

        tasks.start_soon(send_until_the_end)
        await trio.testing.wait_all_tasks_blocked()
        link.end(CloseReason(4100, "too slow"))


async def test_closing_twice_is_harmless(autojump_clock):
    async with link_and_peer() as (link, peer):
        peer.stream.hang_up()
        await link.close(4000)
        await link.close(4001)
        assert link.closed == CloseReason(4000)


async def test_a_cancelled_close_still_closes_the_stream(autojump_clock):
    async with link_and_peer() as (link, peer):
        with trio.move_on_after(1) as scope:
            await link.close()
        assert scope.cancelled_caught
        assert [await peer.hear(), await peer.hear()] == [CloseReason(1000), None]


async def test_a_link_nobody_ran_can_be_closed(autojump_clock):
    cable = Cable()
    peer = RawPeer(cable.far)
    link = Link(cable.near, client=False)
    link.post("queued")
    async with trio.open_nursery() as tasks:
        tasks.start_soon(link.close, 1001, "leaving")
        assert [await peer.hear(), await peer.hear()] == ["queued", CloseReason(1001, "leaving")]
        await peer.say(FIN | CLOSE, b"\x03\xe9")


async def test_a_failing_block_tells_the_peer_1011_and_its_error_comes_out_bare(autojump_clock):
    cable = Cable()
    peer = RawPeer(cable.far)

    async def fail() -> None:
        async with Link(cable.near, client=False).running():
            await peer.say(FIN | CLOSE, b"\x03\xe8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await peer.hear_rest() == [CloseReason(1011)]
    assert trio.current_time() < 1


async def test_several_failures_at_once_come_as_a_group(autojump_clock):
    async def fail(error: Exception) -> None:
        raise error

    async def fail_twice() -> None:
        async with open_tasks() as tasks:
            tasks.start_soon(fail, KeyError())
            tasks.start_soon(fail, ValueError())

    with pytest.raises(ExceptionGroup) as caught:
        await fail_twice()
    assert {type(error) for error in caught.value.exceptions} == {KeyError, ValueError}


async def test_a_cancelled_block_cuts_the_link_without_waiting(autojump_clock):
    cable = Cable()
    with trio.move_on_after(1):
        async with Link(cable.near, client=False).running() as link:
            await link.receive()
    assert trio.current_time() == pytest.approx(1)
    with trio.fail_after(0.1):
        await RawPeer(cable.far).hear_rest()


# -- the peer's faults

LIMITED = LinkOptions(max_message=1000, max_fragments=3)

FAULTS = {
    "unmasked": (spoken(FIN | TEXT, b"hi", masked=False), 1002, "frame is not masked"),
    "reserved bit 1": (
        spoken(0x40 | FIN | TEXT, b"hi"),
        1002,
        "reserved bits are set that no agreed extension has there",
    ),
    "reserved bit 3": (
        spoken(0x10 | FIN | PING, b"hi"),
        1002,
        "reserved bits are set that no agreed extension has there",
    ),
    "unknown data opcode": (spoken(FIN | 3, b"hi"), 1002, "opcode 3 is not known"),
    "unknown control opcode": (spoken(FIN | 11, b"hi"), 1002, "opcode 11 is not known"),
    "long ping": (spoken(FIN | PING, b"x" * 126), 1002, "control frame of 126 bytes"),
    "long close": (spoken(FIN | CLOSE, b"\x03\xe8" + b"x" * 124), 1002, "control frame of 126 bytes"),
    "fragmented ping": (spoken(PING, b"hi"), 1002, "control frame is fragmented"),
    "fragmented close": (spoken(CLOSE, b"\x03\xe8"), 1002, "control frame is fragmented"),
    "continuation of nothing": (spoken(FIN | CONT, b"hi"), 1002, "continuation of nothing"),
    "nested message": (
        spoken(TEXT, b"a") + spoken(FIN | TEXT, b"b"),
        1002,
        "new message within a fragmented one",
    ),
    "nested binary": (spoken(TEXT, b"a") + spoken(FIN | BINARY, b"b"), 1002, "new message within a fragmented one"),
    "bad UTF-8": (spoken(FIN | TEXT, b"ab\xff"), 1007, "text is not UTF-8: invalid start byte"),
    "unfinished UTF-8": (spoken(FIN | TEXT, "ü".encode()[:1]), 1007, "text is not UTF-8: unexpected end of data"),
    "surrogate": (spoken(FIN | TEXT, b"\xed\xa0\x80"), 1007, "text is not UTF-8: invalid continuation byte"),
    "bad UTF-8 in a fragment": (spoken(TEXT, b"ab\xff"), 1007, "text is not UTF-8: invalid start byte"),
    "too big, declared": (b"\x81\xfe" + struct.pack(">H", 1001), 1009, "message is larger than 1000 bytes"),
    "far too big, declared": (b"\x82\xff" + struct.pack(">Q", 1 << 40), 1009, "message is larger than 1000 bytes"),
    "too big in fragments": (
        spoken(BINARY, b"x" * 600) + spoken(CONT, b"x" * 600),
        1009,
        "message is larger than 1000 bytes",
    ),
    "too many fragments": (
        spoken(TEXT, b"a") + spoken(CONT, b"") * 3,
        1008,
        "message has more than 3 fragments",
    ),
    "half a close code": (spoken(FIN | CLOSE, b"\x03"), 1002, "close frame with half a code"),
    "bad UTF-8 in a close": (spoken(FIN | CLOSE, b"\x03\xe8\xff"), 1007, "text is not UTF-8: invalid start byte"),
    "16-bit size not shortest": (b"\x81\xfe\x00\x05", 1002, "a size of 5 is not written in its shortest form"),
    "64-bit size not shortest": (
        b"\x81\xff" + struct.pack(">Q", 5),
        1002,
        "a size of 5 is not written in its shortest form",
    ),
    "negative size": (
        b"\x81\xff" + struct.pack(">Q", 1 << 63),
        1002,
        f"a size of {1 << 63} is not written in its shortest form",
    ),
    **{
        f"close code {code}": (
            spoken(FIN | CLOSE, struct.pack(">H", code)),
            1002,
            f"close code {code} may not be sent",
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize(("said", "code", "reason"), FAULTS.values(), ids=FAULTS.keys())
async def test_whoever_breaks_the_protocol_is_told_how(said, code, reason, autojump_clock):
    async with link_and_peer(options=LIMITED) as (link, peer):
        await peer.stream.send_all(spoken(FIN | TEXT, b"proper") + spoken(FIN | PING, b"?") + said)
        assert await link.receive() == ["proper"]
        with pytest.raises(PeerFault) as caught:
            await link.receive()
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert [await peer.hear(), await peer.hear()] == [Pong(b"?"), CloseReason(code, reason)]
        await peer.say(FIN | TEXT, b"nobody listens")
        assert link.closed == CloseReason(code, reason)
        with pytest.raises(LinkLost):
            await link.receive()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(link.close)
            assert await peer.hear() is None, "the stream's end follows at once"
            peer.stream.hang_up()
    assert trio.current_time() < 1


async def test_a_fault_alone_in_its_read_is_raised_at_once(autojump_clock):
    async with link_and_peer() as (link, peer):
        await peer.stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(PeerFault):
            await link.receive()
        peer.stream.hang_up()


async def test_a_client_refuses_masked_frames(autojump_clock):
    async with link_and_peer(client=True) as (link, peer):
        await peer.stream.send_all(spoken(FIN | TEXT, b"hi"))
        with pytest.raises(PeerFault):
            await link.receive()
        assert await peer.hear() == CloseReason(1002, "frame is masked")
        peer.stream.hang_up()


async def link_at_its_end(link: Link) -> None:
    with pytest.raises(PeerFault):
        await link.receive()
    await link.close()


async def test_a_peer_at_fault_hears_of_it_over_a_real_socket_though_more_was_on_its_way():
    near, far = await tcp_pair()
    peer = RawPeer(far)
    async with Link(near, client=False).running() as link, trio.open_nursery() as tasks:
        tasks.start_soon(link_at_its_end, link)
        await far.send_all(spoken(FIN | CONT, b"wrong") + b"x" * 10_000_000)
        assert await peer.hear_rest() == [CloseReason(1002, "continuation of nothing")]
        await far.aclose()


async def test_a_peer_at_fault_who_stays_is_cut_after_close_timeout(autojump_clock):
    async with link_and_peer(options=LinkOptions(close_timeout=3)) as (link, peer):
        await peer.stream.send_all(spoken(FIN | CONT, b"wrong"))
        with pytest.raises(PeerFault):
            await link.receive()
    assert trio.current_time() == pytest.approx(3)


# -- a cancelled send


def numbered(number: int) -> bytes:
    """A message that tells which it is, in one of many sizes."""
    return b"%06d" % number + b"x" * (number * 37 % 701)


async def send_and_cancel(link: Link, checkpoints: int, count: int) -> list[bytes]:
    """Send messages, each of which is cancelled after so many checkpoints; return those that were sent for all that."""
    sent = []

    async def cancel_later(scope: trio.CancelScope) -> None:
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for number in range(count):
        message = numbered(number)
        async with trio.open_nursery() as tasks:
            with trio.CancelScope() as scope:
                tasks.start_soon(cancel_later, scope)
                await link.send(message)
            if not scope.cancelled_caught:
                sent.append(message)
            tasks.cancel_scope.cancel()
    return sent


async def expect_whole_messages(link: Link, peer: RawPeer, checkpoints: int, at_a_time: int) -> None:
    """The story of every cancelled send: a slow reader hears what was sent, whole and in order, and nothing else."""
    heard = []

    async def read_slowly() -> None:
        heard.extend(await peer.hear_rest(at_a_time))

    async with trio.open_nursery() as tasks:
        tasks.start_soon(read_slowly)
        async with link.running():
            sent = await send_and_cancel(link, checkpoints, 200)
            link.end(CloseReason(1000))
            async with trio.open_nursery() as closing:
                closing.start_soon(link.close)
                await link.writer.wait_idle()
                await peer.say(FIN | CLOSE, b"\x03\xe8")
    await trio.aclose_forcefully(peer.stream)
    assert heard == [*sent, CloseReason(1000)]
    assert not peer.midway


@pytest.mark.parametrize("checkpoints", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_a_cancelled_send_never_tears_a_message_in_memory(checkpoints, autojump_clock):
    cable = Cable(capacity=300)
    link = Link(cable.near, client=False, options=LinkOptions(owed_size=500))
    await expect_whole_messages(link, RawPeer(cable.far), checkpoints, at_a_time=97)


@pytest.mark.parametrize("checkpoints", [0, 1, 2, 3, 5, 8, 13, 40])
async def test_a_cancelled_send_never_tears_a_message_on_a_socket(checkpoints):
    near, far = await tcp_pair(buffer=2048)
    link = Link(near, client=False, options=LinkOptions(owed_size=500))
    await expect_whole_messages(link, RawPeer(far), checkpoints, at_a_time=97)


@pytest.mark.parametrize("checkpoints", [1, 3, 8, 40])
async def test_a_cancelled_send_never_tears_a_message_over_tls(checkpoints, tls, autojump_clock):
    cable = Cable(capacity=300)
    server_context, client_context = tls
    near = trio.SSLStream(cable.near, server_context, server_side=True, https_compatible=True)
    far = trio.SSLStream(cable.far, client_context, server_hostname="hub.example", https_compatible=True)
    link = Link(near, client=False, options=LinkOptions(owed_size=500))
    await expect_whole_messages(link, RawPeer(far), checkpoints, at_a_time=97)


async def test_a_send_cancelled_while_it_waits_for_room_was_not_sent(autojump_clock):
    cable = Cable(capacity=100)
    async with link_and_peer(cable=cable, options=LinkOptions(owed_size=200)) as (link, peer):
        sent = []
        while True:
            with trio.move_on_after(1) as scope:
                await link.send(numbered(len(sent)))
            if scope.cancelled_caught:
                break
            sent.append(numbered(len(sent)))
        assert sent, "some had room"
        assert [await peer.hear() for _ in sent] == sent
        await link.send("the next")
        assert await peer.hear() == "the next"
        peer.stream.hang_up()


async def test_a_send_in_a_cancelled_scope_sends_nothing(autojump_clock):
    async with link_and_peer() as (link, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.send("never")
        assert scope.cancelled_caught
        await link.send("after")
        assert await peer.hear() == "after"
        peer.stream.hang_up()


# -- a slow peer


async def test_sending_to_a_peer_that_does_not_read_waits_and_holds_little(autojump_clock):
    cable = Cable(capacity=100)
    async with link_and_peer(cable=cable, options=LinkOptions(owed_size=1000)) as (link, peer):
        sent = []
        with trio.move_on_after(60):
            while True:
                await link.send(b"%04d" % len(sent) * 25)
                sent.append(b"%04d" % len(sent) * 25)
        held = sum(map(len, sent))
        assert 1000 <= held <= 100 + 1000 + 3 * 102, "the cable, the queue, and what the writer has in its hands"
        assert [await peer.hear() for _ in sent] == sent
        peer.stream.hang_up()


async def test_waiting_senders_get_their_turn_and_the_bound_holds(autojump_clock):
    cable = Cable(capacity=100)
    async with link_and_peer(cable=cable, options=LinkOptions(owed_size=300)) as (link, peer):
        async with trio.open_nursery() as tasks:
            for number in range(30):
                tasks.start_soon(link.send, b"%02d" % number * 50)
            await trio.testing.wait_all_tasks_blocked()
            assert len(tasks.child_tasks) >= 30 - 8, "the others wait"
            heard = [await peer.hear() for _ in range(30)]
        assert sorted(heard) == [b"%02d" % number * 50 for number in range(30)]
        peer.stream.hang_up()


async def test_a_writer_that_was_cancelled_goes_on_where_it_stopped():
    near, far = await tcp_pair(buffer=2048)
    link, peer = Link(near, client=False), RawPeer(far)
    messages = [numbered(number) for number in range(2000)]
    for message in messages:
        link.post(message)
    link.writer.flush()
    assert link.writer.busy
    async with trio.open_nursery() as tasks:
        tasks.start_soon(link.writer.run)
        await trio.testing.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(link.writer.run)
        assert [await peer.hear() for _ in messages] == messages
        await far.aclose()
        await link.close()


async def test_two_writers_at_once_write_nothing_twice(autojump_clock):
    cable = Cable(capacity=100)
    link, peer = Link(cable.near, client=False), RawPeer(cable.far)
    messages = [numbered(number) for number in range(50)]
    for message in messages:
        link.post(message)
    link.writer.flush()
    async with trio.open_nursery() as tasks:
        for _ in range(3):
            tasks.start_soon(link.writer.run)
        assert [await peer.hear() for _ in messages] == messages
        tasks.start_soon(link.close)
        assert await peer.hear() == CloseReason(1000)
        peer.stream.hang_up()


async def test_what_a_source_has_is_written_behind_the_queue_and_only_as_fast_as_it_is_read(autojump_clock):
    cable = Cable(capacity=100)
    async with link_and_peer(cable=cable, options=LinkOptions(piece_size=150)) as (link, peer):
        drawn = []

        def source(about: int) -> tuple[bytes, bool]:
            if len(drawn) == 20:
                return b"", False
            drawn.append(b"event %02d" % len(drawn) * 10)
            return message_frame(drawn[-1]), True

        link.post(b"reply")
        link.writer.draw_from(source)
        link.writer.flush()
        await trio.testing.wait_all_tasks_blocked()
        assert len(drawn) <= 2, "the rest can still be dropped or replaced"
        assert await peer.hear() == b"reply"
        assert [await peer.hear() for _ in range(20)] == drawn
        assert len(drawn) == 20
        peer.stream.hang_up()


# -- work


class Counting:
    """The two system calls of a socket's transport, counted."""

    def __init__(self) -> None:
        self.reads = self.writes = 0

    def read(self, fd: int, most: int) -> bytes:
        self.reads += 1
        return os.read(fd, most)

    def write(self, fd: int, data: bytes) -> int:
        self.writes += 1
        return os.write(fd, data)


@pytest.fixture
def counting(monkeypatch):
    counting = Counting()
    monkeypatch.setattr("trio_hub.link.transport.os", counting)
    return counting


async def test_a_flush_of_many_messages_is_one_write_and_their_receipt_one_read(counting):
    async with linked(*await tcp_pair()) as (client, server):
        words = [str(number) for number in range(1000)]
        for word in words:
            server.post(word)
        assert counting.writes == 0
        server.writer.flush()
        assert counting.writes == 1
        assert not server.writer.busy
        assert await client.receive() == words
        assert counting.reads == 1


async def test_a_send_on_an_idle_socket_is_written_at_once(counting):
    async with linked(*await tcp_pair()) as (client, server):
        await client.send("now")
        assert counting.writes == 1
        assert await server.receive() == ["now"]


async def test_the_writer_joins_all_that_came_meanwhile_into_one_write(counting):
    near, far = await tcp_pair(buffer=2048)
    peer = RawPeer(far)
    async with Link(near, client=False).running() as link:
        link.post(b"x" * 200_000)
        link.writer.flush()
        for number in range(500):
            link.post(numbered(number))
            link.writer.flush()
        assert counting.writes == 1, "no further attempt while the socket is full"
        assert await peer.hear() == b"x" * 200_000
        counting.writes = 0
        assert [await peer.hear() for _ in range(500)] == [numbered(number) for number in range(500)]
        assert counting.writes < 400, "fewer writes than messages, though the socket takes little at a time"
        await far.aclose()


async def test_a_socket_that_is_full_or_empty_by_surprise_is_waited_for(monkeypatch):
    surprises = {"read": 1, "write": 1}

    def sometimes(name):
        def call(*arguments):
            if surprises[name] and running:
                surprises[name] -= 1
                raise BlockingIOError
            return getattr(os, name)(*arguments)

        return call

    running = False
    monkeypatch.setattr("trio_hub.link.transport.os", SimpleNamespace(read=sometimes("read"), write=sometimes("write")))
    async with linked(*await tcp_pair()) as (client, server):
        running = True
        await client.send("once")
        assert await server.receive() == ["once"]
        assert surprises == {"read": 0, "write": 0}


# -- frames that nobody else says


async def test_a_goodbye_that_nobody_received_is_heard_by_whoever_closes(autojump_clock):
    async with Link(Cable().near, client=False, unread=spoken(FIN | CLOSE, b"\x03\xe8")).running() as link:
        pass
    assert link.closed == CloseReason(1000)
    assert trio.current_time() == 0


async def test_a_long_reason_is_cut_at_a_characters_end(autojump_clock):
    async with link_and_peer() as (link, peer):
        link.end(CloseReason(4000, "ü" * 100))
        assert await peer.hear() == CloseReason(4000, "ü" * 61)
        peer.stream.hang_up()


@pytest.mark.parametrize("code", [1005, 1006])
async def test_a_reason_that_cannot_be_sent_is_a_misuse_and_decides_nothing(code, autojump_clock):
    async with linked_in_memory() as (client, server):
        with pytest.raises(Misuse, match="reason"):
            await client.close(code, "why")
        assert client.closed is None
        async with open_tasks() as tasks:
            tasks.start_soon(client.close, code)
            assert await anext(server, None) is None
        assert server.closed == CloseReason(1005)


async def test_a_link_that_was_lost_says_nothing_that_may_not_be_said(autojump_clock):
    assert close_frame(CloseReason(1006, "gone")) == frame(CLOSE, b"")


# -- compression

INFLATES = LinkOptions(max_message=1000)
DEFLATED_MESSAGE = message_frame(bytes(600), mask=True, deflater=Deflater(15, CompressionOptions()))


async def test_a_read_that_inflates_to_much_is_received_in_parts(autojump_clock):
    cable = Cable()
    await cable.far.send_all(DEFLATED_MESSAGE * 5)
    async with Link(cable.near, client=False, compression=Parameters(), options=INFLATES).running() as link:
        assert [len(await link.receive()) for _ in range(3)] == [2, 2, 1]
        cable.far.hang_up()


async def test_a_goodbye_behind_much_that_is_inflated_is_heard(autojump_clock):
    cable = Cable()
    link = Link(cable.near, client=False, compression=Parameters(), options=INFLATES)
    await cable.far.send_all(DEFLATED_MESSAGE * 5 + close_frame(CloseReason(1000), mask=True))
    await link.close()
    assert trio.current_time() < link.options.close_timeout


async def test_several_messages_leave_whole_and_in_order(autojump_clock):
    messages = ["text", b"\0binary", "", "x" * 200, b"y" * 70_000]
    async with linked_in_memory() as (client, server):
        await client.send_all(messages)
        heard = await receive(server, 5)
        assert heard == messages
        await server.send_all(iter(heard))
        assert await receive(client, 5) == messages


@pytest.mark.parametrize("wrong", ["one message", b"one message", ["text", 3], [None], ["\ud800"]])
async def test_several_messages_of_which_one_is_none_are_not_sent_at_all(wrong, autojump_clock):
    async with linked_in_memory() as (client, server):
        with pytest.raises(Misuse):
            await client.send_all(wrong)
        await client.send("fine")
        assert await receive(server, 1) == ["fine"]


# -- closing beside others


async def test_a_link_is_closed_beside_whoever_receives(autojump_clock):
    async with linked_in_memory() as (client, server), open_tasks() as tasks:
        tasks.start_soon(server.close, 4000, "told to go")
        tasks.start_soon(anext, server, None)
        assert await anext(client, None) is None
        assert client.closed == server.closed == CloseReason(4000, "told to go")


async def test_a_link_is_closed_beside_its_own_end(autojump_clock):
    cable = Cable()
    async with (
        open_tasks() as tasks,
        Link(cable.near, client=True).running() as client,
        Link(cable.far, client=False).running() as server,
    ):
        tasks.start_soon(client.close, 4000, "told to go")
        async for _ in client:
            pass
        tasks.start_soon(client.close)
        async for _ in server:
            pass
    assert client.closed == server.closed == CloseReason(4000, "told to go")


async def test_a_cancelled_close_cuts_for_all_who_wait_for_it(autojump_clock):
    async with link_and_peer() as (link, _), open_tasks() as tasks:
        begun = trio.current_time()
        tasks.start_soon(link.close)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await link.close()
    assert trio.current_time() - begun == 1
