"""What a peer sends, piece by piece: for messages too large to hold, and for every private dialect.

`PieceReader` cuts what comes into parts of frames. Of a frame whatever has come is passed on at once, so what is held
is one read, however large frames and messages are; only what is sealed, and control frames, must be whole first. The
rules for fragments are in `_begin`: those of RFC 6455, or those of webson, where each fragment repeats the opcode and
may have the number of a stream before its payload.

A part of what is deflated may inflate to a thousand times as much. So parts are small then, and `feed` stops when as
much as one message may have was made of them; `has_more` says so.

`WholeReader` joins pieces, for those who want whole messages in a dialect.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from trio_hub.dialect import PRIVATE_CONTROL, Dialect
from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.wire.deflate import Inflater
from trio_hub.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATED,
    PING,
    PONG,
    TEXT,
    Ping,
    Pong,
    Received,
    check_control,
    control,
    long_size,
    not_utf8,
)
from trio_hub.wire.masking import apply_long_mask, apply_mask, private_key

if TYPE_CHECKING:
    from trio_hub.wire.sealing import Opener

__all__ = ["GIVEN_UP", "NUMBERED", "Parts", "Piece", "PieceReader", "WholeReader"]

NUMBERED: Final = 0x20
"""The reserved bit RSV2: webson's frames of streams have it."""
GIVEN_UP: Final = 0x8000
"""In the number of a stream, that the rest of its message will not come."""
_FIN: Final = 0x80
_STANDARD: Final = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_LARGEST_RATIO: Final = 1032  # of deflate
_STREAMS_OF_WEBSON: Final = 1024  # at once; it keeps to its own limit, whatever was agreed on
_SMALL_PARTS: Final = 1024


@attrs.frozen
class Piece:
    """A part of a message of this `kind`: the `first`, the `last`, both or neither; str for text, else bytes.

    `stream` is the number of its stream, 0 where there are none. `given_up` says that the rest will never come.
    """

    kind: int
    data: str | bytes
    first: bool
    last: bool
    stream: int = 0
    given_up: bool = False


Heard = Piece | Ping | Pong | CloseReason


class _Message:
    """A message under way."""

    __slots__ = ("begun", "decode", "inflater", "kind", "stream")

    def __init__(self, kind: int, stream: int) -> None:
        self.kind = kind
        self.stream = stream
        self.begun = False
        self.inflater: Inflater | None = None
        self.decode = codecs.getincrementaldecoder("utf-8")().decode if kind == TEXT else None

    def piece(self, payload: bytes, *, last: bool, given_up: bool = False) -> Piece:
        data: str | bytes = payload
        if self.decode is not None:
            try:
                data = self.decode(payload, last)
            except UnicodeDecodeError as error:
                raise not_utf8(error) from error
        first, self.begun = not self.begun, True
        return Piece(self.kind, data, first, last, self.stream, given_up)


_NOTHING: Final = _Message(0, 0)


class PieceReader:
    """Cuts what a peer sends into pieces of messages, as soon as they come.

    `client` says which end reads. `inflater` makes what inflates, where the ends have agreed on that; `opener` opens
    what is sealed. No frame that must be held may be larger than `max_frame`. `had_control_frames` says whether the
    last `feed` returned anything but pieces.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        client: bool,
        max_frame: int,
        max_inflated: int = 0,
        inflater: Callable[[], Inflater] | None = None,
        opener: Opener | None = None,
        streams: bool = False,
    ) -> None:
        self._dialect = dialect
        self._masked = not client or dialect.always_mask
        self._either = client and dialect.is_webson  # masked or not
        self._max_frame = max_frame
        self._make_inflater = inflater
        self._opener = opener
        self._streams = streams
        self._at_once = max(dialect.streams, _STREAMS_OF_WEBSON) if streams else 0
        self._max_inflated = max_inflated
        self._most = max(max_inflated // _LARGEST_RATIO, 1) if inflater is not None else 1 << 62
        self._awaits_proof = False
        self._waiting = bytearray()
        self._wanted = 0  # bytes of it without which no more can be cut
        self._first = -1  # of the frame under way
        self._left = 0
        self._key = b""
        self._at_start = False
        self._messages: dict[int, _Message] = {}
        self._current = _NOTHING
        self._early: list[Heard] = []
        self._inflated = 0
        self._ended = False
        self._halted = False
        self.fault: PeerFault | None = None
        self.had_control_frames = False

    @property
    def midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return not self._halted and (bool(self._waiting) or self._first >= 0 or bool(self._messages))

    @property
    def has_more(self) -> bool:
        """Whether ``feed(b"")`` is due, for more of what was fed already."""
        return bool(self._early) or (self._halted and bool(self._waiting))

    def feed(self, data: bytes | bytearray) -> list[Heard]:
        """Return everything that has come with these bytes, in order; where that inflates to too much, a part of it.

        When a fault is met, what came before it is returned, `fault` is set, and every later call raises it. After
        a close frame whatever follows is ignored (section 5.5.1).
        """
        heard, self._early = self._early, []
        if self.fault is not None:
            if heard:
                return heard
            raise self.fault
        if not heard:  # or it goes on where `hold` has stopped, and may inflate no more than both together may
            self._halted, self._inflated = self._ended, 0
        self.had_control_frames = any(not isinstance(each, Piece) for each in heard)
        self._waiting += data
        if len(self._waiting) < self._wanted:  # or a large frame would be copied with each read of it
            return heard
        self._wanted = 0
        try:
            at = self._cut(bytes(self._waiting), heard)
        except PeerFault as fault:
            self.fault = fault
            self._waiting.clear()
            self._messages.clear()
            if not heard:
                raise
            return heard
        del self._waiting[:at]
        return heard

    def hold(self, data: bytes) -> bool:
        """Take what came first on a sealed link, and say whether the proof of the key was in it.

        What it means is returned by the next `feed`, with what comes then. Whatever else comes before the proof is a
        fault, by its header.
        """
        self._awaits_proof = True
        self._early = self.feed(data)
        return bool(self._early)

    def _cut(self, data: bytes, heard: list[Heard]) -> int:
        """Append the meaning of whatever has come to `heard`; return where the first byte is that must wait."""
        at = 0
        while not self._halted:
            if self._first < 0:
                size = self._take_head(data, at)
                if size == 0:
                    return at
                at += size
            if len(data) - at < self._needed:
                self._wanted = self._needed
                return at
            part = data[at : at + self._part_size(len(data) - at)]
            at += len(part)
            self._take_part(part, heard)
        return len(data) if self._ended else at

    def _take_head(self, data: bytes, at: int) -> int:
        """Begin the frame at `at`; return the size of its header, 0 where that is not all there."""
        if len(data) - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        size, start = second & 0x7F, at + 2
        masked = second > 127
        if size > 125:
            start += 2 if size == 126 else 8
        stop = start + 4 if masked else start
        if len(data) < stop:
            return 0
        if size > 125:
            size = long_size(data, at)
        if masked is not self._masked and not self._either:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "frame is masked" if masked else "frame is not masked")
        self._check(first, size)
        self._first, self._left, self._at_start = first, size, True
        self._key = private_key(self._dialect.private_mask, data[start:stop]) if masked else b""
        return stop - at

    def _check(self, first: int, size: int) -> None:
        """Refuse a frame that may not come, by its header alone (sections 5.2, 5.5)."""
        opcode, reserved = first & 0x0F, first & 0x70
        if self._awaits_proof and not self._may_prove(first, size):
            raise PeerFault(CloseCode.POLICY, "the first frame does not prove the key")
        if opcode not in _STANDARD and opcode not in self._dialect.opcodes:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, f"opcode {opcode} is not known")
        agreed = 0
        if opcode < CLOSE:
            agreed = (DEFLATED if self._make_inflater is not None else 0) | (NUMBERED if self._streams else 0)
        if reserved & ~agreed:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "reserved bits are set that no agreed extension has there")
        if opcode >= CLOSE:
            check_control(first, size)
        elif (self._opener is not None or reserved & NUMBERED) and size > self._max_frame:
            raise PeerFault(CloseCode.TOO_BIG, f"frame is larger than {self._max_frame} bytes")

    def _may_prove(self, first: int, size: int) -> bool:
        """Whether this may be the proof, an empty pong, or comes after it."""
        return self._opener is None or self._opener.opened > 0 or (first, size) == (_FIN | PONG, self._opener.overhead)

    @property
    def _needed(self) -> int:
        """How much of the frame's payload must be there: what is opened, or has a number before it, is taken whole."""
        held = self._first & 0x0F >= CLOSE or self._first & NUMBERED or self._opener is not None
        return self._left if held else min(self._left, 1)

    def _part_size(self, come: int) -> int:
        """How much of it is taken now. What inflates is taken in parts that cannot become more than a message may."""
        inflates = self._first & DEFLATED or self._current.inflater is not None
        return min(self._left, come, max(self._most, self._needed) if inflates else self._left)

    def _take_part(self, part: bytes, heard: list[Heard]) -> None:
        first, at_start, key = self._first, self._at_start, self._key
        self._left -= len(part)
        self._at_start = False
        whole = self._left == 0
        if key:
            part = apply_mask(part, key) if len(key) == 4 else apply_long_mask(part, key)
            turn = len(part) % len(key) if not whole else 0
            self._key = key[turn:] + key[:turn]
        if self._opener is not None:
            part = self._opener.open(first, part)
        if whole:
            self._first = -1
        if first & 0x0F >= CLOSE:
            self._take_control(first & 0x0F, part, heard)
        else:
            self._take_data(first, part, heard, at_start=at_start, frame_ends=whole)

    def _take_control(self, opcode: int, payload: bytes, heard: list[Heard]) -> None:
        if opcode in PRIVATE_CONTROL:
            heard.append(Piece(opcode, payload, True, True))
            return
        heard.append(control(opcode, payload))
        self.had_control_frames = True
        self._ended = self._halted = opcode == CLOSE

    def _take_data(self, first: int, payload: bytes, heard: list[Heard], *, at_start: bool, frame_ends: bool) -> None:
        number = 0
        if at_start:
            if first & NUMBERED:
                number, payload = _number_of(payload)
            self._current = self._begin(first, number & ~GIVEN_UP)
        message, given_up = self._current, number > GIVEN_UP
        ends = frame_ends and first > 127
        if message.inflater is not None:
            payload = message.inflater.inflate(payload, last=ends)
            message.inflater.allow_more()
            self._inflated += len(payload)
            self._halted = self._inflated >= self._max_inflated
        if ends or given_up:
            del self._messages[message.stream]
            self._current = _NOTHING
        if payload or ends or given_up or not message.begun:
            heard.append(message.piece(payload, last=ends and not given_up, given_up=given_up))

    def _begin(self, first: int, stream: int) -> _Message:
        """Return the message whose fragment this is; a new one where it is the first (section 5.4, and webson's)."""
        opcode, webson = first & 0x0F, self._dialect.is_webson
        message = self._messages.get(stream)
        if message is None:
            if opcode == CONTINUATION:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, "continuation of nothing")
            if len(self._messages) > self._at_once:  # one that has no number may be beside them
                raise PeerFault(CloseCode.POLICY, f"more than {self._at_once} streams at once")
            message = self._messages[stream] = _Message(opcode, stream)
        elif not webson and opcode != CONTINUATION:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "new message within a fragmented one")
        elif not webson and first & DEFLATED:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "reserved bits are set that no agreed extension has there")
        if first & DEFLATED:  # webson deflates each fragment by itself
            assert self._make_inflater is not None
            message.inflater = self._make_inflater()
        return message


def _number_of(payload: bytes) -> tuple[int, bytes]:
    """Take the number of a stream from the beginning of a frame."""
    number = int.from_bytes(payload[:2])
    if len(payload) < 2 or number & ~GIVEN_UP == 0:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, "frame of a stream without its number")
    return number, payload[2:]


class Parts:
    """The parts of one message of this kind, which has `size` bytes, or characters of text, by now.

    Many small ones are joined on the way, or they would take many times what is in them.
    """

    __slots__ = ("_joined", "_nothing", "_parts", "size")

    def __init__(self, kind: int) -> None:
        self._nothing: Any = "" if kind == TEXT else b""
        self._joined: list[str | bytes] = []
        self._parts: list[str | bytes] = []
        self.size = 0

    def add(self, part: str | bytes) -> None:
        """Take the next part, if there is anything in it."""
        if not part:
            return
        self._parts.append(part)
        self.size += len(part)
        if len(self._parts) == _SMALL_PARTS:
            self._joined.append(self._nothing.join(self._parts))
            self._parts.clear()

    def joined(self) -> Any:
        """Return the message, `str` for text, else `bytes`."""
        return self._nothing.join(self._joined + self._parts)


class WholeReader:
    """Joins pieces to whole messages: `str` for text, `bytes` for every other kind.

    All that is under way may have `max_message` bytes together, however small the pieces. What was given up is left
    out.
    """

    def __init__(self, pieces: PieceReader, *, max_message: int) -> None:
        self.pieces = pieces
        self._max_message = max_message
        self._parts: dict[int, Parts] = {}
        self._size = 0
        self._fault: PeerFault | None = None

    @property
    def had_control_frames(self) -> bool:
        """Whether the last `feed` returned anything but messages."""
        return self.pieces.had_control_frames

    @property
    def midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return self.pieces.midway

    @property
    def is_within_message(self) -> bool:
        """Whether pieces of a message were taken, and not the last."""
        return bool(self._parts)

    @property
    def has_more(self) -> bool:
        """Whether ``feed(b"")`` is due, for more of what was fed already."""
        return self.pieces.has_more

    @property
    def fault(self) -> PeerFault | None:
        """What the peer did wrong; nothing is read after it."""
        return self._fault or self.pieces.fault

    def feed(self, data: bytes) -> list[Received]:
        """Return everything that is complete with these bytes, in order. Raises as `PieceReader.feed` does."""
        if self._fault is not None:
            raise self._fault
        received: list[Received] = []
        try:
            for heard in self.pieces.feed(data):
                self._take(heard, received)
        except PeerFault as fault:
            self._fault = fault
            self._parts.clear()
            if not received:
                raise
        return received

    def _take(self, heard: Heard, received: list[Received]) -> None:
        if not isinstance(heard, Piece):
            received.append(heard)
            return
        if self._size + len(heard.data) > self._max_message:
            raise PeerFault(CloseCode.TOO_BIG, f"message is larger than {self._max_message} bytes")
        if heard.first and heard.last:
            received.append(heard.data)
        else:
            self._join(heard, received)

    def _join(self, piece: Piece, received: list[Received]) -> None:
        parts = self._parts.get(piece.stream)
        if parts is None:
            parts = self._parts[piece.stream] = Parts(piece.kind)
        parts.add(piece.data)
        self._size += len(piece.data)
        if piece.last or piece.given_up:
            del self._parts[piece.stream]
            self._size -= parts.size
            if piece.last:
                received.append(parts.joined())
