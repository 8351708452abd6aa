"""What strangers may say, decoded from any bytes at all. Each target takes an input and fails where a promise breaks.

An input's first bytes say how to read the rest (`Input`), so that every choice is in the fuzzer's hands. The limits
are small, so that inputs of some hundred bytes get beyond them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import attrs
import h11
import msgspec
import trio

from trio_hub.dialect import STANDARD, Dialect
from trio_hub.errors import LinkLost, Misuse, PeerFault
from trio_hub.link.heads import HTTPFault, RequestHead, check_upgrade, read_head, write_response
from trio_hub.messages import CloseReason, Event, MalformedRequest, Request
from trio_hub.options import OpeningOptions
from trio_hub.wire.bodies import Body
from trio_hub.wire.codecs import COMPAT, V1_JSON, Codec
from trio_hub.wire.deflate import Inflater
from trio_hub.wire.frames import (
    BINARY,
    DEFLATED,
    PING,
    PONG,
    TEXT,
    Ping,
    Pong,
    Received,
    close_frame,
    frame,
    message_frame,
)
from trio_hub.wire.inbound import Arriving
from trio_hub.wire.pieces import PieceReader, WholeReader
from trio_hub.wire.reading import FrameReader
from trio_hub.wire.streams import Multiplexer

__all__ = ["TARGETS"]

T = TypeVar("T")

CONTINUATION: Final = 0x0
LARGEST_CONTROL: Final = 125
LARGEST_HEAD: Final = 14  # of a frame: two bytes, eight of size, four of mask
MAX_MESSAGE: Final = 300
MAX_FRAGMENTS: Final = 5
OPENING: Final = OpeningOptions(head_size=512, head_count=8)


class Input:
    """Choices taken from an input's beginning. Where it has ended, they are 0 and empty."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size))

    def sizes(self) -> list[int]:
        """The sizes of some reads."""
        return [size + 1 for size in self.take(self.number() % 16)]


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Return `data` in pieces of these sizes, and a last one with the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in (*pieces, data[at:]) if piece]


def check_tellable(fault: PeerFault) -> None:
    """Fail where a peer could not be told what it did wrong."""
    (told,) = FrameReader(masked=False, max_message=LARGEST_CONTROL, max_fragments=1).feed(
        close_frame(CloseReason(fault.code, fault.reason))
    )
    assert isinstance(told, CloseReason)
    assert told.code == fault.code


# -- frames ------------------------------------------------------------------------------------------------------


def frames_read(data: bytes) -> None:
    """What is understood, and what is found wrong, does not depend on where reads end; and memory is bounded."""
    given = Input(data)
    choice, sizes = given.number(), given.sizes()
    masked, goes_on = bool(choice & 1), bool(choice & 2)
    stream = given.rest + bytes(2 * MAX_MESSAGE if goes_on else 0)  # what a header announces may come, too
    whole = _understood([stream], masked=masked)
    assert _understood(cut(stream, sizes), masked=masked) == whole
    assert _understood([bytes((byte,)) for byte in stream], masked=masked) == whole
    for item in whole[0]:
        assert _size(item) <= (MAX_MESSAGE if isinstance(item, str | bytes) else LARGEST_CONTROL)


def deflated_read(data: bytes) -> None:
    """The same of messages that are said to be deflated, in fragments, with context taken over or not."""
    given = Input(data)
    choice, sizes = given.number(), given.sizes()
    inflater = partial(Inflater, 15, MAX_MESSAGE, keeps_context=bool(choice & 1))
    opcode = DEFLATED | (TEXT if choice & 2 else BINARY)
    stream = b""
    while given.rest:
        fragments = given.sizes()[: MAX_FRAGMENTS - 1]
        stream += _fragments(opcode, cut(given.take(given.number()), fragments), mask=False)
    whole = _understood([stream], masked=False, inflater=inflater())
    assert _understood(cut(stream, sizes), masked=False, inflater=inflater()) == whole
    assert all(_size(item) <= MAX_MESSAGE for item in whole[0])


def _understood(
    pieces: Iterable[bytes], *, masked: bool, inflater: Inflater | None = None
) -> tuple[list[Received], str]:
    """Return what a reader makes of these reads, and its fault."""
    reader = FrameReader(masked=masked, max_message=MAX_MESSAGE, max_fragments=MAX_FRAGMENTS, inflater=inflater)
    received: list[Received] = []
    with suppress(PeerFault):
        for piece in pieces:
            received += reader.feed(piece)
            while reader.has_more:
                received += reader.feed(b"")
            _check_memory(reader)
    if reader.fault is not None:
        check_tellable(reader.fault)
    return received, str(reader.fault)


def pieces_read(data: bytes) -> None:
    """The same piece by piece, in the standard, or with streams and opcodes of webson; deflated or not."""
    given = Input(data)
    choice, sizes = given.number(), given.sizes()
    dialect = Dialect.webson(streams=3) if choice & 1 else STANDARD
    deflated, masked = bool(choice & 2), bool(choice & 4)
    stream = given.rest
    whole = _joined([stream], dialect, deflated=deflated, masked=masked)
    assert _joined(cut(stream, sizes), dialect, deflated=deflated, masked=masked) == whole


def _joined(pieces: Iterable[bytes], dialect: Dialect, *, deflated: bool, masked: bool) -> tuple[list[Received], str]:
    inflater = partial(Inflater, 15, MAX_MESSAGE, keeps_context=False) if deflated else None
    reader = PieceReader(
        dialect,
        client=not masked,
        max_frame=MAX_MESSAGE,
        max_inflated=MAX_MESSAGE,
        inflater=inflater,
        streams=dialect.is_webson,
    )
    whole = WholeReader(reader, max_message=MAX_MESSAGE)
    received: list[Received] = []
    with suppress(PeerFault):
        for piece in pieces:
            received += whole.feed(piece)
            while whole.has_more:
                received += whole.feed(b"")
            assert len(reader._waiting) <= MAX_MESSAGE + LARGEST_HEAD
            assert len(reader._messages) <= dialect.streams + 1
    if whole.fault is not None:
        check_tellable(whole.fault)
    return received, str(whole.fault)


def streams_heard(data: bytes) -> None:
    """Whatever a peer says of many messages: it is a fault, or what waits stays within the limits."""
    given = Input(data)
    window, messages = given.number() % 64 + 1, given.number() % 8 + 1
    ours = Multiplexer(window=window, messages=messages, chunk=16)
    begun: list[Arriving] = []
    try:
        while given.rest:
            order = given.number()
            if order & 3 and begun:
                which = begun[(order >> 2) % len(begun)]
                if order & 1:
                    ours.inbound.take(which)
                else:
                    ours.inbound.stop(which, order, "enough")
            arriving = ours.hear(given.take(given.number() % 32))
            if arriving is not None:
                begun.append(arriving)
            waiting = [len(each._data) for each in begun]
            assert all(size <= window for size in waiting)
            assert sum(size > 0 for size in waiting) <= messages
            assert len(ours.inbound.live) <= messages
            if order & 16:
                ours.draw(1000)
    except PeerFault as fault:
        check_tellable(fault)


def _check_memory(reader: FrameReader) -> None:
    """Fail where a reader keeps more than its limits, which it does not show from without."""
    unfinished = reader._unfinished
    assert len(reader._waiting) <= MAX_MESSAGE + LARGEST_HEAD
    assert unfinished is None or (unfinished.size <= MAX_MESSAGE and unfinished.count <= MAX_FRAGMENTS)


def _size(item: Received) -> int:
    match item:
        case str():
            return len(item.encode())
        case bytes():
            return len(item)
        case CloseReason():
            return len(item.reason.encode()) + 2
        case _:
            return len(item.payload)


def frames_written(data: bytes) -> None:
    """What is written is read back equal, masked or not."""
    given = Input(data)
    mask = bool(given.number() & 1)
    said: list[Received] = []
    written = b""
    while given.rest and not (said and isinstance(said[-1], CloseReason)):
        with suppress(Misuse):
            framed, item = _say(given, mask=mask)
            written += framed
            said.append(item)
    reader = FrameReader(masked=mask, max_message=1 << 20, max_fragments=MAX_FRAGMENTS)
    assert reader.feed(written) == said
    assert reader.fault is None
    assert not reader.midway


def _say(given: Input, *, mask: bool) -> tuple[bytes, Received]:
    """Return the frames of something, and how it should be understood."""
    kind, payload = given.number() % 6, given.take(given.number())
    match kind:
        case 0 | 1:
            message = (payload if kind == 0 else _any_text(payload)) * (1 << given.number() % 10)
            return message_frame(message, mask=mask), message
        case 2:
            return frame(PING, payload[:LARGEST_CONTROL], mask=mask), Ping(payload[:LARGEST_CONTROL])
        case 3:
            return frame(PONG, payload[:LARGEST_CONTROL], mask=mask), Pong(payload[:LARGEST_CONTROL])
        case 4:
            return _in_fragments(payload, given, mask=mask)
    close = CloseReason(given.number(2), _any_text(payload))
    return close_frame(close, mask=mask), _as_it_arrives(close)


def _any_text(payload: bytes) -> str:
    """Return a text that may hold anything a `str` can hold, lone surrogates too."""
    return payload[: len(payload) // 2 * 2].decode("utf-16-le", "surrogatepass")


def _in_fragments(payload: bytes, given: Input, *, mask: bool) -> tuple[bytes, Received]:
    """Return a message in up to `MAX_FRAGMENTS` frames: as text where it is text."""
    message: str | bytes = payload
    with suppress(UnicodeDecodeError):
        message = payload.decode()
    parts = cut(payload, given.sizes()[: MAX_FRAGMENTS - 1])
    return _fragments(TEXT if isinstance(message, str) else BINARY, parts, mask=mask), message


def _fragments(opcode: int, parts: list[bytes], *, mask: bool) -> bytes:
    """Return the frames of a message that has these parts."""
    parts = parts or [b""]
    opcodes = [opcode, *[CONTINUATION] * len(parts)]
    frames = [
        frame(opcode, part, mask=mask, fin=place == len(parts))
        for place, (opcode, part) in enumerate(zip(opcodes, parts, strict=False), start=1)
    ]
    return b"".join(frames)


def _as_it_arrives(close: CloseReason) -> CloseReason:
    """Return what a peer hears of `close`: no code that may not be sent, and the reason as far as there is room."""
    if close.code in (1005, 1006):
        return CloseReason(1005)
    reason = close.reason.encode(errors="replace").decode()
    while len(reason.encode()) > LARGEST_CONTROL - 2:
        reason = reason[:-1]
    return CloseReason(close.code, reason)


# -- codecs ------------------------------------------------------------------------------------------------------


def messages_from_client(data: bytes) -> None:
    """What a client says is understood or refused; what was understood can be said again."""
    codec, message = _spelling(data)
    for item in _understood_by(codec.from_client, message):
        if not isinstance(item, MalformedRequest):
            _check_said_again(item, codec, codec.from_client)


def messages_from_server(data: bytes) -> None:
    """What a server says is understood or refused; what was understood can be said again."""
    codec, message = _spelling(data)
    for item in _understood_by(codec.from_server, message):
        if isinstance(item, Event):
            _check_event(item)
        else:
            _check_said_again(item, codec, codec.from_server)


def _spelling(data: bytes) -> tuple[Codec, str | bytes]:
    given = Input(data)
    choice = given.number()
    codec = V1_JSON if choice & 1 else COMPAT
    return codec, given.rest if choice & 2 else given.rest.decode(errors="replace")


def _understood_by(understand: Callable[[str | bytes], list[T]], message: str | bytes) -> list[T]:
    try:
        return understand(message)
    except PeerFault as fault:
        check_tellable(fault)
        return []


def _check_said_again(item: Any, codec: Codec, understand: Callable[[str | bytes], list[Any]]) -> None:
    (heard,) = understand(codec.encode(item))
    if isinstance(item, Request) and item.deadline is not None:
        assert abs(heard.deadline - item.deadline) < max(0.00051, item.deadline * 1e-12)  # written in milliseconds
        item = msgspec.structs.replace(item, deadline=heard.deadline)
    assert heard == item


def _check_event(event: Event) -> None:
    body, number = Body(event), event.number or 0
    reader = FrameReader(masked=False, max_message=1 << 20, max_fragments=1)
    compat, v1 = reader.feed(body.compat_frame(number) + body.v1_frame())
    assert isinstance(compat, str)
    assert isinstance(v1, str)
    assert COMPAT.from_server(compat) == [attrs.evolve(event, number=number)]
    assert V1_JSON.from_server(v1) == [attrs.evolve(event, number=None)]


# -- heads -------------------------------------------------------------------------------------------------------


def heads(data: bytes) -> None:
    """A request head is taken or refused, wherever reads end; nothing behind it is lost; refusals can be written."""
    given = Input(data)
    sizes, stream = given.sizes(), given.rest
    whole = _head_of([stream])
    assert _head_of(cut(stream, sizes)) == whole
    if whole is not None:
        assert whole.raw + whole.rest == stream
        assert re.split(rb"\n\r?\n", stream, maxsplit=1)[1] == whole.rest  # nobody may see its end elsewhere
        _check_as_h11_reads_it(whole)
        _ask_everything(whole)


def _check_as_h11_reads_it(head: RequestHead) -> None:
    """What is taken for a head is the same request to h11, unless that refuses it."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=OPENING.head_size)
    parser.receive_data(head.raw)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError:
        return
    assert isinstance(request, h11.Request)
    assert (request.method.decode(), request.target.decode()) == (head.method, head.target)
    assert request.http_version.decode() == head.version
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        values.setdefault(name.decode(), []).append(value.decode())
    ours = dict(head.headers)
    if "transfer-encoding" in ours:
        ours["transfer-encoding"] = ours["transfer-encoding"].lower()  # as h11 has it
    assert {name: ", ".join(each) for name, each in values.items()} == ours


def _head_of(pieces: Iterable[bytes]) -> RequestHead | None:
    """Return the head these reads begin with, None where it is refused; with all that came behind it."""
    stream = Reads(pieces)
    try:
        head = _result_of(read_head(stream, OPENING))
    except HTTPFault as fault:
        _write(fault)
        return None
    except LinkLost:
        return None
    return attrs.evolve(head, rest=b"".join([head.rest, *stream.pieces]))


def _ask_everything(head: RequestHead) -> None:
    """Ask a head all that may be asked of it."""
    for question in ("path", "query", "wants_upgrade", "subprotocols", "bearer"):
        getattr(head, question)
    try:
        check_upgrade(head)
    except HTTPFault as fault:
        _write(fault)


def _write(fault: HTTPFault) -> None:
    write_response(h11.Connection(h11.SERVER), fault.status, fault.headers, fault.message.encode())


class Reads(trio.abc.Stream):
    """A stream that has these reads and never waits."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = list(pieces)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if max_bytes is not None and len(piece) > max_bytes:
            self.pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError

    async def aclose(self) -> None:
        raise AssertionError


def _result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, without a loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waited")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target
    for target in (
        frames_read,
        frames_written,
        deflated_read,
        pieces_read,
        streams_heard,
        messages_from_client,
        messages_from_server,
        heads,
    )
}
"""Every target by its name, which is that of its corpus too."""
