"""Pieces: the same messages as whole ones, however the bytes come; and every rule has its fault."""

import tracemalloc
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_hub.dialect import STANDARD, Dialect
from trio_hub.errors import PeerFault
from trio_hub.messages import CloseReason
from trio_hub.options import CompressionOptions
from trio_hub.wire.deflate import Deflater, Inflater
from trio_hub.wire.frames import Ping, frame
from trio_hub.wire.framing import Framer
from trio_hub.wire.pieces import Parts, Piece, PieceReader, WholeReader
from trio_hub.wire.reading import FrameReader
from trio_hub.wire.sealing import sealed_by

MAX = 1 << 16
FIN = 0x80
CONT, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
WEBSON = Dialect.webson(streams=3)
DEFLATER = Deflater(15, CompressionOptions(above=0))
messages_of_any_kind = st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), st.lists(st.text(max_size=300), max_size=4)))


def spoken(first: int, payload: bytes = b"") -> bytes:
    """A frame of a server, whether it may be said or not."""
    return frame(first & 0x7F, payload, fin=first > 127)


def reader(dialect: Dialect = STANDARD, *, deflated: bool = False, streams: bool = False, **more: Any) -> PieceReader:
    inflater = partial(Inflater, 15, MAX, keeps_context=False) if deflated else None
    limits = {"max_frame": MAX, "max_inflated": MAX, **more}
    return PieceReader(dialect, client=True, inflater=inflater, streams=streams, **limits)


def joined(pieces: PieceReader, *, max_message: int = MAX) -> WholeReader:
    return WholeReader(pieces, max_message=max_message)


@given(messages_of_any_kind, st.integers(1, 500), st.booleans(), st.sampled_from([STANDARD, Dialect(always_mask=True)]))
def test_pieces_join_to_what_was_sent(said, size, deflated, dialect):
    framer = Framer(dialect, client=False, deflater=DEFLATER if deflated else None)
    data = b""
    for kind, parts in said:
        fragments = framer.begin(kind)
        data += b"".join([fragments.piece(part.encode()) for part in parts]) + fragments.piece(b"", last=True)
    whole = joined(reader(dialect, deflated=deflated))
    heard = [item for at in range(0, len(data), size) for item in whole.feed(data[at : at + size])]
    assert heard == [("".join(parts) if kind == TEXT else "".join(parts).encode()) for kind, parts in said]
    assert not whole.midway


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_at_all_do_more_than_a_fault(data, size):
    """And where the quick reader for whole messages understands them, so do pieces, alike."""
    quick, whole = FrameReader(masked=False, max_message=MAX, max_fragments=99), joined(reader())
    outcomes = []
    for each in (quick, whole):
        heard: list[Any] = []
        code = None
        try:
            for at in range(0, len(data), size):
                heard += each.feed(data[at : at + size])
            each.feed(b"")
        except PeerFault as fault:
            code = fault.code
        outcomes.append((heard, code))
    assert outcomes[0][0] == outcomes[1][0]


@pytest.mark.parametrize(
    ("frames", "code", "said"),
    [
        ([spoken(FIN | 3)], 1002, "opcode 3 is not known"),
        ([spoken(FIN | 11)], 1002, "opcode 11 is not known"),
        ([spoken(FIN | 0x40 | TEXT)], 1002, "reserved bits"),
        ([spoken(FIN | 0x20 | TEXT)], 1002, "reserved bits"),
        ([spoken(FIN | 0x40 | PING)], 1002, "reserved bits"),
        ([spoken(PING)], 1002, "control frame is fragmented"),
        ([spoken(FIN | PING, bytes(126))], 1002, "control frame of 126 bytes"),
        ([spoken(FIN | CONT)], 1002, "continuation of nothing"),
        ([spoken(TEXT), spoken(FIN | TEXT)], 1002, "new message within"),
        ([frame(TEXT, b"x", mask=True)], 1002, "frame is masked"),
        ([bytes((FIN | TEXT, 126, 0, 5)) + bytes(5)], 1002, "shortest form"),
        ([spoken(FIN | TEXT, b"\xff")], 1007, "not UTF-8"),
        ([spoken(TEXT, b"\xe2"), spoken(FIN | CONT)], 1007, "not UTF-8"),
    ],
)
def test_what_may_not_be_said_is_a_fault(frames, code, said):
    pieces = reader()
    for each in frames[:-1]:
        pieces.feed(each)
    with pytest.raises(PeerFault, match=said) as caught:
        pieces.feed(frames[-1])
    assert caught.value.code == code
    with pytest.raises(PeerFault):
        pieces.feed(b"")


def test_what_was_said_before_a_fault_counts():
    pieces = reader()
    assert pieces.feed(spoken(FIN | TEXT, b"good") + spoken(FIN | 3)) == [Piece(TEXT, "good", True, True)]
    assert pieces.fault is not None
    with pytest.raises(PeerFault):
        pieces.feed(b"")


def test_a_server_takes_no_frame_without_a_mask():
    pieces = PieceReader(STANDARD, client=False, max_frame=MAX)
    with pytest.raises(PeerFault, match="not masked"):
        pieces.feed(spoken(FIN | TEXT))


def test_a_client_of_webson_takes_both():
    pieces = reader(Dialect.webson())
    assert pieces.feed(spoken(FIN | TEXT, b"a")) == pieces.feed(frame(TEXT, b"a", mask=True))


def test_a_message_deflated_is_not_deflated_anew_midway():
    pieces = reader(deflated=True)
    pieces.feed(spoken(0x40 | TEXT, DEFLATER.deflate(b"x")))
    with pytest.raises(PeerFault, match="reserved bits"):
        pieces.feed(spoken(FIN | 0x40 | CONT))


def test_control_frames_come_amid_a_message_and_a_close_ends_all():
    pieces = reader()
    said = spoken(TEXT, b"a") + spoken(FIN | PING, b"?") + spoken(FIN | CLOSE, b"\x03\xe8") + b"whatever"
    assert pieces.feed(said) == [Piece(TEXT, "a", True, False), Ping(b"?"), CloseReason(1000)]
    assert pieces.had_control_frames
    assert pieces.feed(b"more") == []
    assert not pieces.has_more


def test_what_was_held_comes_with_the_next_bytes():
    pieces = reader()
    assert not pieces.hold(spoken(FIN | TEXT, b"first")[:1])
    assert pieces.hold(spoken(FIN | TEXT, b"first")[1:])
    assert pieces.has_more
    assert pieces.feed(spoken(FIN | TEXT, b"second")) == [
        Piece(TEXT, "first", True, True),
        Piece(TEXT, "second", True, True),
    ]
    assert not pieces.has_more
    assert not pieces.had_control_frames


def test_what_was_held_may_be_a_control_frame():
    pieces = reader()
    assert pieces.hold(spoken(FIN | PING, b"?"))
    assert pieces.feed(spoken(FIN | TEXT, b"second")) == [Ping(b"?"), Piece(TEXT, "second", True, True)]
    assert pieces.had_control_frames
    assert pieces.feed(b"") == []
    assert not pieces.had_control_frames


def test_what_was_held_comes_before_the_fault_behind_it():
    pieces = reader()
    assert pieces.hold(spoken(FIN | TEXT, b"first"))
    assert pieces.feed(spoken(FIN | CONT)) == [Piece(TEXT, "first", True, True)]
    with pytest.raises(PeerFault, match="continuation of nothing"):
        pieces.feed(b"")


def test_what_was_held_with_a_fault_comes_before_it():
    pieces = reader()
    assert pieces.hold(spoken(FIN | TEXT, b"first") + spoken(FIN | CONT))
    assert pieces.feed(b"") == [Piece(TEXT, "first", True, True)]
    with pytest.raises(PeerFault, match="continuation of nothing"):
        pieces.feed(b"")


def test_what_was_held_and_what_comes_then_inflate_to_no_more_than_is_allowed():
    pieces = reader(deflated=True)
    large = spoken(FIN | 0x40 | TEXT, DEFLATER.deflate(bytes(MAX)))
    assert pieces.hold(large)
    sizes = [sum(len(piece.data) for piece in pieces.feed(data)) for data in (large, b"", b"")]
    assert sizes == [MAX, MAX, 0]


# -- webson's


def numbered(first: int, number: int, payload: bytes = b"") -> bytes:
    return spoken(first | 0x20, number.to_bytes(2) + payload)


def feed_twice(pieces: PieceReader, data: bytes) -> None:
    """A fault that comes behind something good is raised by the second call."""
    pieces.feed(data)
    pieces.feed(b"")


def test_streams_come_side_by_side():
    pieces = reader(WEBSON, streams=True)
    said = (
        numbered(TEXT, 1, b"a") + numbered(BINARY, 2, b"b") + numbered(FIN | TEXT, 1, b"c") + spoken(FIN | TEXT, b"d")
    )
    assert pieces.feed(said) == [
        Piece(TEXT, "a", True, False, 1),
        Piece(BINARY, b"b", True, False, 2),
        Piece(TEXT, "c", False, True, 1),
        Piece(TEXT, "d", True, True),
    ]
    assert pieces.midway


def test_the_first_opcode_of_a_message_is_its_kind():
    pieces = reader(WEBSON)
    pieces.feed(spoken(5, b"a"))
    assert pieces.feed(spoken(FIN | CONT, b"b")) == [Piece(5, b"b", False, True)]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (numbered(TEXT, 0), "without its number"),
        (spoken(TEXT | 0x20, b"\x00"), "without its number"),
        (numbered(CONT, 1), "continuation of nothing"),
        (b"".join([numbered(TEXT, number) for number in range(1, 1027)]), "more than 1024 streams"),
        (bytes((TEXT | 0x20, 127)) + (MAX + 1).to_bytes(8), "frame is larger"),
    ],
)
def test_faults_of_streams(said, reason):
    pieces = reader(WEBSON, streams=True)
    with pytest.raises(PeerFault, match=reason):
        feed_twice(pieces, said)


def test_a_stream_given_up_says_so_and_is_forgotten():
    pieces = reader(WEBSON, streams=True)
    pieces.feed(numbered(TEXT, 1, b"a"))
    assert pieces.feed(numbered(TEXT, 0x8001, b"b")) == [Piece(TEXT, "b", False, False, 1, True)]
    assert not pieces.midway
    assert pieces.feed(numbered(FIN | TEXT, 1, b"c")) == [Piece(TEXT, "c", True, True, 1)]


def test_each_fragment_of_webson_is_deflated_by_itself():
    pieces = joined(reader(WEBSON, deflated=True, streams=True))
    parts = [b"one " * 20, b"two " * 20]
    said = [numbered(first, 1, DEFLATER.deflate(part)) for first, part in zip((0x41, 0xC1), parts, strict=True)]
    assert pieces.feed(b"".join(said)) == [b"".join(parts).decode()]


def test_a_bomb_comes_in_parts_and_a_held_frame_with_one_is_a_fault():
    bomb = DEFLATER.deflate(bytes(10 * MAX))
    pieces = reader(deflated=True)
    sizes = [len(piece.data) for piece in pieces.feed(spoken(FIN | 0x40 | BINARY, bomb))]
    assert sum(sizes) < 3 * MAX
    while pieces.has_more:
        sizes += [len(piece.data) for piece in pieces.feed(b"")]
    assert sum(sizes) == 10 * MAX
    assert max(sizes) <= MAX
    with pytest.raises(PeerFault, match="1009"):
        reader(WEBSON, deflated=True, streams=True).feed(numbered(FIN | 0x40 | BINARY, 1, bomb))


# -- whole messages of pieces


def test_all_that_is_under_way_has_a_bound_together():
    whole = joined(reader(WEBSON, streams=True), max_message=10)
    whole.feed(numbered(TEXT, 1, b"123456"))
    assert whole.is_within_message
    with pytest.raises(PeerFault, match="larger than 10"):
        whole.feed(numbered(TEXT, 2, b"12345"))
    assert whole.fault is not None
    with pytest.raises(PeerFault):
        whole.feed(b"")


def test_what_came_whole_before_a_message_too_large_counts():
    whole = joined(reader(), max_message=10)
    assert whole.feed(spoken(FIN | TEXT, b"good") + spoken(FIN | TEXT, bytes(11))) == ["good"]
    with pytest.raises(PeerFault, match="1009"):
        whole.feed(b"")


def test_a_message_may_come_in_any_number_of_pieces():
    whole = joined(reader())
    data = spoken(TEXT) + (spoken(CONT, b"b") + spoken(CONT)) * 5000 + spoken(FIN | CONT)
    heard = [item for at in range(len(data)) for item in whole.feed(data[at : at + 1])]
    assert heard == ["b" * 5000]


@pytest.mark.parametrize(("kind", "part"), [(TEXT, "x\u2603"), (BINARY, b"xy")])
def test_parts_take_little_more_than_what_is_in_them(kind, part):
    parts = Parts(kind)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            parts.add(part[:1] + part[1:])
            parts.add(part[:0])
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
    assert parts.size == 200_000
    assert parts.joined() == part * 100_000


def test_what_was_given_up_is_left_out_and_takes_no_room():
    whole = joined(reader(WEBSON, streams=True), max_message=10)
    for _ in range(5):
        assert whole.feed(numbered(TEXT, 1, b"123456") + numbered(TEXT, 0x8001)) == []
    assert whole.feed(numbered(FIN | TEXT, 1, b"1234567890")) == ["1234567890"]
    assert not whole.is_within_message
    assert not whole.has_more


def test_a_frame_that_must_be_whole_is_cut_once():
    """And not looked at with each read of it, which would cost its size each time."""
    dialect = Dialect.sealed(bytes(32), chunk_size=None)
    client, server = (sealed_by(bytes(32), "a", "b", client=client) for client in (True, False))
    frame = Framer(dialect, client=False, sealer=server.sealer).messages([bytes(MAX)])[0]
    pieces = CountingReader(dialect, client=True, max_frame=2 * MAX, opener=client.opener)
    heard = [item for at in range(0, len(frame), 100) for item in pieces.feed(frame[at : at + 100])]
    assert [len(piece.data) for piece in heard] == [MAX]
    assert pieces.cuts <= 3


class CountingReader(PieceReader):
    """Counts how often it looks at what has come."""

    cuts = 0

    def _cut(self, data: bytes, heard: list[Any]) -> int:
        self.cuts += 1
        return super()._cut(data, heard)
