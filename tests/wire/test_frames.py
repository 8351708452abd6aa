"""RFC 6455 frames, rule by rule and for both roles; then anything at all, and an independent peer.

The frames fed to a reader here are written by hand (`spoken`), so that our writer cannot hide a mistake of our reader.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, SERVER
from websockets.protocol import Protocol as IndependentPeer

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseReason
from trio_hub.options import CompressionOptions
from trio_hub.wire.deflate import Deflater, Inflater
from trio_hub.wire.frames import DEFLATED, Ping, Pong, close_frame, frame, message_frame
from trio_hub.wire.reading import FrameReader

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
KEY = bytes.fromhex("37fa213d")
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537]

both_roles = pytest.mark.parametrize("masked", [True, False], ids=["server", "client"])
"""`masked` is what the reader's peer must do."""


def size_field(size: int) -> bytes:
    if size < 126:
        return bytes((size,))
    return b"\x7e" + struct.pack(">H", size) if size < 65536 else b"\x7f" + struct.pack(">Q", size)


def head(first: int, size: bytes, *, masked: bool) -> bytes:
    """Return a header without its key, `size` being the size as it shall be written there."""
    return bytes((first, size[0] | (0x80 if masked else 0))) + size[1:]


def spoken(first: int, payload: bytes = b"", *, masked: bool) -> bytes:
    """Return a frame as the peer of this role would write it, whether it may or not."""
    header = head(first, size_field(len(payload)), masked=masked)
    if not masked:
        return header + payload
    repeated = KEY * (len(payload) // 4 + 1)
    return header + KEY + bytes(byte ^ key for byte, key in zip(payload, repeated, strict=False))


def reader_of(*, masked: bool, max_message: int = 100_000, max_fragments: int = 16) -> FrameReader:
    return FrameReader(masked=masked, max_message=max_message, max_fragments=max_fragments)


DEFLATER = Deflater(15, CompressionOptions(above=0))
HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
"""What Hello is deflated (RFC 7692 section 7.2.3.1)."""


def inflating_reader_of(*, masked: bool, max_message: int = 100_000) -> FrameReader:
    """Return a reader for a link that has agreed to compression."""
    inflater = Inflater(15, max_message, keeps_context=False)
    return FrameReader(masked=masked, max_message=max_message, max_fragments=16, inflater=inflater)


def fault_of(reader: FrameReader, data: bytes) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        reader.feed(data)
    return caught.value


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack(">H", code) + reason


# -- out ---------------------------------------------------------------------------------------------------------


def test_frames_are_written_as_the_rfc_shows_them():
    """RFC 6455 section 5.7."""
    assert message_frame("Hello") == bytes.fromhex("810548656c6c6f")
    assert frame(TEXT, b"Hel", fin=False) + frame(CONT, b"lo") == bytes.fromhex("010348656c80026c6f")
    assert frame(PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert message_frame(bytes(256)) == bytes.fromhex("827e0100") + bytes(256)
    assert message_frame(bytes(65536)) == bytes.fromhex("827f0000000000010000") + bytes(65536)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_written_in_their_shortest_form(size):
    assert message_frame(bytes(size)) == b"\x82" + size_field(size) + bytes(size)


@pytest.mark.parametrize("size", SIZES)
def test_a_masked_frame_carries_its_key_and_the_masked_payload(size):
    written = message_frame(b"x" * size, mask=True)
    header = head(FIN | BINARY, size_field(size), masked=True)
    assert written.startswith(header)
    key, payload = written[len(header) :][:4], written[len(header) + 4 :]
    assert payload == bytes(ord("x") ^ key[i % 4] for i in range(size))


def test_every_masked_frame_has_a_key_of_its_own():
    """Section 5.3: the key must not be guessed."""
    keys = {message_frame(b"", mask=True)[2:] for _ in range(32)}
    assert len(keys) > 30


def test_a_close_frame_says_code_and_reason():
    assert close_frame(CloseReason(1001, "späť")) == spoken(0x88, close_payload(1001, "späť".encode()), masked=False)
    assert close_frame(CloseReason(4101)) == b"\x88\x02" + close_payload(4101)
    assert reader_of(masked=True).feed(close_frame(CloseReason(4101, "x"), mask=True)) == [CloseReason(4101, "x")]


@pytest.mark.parametrize("code", [1005, 1006])
def test_codes_that_are_never_sent_become_an_empty_close_frame(code):
    """Section 7.4.1."""
    assert close_frame(CloseReason(code, "nobody said anything")) == b"\x88\x00"


@pytest.mark.parametrize(
    ("reason", "sent"),
    [("a" * 123, "a" * 123), ("a" * 124, "a" * 123), ("ä" * 62, "ä" * 61), ("a" * 122 + "€", "a" * 122)],
)
def test_a_long_close_reason_is_cut_where_a_character_ends(reason, sent):
    assert close_frame(CloseReason(1000, reason)) == spoken(0x88, close_payload(1000, sent.encode()), masked=False)


# -- in: what may come -------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("size", SIZES)
def test_messages_of_every_size_come_out_whole(masked, size):
    data = spoken(FIN | BINARY, bytes(i % 251 for i in range(size)), masked=masked)
    assert reader_of(masked=masked).feed(data) == [bytes(i % 251 for i in range(size))]
    text = spoken(FIN | TEXT, b"a" * size, masked=masked)
    assert reader_of(masked=masked).feed(text) == ["a" * size]


def test_the_frames_of_the_rfc_are_understood():
    """RFC 6455 section 5.7."""
    assert reader_of(masked=False).feed(bytes.fromhex("010348656c80026c6f")) == ["Hello"]
    server = reader_of(masked=True)
    assert server.feed(bytes.fromhex("818537fa213d7f9f4d5158 8a8537fa213d7f9f4d5158")) == ["Hello", Pong(b"Hello")]


@both_roles
def test_text_and_binary_are_told_apart_also_in_fragments(masked):
    reader = reader_of(masked=masked)
    for opcode, message in ((TEXT, "ab"), (BINARY, b"ab")):
        assert reader.feed(spoken(opcode, b"a", masked=masked)) == []
        assert reader.feed(spoken(FIN | CONT, b"b", masked=masked)) == [message]


@both_roles
def test_control_frames_may_come_between_fragments(masked):
    said = [(TEXT, b"a"), (FIN | PING, b"1"), (CONT, b""), (FIN | PONG, b"2"), (FIN | CONT, b"b")]
    data = b"".join(spoken(first, payload, masked=masked) for first, payload in said)
    assert reader_of(masked=masked).feed(data) == [Ping(b"1"), Pong(b"2"), "ab"]


@both_roles
def test_a_control_frame_may_have_125_bytes_however_small_messages_must_be(masked):
    reader = reader_of(masked=masked, max_message=1)
    assert reader.feed(spoken(FIN | PING, bytes(125), masked=masked)) == [Ping(bytes(125))]


@both_roles
def test_a_character_may_be_split_between_fragments(masked):
    one, *others = "€".encode()
    reader = reader_of(masked=masked)
    assert reader.feed(spoken(TEXT, bytes((one,)), masked=masked)) == []
    assert reader.feed(spoken(FIN | CONT, bytes(others), masked=masked)) == ["€"]


@both_roles
@pytest.mark.parametrize("code", [1000, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4101, 4999])
def test_legal_close_codes_are_read_with_their_reason(masked, code):
    data = spoken(FIN | CLOSE, close_payload(code, "tschüß".encode()), masked=masked)
    assert reader_of(masked=masked).feed(data) == [CloseReason(code, "tschüß")]


@both_roles
def test_an_empty_close_frame_means_that_no_code_was_given(masked):
    assert reader_of(masked=masked).feed(spoken(FIN | CLOSE, masked=masked)) == [CloseReason(1005)]


@both_roles
def test_whatever_follows_a_close_frame_is_ignored(masked):
    """RFC 6455 section 5.5.1."""
    reader = reader_of(masked=masked)
    data = spoken(FIN | CLOSE, close_payload(1000), masked=masked) + spoken(FIN | TEXT, b"late", masked=masked)
    assert reader.feed(data + b"\xff") == [CloseReason(1000)]
    assert reader.feed(b"\xff" * 100) == []
    assert reader.feed(spoken(FIN | TEXT, b"later", masked=masked)) == []
    assert reader.fault is None
    assert not reader.midway


# -- in: what may not --------------------------------------------------------------------------------------------

HEADERS_THAT_MAY_NOT_COME = {
    **{f"reserved bits {bits:#x}": (FIN | bits | TEXT, size_field(1), "reserved") for bits in (0x10, 0x20, 0x40, 0x70)},
    "reserved bit on a ping": (FIN | 0x40 | PING, size_field(1), "reserved"),
    "reserved bit on a fragment": (0x40 | BINARY, size_field(1), "reserved"),
    **{f"opcode {opcode:#x}": (FIN | opcode, size_field(1), "not known") for opcode in (3, 4, 5, 6, 7, *range(11, 16))},
    "fragmented close": (CLOSE, size_field(2), "fragmented"),
    "fragmented ping": (PING, size_field(0), "fragmented"),
    "fragmented pong": (PONG, size_field(0), "fragmented"),
    "long close": (FIN | CLOSE, size_field(126), "126 bytes"),
    "long ping": (FIN | PING, size_field(126), "126 bytes"),
    "long pong": (FIN | PONG, size_field(65536), "65536 bytes"),
    "continuation of nothing": (CONT, size_field(1), "continuation of nothing"),
    "last continuation of nothing": (FIN | CONT, size_field(1), "continuation of nothing"),
    "125 in 16 bits": (FIN | BINARY, b"\x7e" + struct.pack(">H", 125), "shortest"),
    "0 in 16 bits": (FIN | BINARY, b"\x7e" + struct.pack(">H", 0), "shortest"),
    "65535 in 64 bits": (FIN | BINARY, b"\x7f" + struct.pack(">Q", 65535), "shortest"),
    "0 in 64 bits": (FIN | BINARY, b"\x7f" + struct.pack(">Q", 0), "shortest"),
    "ping of 5 in 64 bits": (FIN | PING, b"\x7f" + struct.pack(">Q", 5), "shortest"),
    "top bit of 64 set": (FIN | BINARY, b"\x7f" + struct.pack(">Q", 1 << 63), str(1 << 63)),
}


@both_roles
@pytest.mark.parametrize("name", HEADERS_THAT_MAY_NOT_COME)
def test_an_illegal_frame_is_refused_by_its_header_alone(masked, name):
    first, size, words = HEADERS_THAT_MAY_NOT_COME[name]
    fault = fault_of(reader_of(masked=masked), head(first, size, masked=masked))
    assert fault.code == 1002
    assert words in fault.reason


@both_roles
@pytest.mark.parametrize("begun", [TEXT, BINARY])
@pytest.mark.parametrize("new", [TEXT, BINARY, FIN | TEXT, FIN | BINARY])
def test_a_new_message_within_a_fragmented_one_is_refused(masked, begun, new):
    reader = reader_of(masked=masked)
    reader.feed(spoken(begun, b"a", masked=masked))
    fault = fault_of(reader, head(new, size_field(5), masked=masked))
    assert (fault.code, fault.reason) == (1002, "new message within a fragmented one")


@both_roles
@pytest.mark.parametrize("first", [FIN | TEXT, BINARY, FIN | PING, FIN | CLOSE])
@pytest.mark.parametrize("size", [0, 1, 126, 65536])
def test_a_frame_masked_like_the_other_role_is_refused_by_its_header(masked, first, size):
    fault = fault_of(reader_of(masked=masked), head(first, size_field(size), masked=not masked))
    assert (fault.code, fault.reason) == (1002, "frame is not masked" if masked else "frame is masked")


@both_roles
def test_a_close_frame_with_half_a_code_is_refused(masked):
    fault = fault_of(reader_of(masked=masked), spoken(FIN | CLOSE, b"\x03", masked=masked))
    assert (fault.code, fault.reason) == (1002, "close frame with half a code")


@both_roles
@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65535])
def test_close_codes_that_may_not_be_sent_are_refused(masked, code):
    fault = fault_of(reader_of(masked=masked), spoken(FIN | CLOSE, close_payload(code), masked=masked))
    assert fault.code == 1002
    assert str(code) in fault.reason


NOT_UTF8 = {
    "byte that never occurs": b"\xff",
    "lonely continuation byte": b"a\x80",
    "overlong slash": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond the last character": b"\xf4\x90\x80\x80",
    "unfinished character": "€".encode()[:2],
}


@both_roles
@pytest.mark.parametrize("name", NOT_UTF8)
def test_text_that_is_no_utf8_is_refused(masked, name):
    fault = fault_of(reader_of(masked=masked), spoken(FIN | TEXT, b"ok " + NOT_UTF8[name], masked=masked))
    assert fault.code == 1007
    assert "UTF-8" in fault.reason


@both_roles
@pytest.mark.parametrize("name", NOT_UTF8)
def test_fragmented_text_that_is_no_utf8_is_refused(masked, name):
    reader = reader_of(masked=masked)
    assert reader.feed(spoken(TEXT, b"ok", masked=masked)) == []
    fault = fault_of(reader, spoken(FIN | CONT, NOT_UTF8[name], masked=masked))
    assert fault.code == 1007
    assert not reader.midway


@both_roles
@pytest.mark.parametrize("name", sorted(NOT_UTF8.keys() - {"unfinished character"}))
def test_bad_utf8_is_found_before_the_message_ends(masked, name):
    assert fault_of(reader_of(masked=masked), spoken(TEXT, NOT_UTF8[name], masked=masked)).code == 1007


@both_roles
@pytest.mark.parametrize("name", NOT_UTF8)
def test_a_close_reason_that_is_no_utf8_is_refused(masked, name):
    data = spoken(FIN | CLOSE, close_payload(1000, NOT_UTF8[name]), masked=masked)
    assert fault_of(reader_of(masked=masked), data).code == 1007


@both_roles
@pytest.mark.parametrize("name", NOT_UTF8)
def test_binary_may_hold_any_bytes(masked, name):
    payload = NOT_UTF8[name]
    data = spoken(BINARY, payload, masked=masked) + spoken(FIN | CONT, payload, masked=masked)
    assert reader_of(masked=masked).feed(data) == [payload * 2]


# -- in: limits --------------------------------------------------------------------------------------------------


@both_roles
@pytest.mark.parametrize("first", [FIN | TEXT, FIN | BINARY, TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 125, 126, 300, 65535, 65536])
def test_a_message_one_byte_too_large_is_refused_before_its_payload_comes(masked, first, limit):
    reader = reader_of(masked=masked, max_message=limit)
    assert reader.feed(head(first, size_field(limit), masked=masked)) == []
    fault = fault_of(reader_of(masked=masked, max_message=limit), head(first, size_field(limit + 1), masked=masked))
    assert (fault.code, fault.reason) == (1009, f"message is larger than {limit} bytes")


@both_roles
def test_a_declared_exabyte_costs_only_its_header(masked):
    fault = fault_of(reader_of(masked=masked), head(FIN | BINARY, size_field(1 << 60), masked=masked))
    assert fault.code == 1009


@both_roles
@pytest.mark.parametrize("last", [CONT, FIN | CONT])
def test_fragments_count_together_and_the_one_too_large_is_refused_before_its_payload(masked, last):
    def begun() -> FrameReader:
        reader = reader_of(masked=masked, max_message=10)
        data = spoken(BINARY, b"1234", masked=masked) + spoken(CONT, b"567", masked=masked)
        assert reader.feed(data + spoken(FIN | PING, b"not counted", masked=masked)) == [Ping(b"not counted")]
        return reader

    assert begun().feed(spoken(FIN | CONT, b"890", masked=masked)) == [b"1234567890"]
    assert fault_of(begun(), head(last, size_field(4), masked=masked)).code == 1009


@both_roles
def test_a_message_of_too_many_fragments_is_refused_before_the_payload_of_the_last(masked):
    reader = reader_of(masked=masked, max_fragments=3)
    begun = spoken(TEXT, b"a", masked=masked) + spoken(CONT, b"", masked=masked)
    for _ in range(2):  # the count begins anew with each message, and pings are not in it
        pinged = begun + spoken(FIN | PING, masked=masked) * 4
        assert reader.feed(pinged + spoken(FIN | CONT, b"c", masked=masked)) == [Ping()] * 4 + ["ac"]
    reader.feed(begun + spoken(CONT, b"", masked=masked))
    fault = fault_of(reader, head(FIN | CONT, size_field(1), masked=masked))
    assert (fault.code, fault.reason) == (1008, "message has more than 3 fragments")


@both_roles
def test_whole_messages_are_no_fragments(masked):
    reader = reader_of(masked=masked, max_fragments=1)
    assert reader.feed(spoken(FIN | TEXT, b"a", masked=masked) * 5) == ["a"] * 5


# -- in: faults, and being midway --------------------------------------------------------------------------------


@both_roles
def test_what_was_said_before_a_fault_is_returned_and_then_every_call_raises(masked):
    reader = reader_of(masked=masked)
    said = spoken(FIN | TEXT, b"a", masked=masked) + spoken(FIN | PING, b"b", masked=masked)
    assert reader.feed(said + spoken(0x83, b"c", masked=masked) + said) == ["a", Ping(b"b")]
    assert reader.fault is not None
    for data in (said, b"", b"\xff"):
        assert fault_of(reader, data) is reader.fault
    assert reader.fault.code == 1002


@both_roles
def test_a_fault_with_nothing_before_it_is_raised_at_once_and_ever_after(masked):
    reader = reader_of(masked=masked)
    assert reader.fault is None
    fault = fault_of(reader, spoken(FIN | CONT, masked=masked))
    assert reader.fault is fault
    assert fault_of(reader, spoken(FIN | TEXT, b"sorry", masked=masked)) is fault


@both_roles
def test_a_reader_is_midway_from_the_first_byte_of_a_message_to_its_last(masked):
    reader = reader_of(masked=masked)
    assert not reader.midway
    first, last = spoken(TEXT, b"a" * 200, masked=masked), spoken(FIN | CONT, b"b", masked=masked)
    for byte in first + last[:-1]:
        assert reader.feed(bytes((byte,))) == []
        assert reader.midway
    assert reader.feed(last[-1:]) == ["a" * 200 + "b"]
    assert not reader.midway


@both_roles
def test_a_ping_between_fragments_does_not_end_being_midway(masked):
    reader = reader_of(masked=masked)
    reader.feed(spoken(TEXT, b"a", masked=masked) + spoken(FIN | PING, masked=masked))
    assert reader.midway
    reader.feed(spoken(FIN | CONT, masked=masked) + spoken(FIN | PING, masked=masked))
    assert not reader.midway


@both_roles
def test_after_a_fault_a_reader_is_not_midway(masked):
    reader = reader_of(masked=masked)
    header = head(FIN | TEXT, size_field(1), masked=masked)
    reader.feed(spoken(TEXT, b"a", masked=masked) + header[:1])
    fault_of(reader, header[1:])
    assert not reader.midway


@both_roles
@pytest.mark.parametrize("present", range(1, 10))
def test_a_header_is_judged_as_soon_as_it_is_whole_also_behind_other_messages(masked, present):
    reader = reader_of(masked=masked)
    header = head(FIN | BINARY, size_field(1 << 40), masked=masked)
    assert reader.feed(spoken(FIN | TEXT, b"before", masked=masked) + header[:present]) == ["before"]
    assert fault_of(reader, header[present:]).code == 1009


# -- anything at all ---------------------------------------------------------------------------------------------

short = st.binary(max_size=140)
controls = st.one_of(st.builds(Ping, st.binary(max_size=125)), st.builds(Pong, st.binary(max_size=125)))
texts = st.text(max_size=70)


@st.composite
def cuttings(draw, message):
    """Return the frames, as (opcode, fin, payload), of one message in fragments, with control frames among them."""
    payload = message.encode() if isinstance(message, str) else message
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    frames = []
    for start, stop in zip([0, *cuts], [*cuts, len(payload)], strict=True):
        opcode = (TEXT if isinstance(message, str) else BINARY) if not frames else CONT
        frames += [(opcode, False, payload[start:stop])]
        frames += [as_frame(control) for control in draw(st.lists(controls, max_size=1))]
    while frames[-1][0] >= CLOSE:
        frames.pop()
    opcode, _, payload = frames[-1]
    return [*frames[:-1], (opcode, True, payload)]


def as_frame(control: Ping | Pong) -> tuple[int, bool, bytes]:
    return (PING if isinstance(control, Ping) else PONG, True, control.payload)


fragmented = st.one_of(texts, short).flatmap(cuttings)
conversations = st.lists(st.one_of(fragmented, controls.map(lambda control: [as_frame(control)])), max_size=6).map(
    lambda parts: [one for part in parts for one in part]
)


def meaning(frames: list[tuple[int, bool, bytes]]) -> list[object]:
    """Return what these legal frames say, in the order in which it is complete."""
    said: list[object] = []
    parts: list[bytes] = []
    kind = BINARY
    for opcode, fin, payload in frames:
        if opcode >= CLOSE:
            said.append((Ping if opcode == PING else Pong)(payload))
            continue
        kind = opcode or kind
        parts.append(payload)
        if fin:
            said.append(b"".join(parts).decode() if kind == TEXT else b"".join(parts))
            parts.clear()
    return said


def split(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield `data` in pieces of these sizes, again and again."""
    start = 0
    for size in cycle(sizes):
        yield data[start : start + size]
        start += size
        if start >= len(data):
            return


@settings(deadline=None, max_examples=150)
@given(frames=conversations, masked=st.booleans(), sizes=st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_whatever_was_said_comes_out_the_same_however_it_was_split(frames, masked, sizes):
    written = b"".join(frame(opcode, payload, mask=masked, fin=fin) for opcode, fin, payload in frames)
    reader = reader_of(masked=masked)
    received = [item for piece in split(written, sizes) for item in reader.feed(piece)]
    assert received == meaning(frames)
    assert not reader.midway


@settings(deadline=None, max_examples=50)
@given(frames=conversations, masked=st.booleans())
def test_whatever_was_said_comes_out_the_same_byte_by_byte(frames, masked):
    written = b"".join(frame(opcode, payload, mask=masked, fin=fin) for opcode, fin, payload in frames)
    reader = reader_of(masked=masked)
    assert [item for byte in written for item in reader.feed(bytes((byte,)))] == meaning(frames)


# Random bytes hardly ever get past the first header: most of this garbage is built from frames that are nearly right.
first_bytes = st.one_of(st.sampled_from([TEXT, BINARY, CONT, FIN | CONT, FIN | TEXT, FIN | PING]), st.integers(0, 255))
sizes = st.one_of(
    st.integers(0, 125).map(lambda size: bytes((size,))),
    st.integers(0, 400).map(lambda size: b"\x7e" + struct.pack(">H", size)),
    st.one_of(st.integers(0, 70_000), st.integers(0, 2**64 - 1)).map(lambda size: b"\x7f" + struct.pack(">Q", size)),
)
nearly_frames = st.builds(
    lambda first, size, masked, rest: head(first, size, masked=masked) + rest,
    first_bytes,
    sizes,
    st.booleans(),
    st.binary(max_size=150),
)
garbage = st.lists(
    st.one_of(
        nearly_frames,
        st.binary(max_size=40),
        st.builds(spoken, first_bytes, st.binary(max_size=60), masked=st.booleans()),
    ),
    max_size=12,
)


def held(reader: FrameReader) -> int:
    """Return the bytes a reader keeps from one call to the next."""
    return len(reader._waiting) + (reader._unfinished.size if reader._unfinished else 0)


@settings(deadline=None, max_examples=300)
@given(pieces=garbage, masked=st.booleans(), max_message=st.integers(1, 200), max_fragments=st.integers(1, 4))
@example(
    [spoken(BINARY, bytes(200), masked=False), head(FIN | PING, b"\x7d", masked=False) + bytes(124)], False, 200, 4
)
def test_garbage_raises_nothing_but_faults_and_is_never_hoarded(pieces, masked, max_message, max_fragments):
    reader = reader_of(masked=masked, max_message=max_message, max_fragments=max_fragments)
    for piece in pieces:
        with suppress(PeerFault):
            received = reader.feed(piece)
            assert all(len(item) <= max_message for item in received if isinstance(item, (str, bytes)))
        assert held(reader) <= max_message + 14 + 125  # a header, and a ping between two fragments


# -- deflated messages --------------------------------------------------------------------------------------------


def test_a_message_is_deflated_where_that_makes_it_smaller():
    assert message_frame("Hello" * 9, deflater=DEFLATER)[:1] == b"\xc1"
    assert message_frame(b"Hello" * 9, deflater=DEFLATER)[:1] == b"\xc2"
    assert message_frame(b"Hello" * 9, mask=True, deflater=DEFLATER)[:1] == b"\xc2"
    assert message_frame(bytes(range(256)), deflater=DEFLATER) == message_frame(bytes(range(256)))


def test_small_messages_are_left_alone():
    deflater = Deflater(15, CompressionOptions(above=100))
    assert message_frame("x" * 99, deflater=deflater) == message_frame("x" * 99)
    assert len(message_frame("x" * 100, deflater=deflater)) < 20


@both_roles
def test_the_deflated_hello_is_understood_whole_and_in_fragments(masked):
    reader = inflating_reader_of(masked=masked)
    assert reader.feed(spoken(FIN | DEFLATED | TEXT, HELLO, masked=masked)) == ["Hello"]
    begun = spoken(DEFLATED | TEXT, HELLO[:3], masked=masked) + spoken(FIN | PING, b"?", masked=masked)
    assert reader.feed(begun) == [Ping(b"?")]
    assert reader.feed(spoken(CONT, b"", masked=masked)) == []
    assert reader.feed(spoken(FIN | CONT, HELLO[3:], masked=masked)) == ["Hello"]


@both_roles
def test_what_is_not_deflated_may_come_between(masked):
    reader = inflating_reader_of(masked=masked)
    plain, deflated = spoken(FIN | TEXT, HELLO[-1:], masked=masked), spoken(FIN | DEFLATED | TEXT, HELLO, masked=masked)
    assert reader.feed(plain + deflated + plain) == ["\x00", "Hello", "\x00"]


@both_roles
@pytest.mark.parametrize(
    ("begun", "first"),
    [
        pytest.param(None, FIN | DEFLATED | PING, id="ping"),
        pytest.param(None, FIN | DEFLATED | CLOSE, id="close"),
        pytest.param(DEFLATED | TEXT, FIN | DEFLATED | CONT, id="second fragment"),
        pytest.param(TEXT, FIN | DEFLATED | CONT, id="second fragment of plain text"),
        pytest.param(None, FIN | DEFLATED | 0x20 | TEXT, id="and RSV2"),
        pytest.param(None, FIN | 0x10 | TEXT, id="RSV3"),
    ],
)
def test_only_a_messages_first_frame_may_say_that_it_is_deflated(masked, begun, first):
    """RFC 7692 section 6."""
    reader = inflating_reader_of(masked=masked)
    if begun is not None:
        reader.feed(spoken(begun, masked=masked))
    fault = fault_of(reader, spoken(first, masked=masked))
    assert (fault.code, fault.reason) == (1002, "reserved bits are set that no agreed extension has there")


@both_roles
def test_a_message_that_inflates_to_too_much_is_refused(masked):
    written = message_frame(bytes(1001), mask=masked, deflater=DEFLATER)
    fault = fault_of(inflating_reader_of(masked=masked, max_message=1000), written)
    assert (fault.code, fault.reason) == (1009, "message inflates to more than 1000 bytes")


@both_roles
def test_no_more_is_inflated_at_once_than_one_message_may_have(masked):
    deflated = message_frame(bytes(400), mask=masked, deflater=DEFLATER)
    reader = inflating_reader_of(masked=masked, max_message=1000)
    ping = spoken(FIN | PING, b"?", masked=masked)
    assert reader.feed(deflated * 4 + ping) == [bytes(400)] * 3
    assert reader.has_more
    assert not reader.midway, "it is not the peer who is awaited"
    assert reader.feed(b"") == [bytes(400), Ping(b"?")]
    assert not reader.has_more


@both_roles
def test_what_is_behind_much_that_is_inflated_waits_for_nothing(masked):
    """Also where that came in two pieces, of which the second was awaited."""
    deflated = message_frame(random.Random(1).randbytes(500).hex(), mask=masked, deflater=DEFLATER)
    reader = inflating_reader_of(masked=masked, max_message=1000)
    small = message_frame("small", mask=masked)
    assert reader.feed(deflated[:100]) == []
    assert len(reader.feed(deflated[100:] + small + small[:-1])) == 1
    assert reader.has_more
    assert reader.feed(b"") == ["small"]
    assert not reader.has_more
    assert reader.midway
    assert reader.feed(small[-1:]) == ["small"]


@both_roles
def test_a_fault_behind_much_that_is_inflated_is_met_in_its_turn(masked):
    deflated = message_frame(bytes(1000), mask=masked, deflater=DEFLATER)
    reader = inflating_reader_of(masked=masked, max_message=1000)
    assert reader.feed(deflated + spoken(FIN | CONT, masked=masked)) == [bytes(1000)]
    assert fault_of(reader, b"").code == 1002
    assert not reader.has_more


@both_roles
def test_deflated_text_that_is_no_utf8_is_refused_with_the_fragment_that_shows_it(masked):
    deflated = DEFLATER.deflate(b"good \xff bad")
    reader = inflating_reader_of(masked=masked)
    fault = fault_of(reader, spoken(DEFLATED | TEXT, deflated, masked=masked))
    assert (fault.code, fault.reason) == (1007, "text is not UTF-8: invalid start byte")


@settings(deadline=None, max_examples=100)
@given(
    messages=st.lists(st.tuples(st.text(max_size=250) | st.binary(max_size=1000), st.booleans()), max_size=5),
    cut=st.integers(1, 100),
    masked=st.booleans(),
    sizes=st.lists(st.integers(1, 100) | st.integers(500, 3000), min_size=1, max_size=8),
)
def test_whatever_is_deflated_comes_out_the_same_however_it_was_fragmented_and_split(messages, cut, masked, sizes):
    written = b"".join(
        in_fragments(message, cut, masked=masked) if deflated else message_frame(message, mask=masked)
        for message, deflated in messages
    )
    for max_message in (1000, 100_000):
        reader = inflating_reader_of(masked=masked, max_message=max_message)
        received = [item for piece in split(written, sizes) for item in all_of(reader, piece)]
        assert received == [message for message, _ in messages]
        assert not reader.midway


def all_of(reader: FrameReader, data: bytes) -> list[object]:
    """Return everything that is complete with these bytes, however much they inflate to."""
    received = reader.feed(data)
    while reader.has_more:
        received += reader.feed(b"")
    return received


def in_fragments(message: str | bytes, cut: int, *, masked: bool) -> bytes:
    """Return a message deflated, in two frames."""
    deflated = DEFLATER.deflate(message if isinstance(message, bytes) else message.encode())
    first = frame(DEFLATED | (BINARY if isinstance(message, bytes) else TEXT), deflated[:cut], mask=masked, fin=False)
    return first + frame(CONT, deflated[cut:], mask=masked)


# -- an independent peer: the websockets library ----------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(frames=conversations, masked=st.booleans())
def test_an_independent_peer_understands_our_frames(frames, masked):
    peer = IndependentPeer(SERVER if masked else CLIENT)
    for opcode, fin, payload in frames:
        peer.receive_data(frame(opcode, payload, mask=masked, fin=fin))
    peer.receive_data(close_frame(CloseReason(4102, "no pong"), mask=masked))
    *heard, close = peer.events_received()
    assert [(event.opcode, event.fin, bytes(event.data)) for event in heard] == frames
    assert close.opcode is Opcode.CLOSE
    assert (peer.close_rcvd.code, peer.close_rcvd.reason) == (4102, "no pong")


@settings(deadline=None, max_examples=80)
@given(frames=conversations, masked=st.booleans())
def test_we_understand_the_frames_of_an_independent_peer(frames, masked):
    peer = IndependentPeer(CLIENT if masked else SERVER)
    say = {TEXT: peer.send_text, BINARY: peer.send_binary, CONT: peer.send_continuation}
    for opcode, fin, payload in frames:
        if opcode == PING:
            peer.send_ping(payload)
        elif opcode == PONG:
            peer.send_pong(payload)
        else:
            say[opcode](payload, fin)
    peer.send_close(4102, "no pong")
    reader = reader_of(masked=masked)
    received = [item for data in peer.data_to_send() for item in reader.feed(data)]
    assert received == [*meaning(frames), CloseReason(4102, "no pong")]


@both_roles
@pytest.mark.parametrize("size", SIZES)
def test_we_and_an_independent_peer_agree_on_sizes(masked, size):
    written = Frame(Opcode.BINARY, bytes(size)).serialize(mask=masked)
    assert reader_of(masked=masked).feed(written) == [bytes(size)]
    peer = IndependentPeer(SERVER if masked else CLIENT)
    peer.receive_data(message_frame(bytes(size), mask=masked))
    assert [bytes(event.data) for event in peer.events_received()] == [bytes(size)]
