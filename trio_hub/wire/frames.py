"""RFC 6455 frames in and out, for either role, with every limit enforced here.

How reading works. A read from the network holds many frames, or part of one. `FrameReader.feed` takes it whole and
returns every message that is complete by then; a loop without calls cuts frames that are whole messages, and everything
rare (fragments, control frames, what is deflated or very large, faults) leaves that loop for a method. What is left of
an unfinished frame waits until enough bytes are there for it, so it is looked at again only once, however small the
reads.

A read of 64 KiB may inflate to a thousand times as much. So `feed` stops when it has inflated as much as one message
may have, and `has_more` says that there is more to be had of the same read.

A frame is refused as soon as its header is known, so a peer that declares 4 GB costs us its header. A fault is
raised only after the messages before it have been returned: what was said properly counts.

On the first byte of a frame: 0x80 FIN, 0x70 reserved bits, 0x0F opcode. On the second: 0x80 masked, 0x7F the size,
126 and 127 announcing 2 and 8 further bytes of it (section 5.2).
"""

from __future__ import annotations

import codecs
import secrets
import struct
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.wire.deflate import Deflater, Inflater
from trio_hub.wire.masking import apply_mask

__all__ = [
    "BINARY",
    "DEFLATED",
    "PING",
    "PONG",
    "TEXT",
    "FrameReader",
    "Ping",
    "Pong",
    "Received",
    "close_frame",
    "frame",
    "frame_head",
    "message_frame",
    "message_frames",
]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
DEFLATED: Final = 0x40
"""The reserved bit RSV1: the first frame of a compressed message has it (RFC 7692 section 6)."""

_WHOLE_TEXT: Final = 0x80 | TEXT
_WHOLE_BINARY: Final = 0x80 | BINARY
_LARGEST_CONTROL: Final = 125
_Unpack = Callable[[bytes, int], tuple[bytes, bytes]]
_LONGEST_REASON: Final = _LARGEST_CONTROL - 2
_REGISTERED_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Close codes below 3000 that may stand in a frame (IANA's registry)."""

_unpack_16 = struct.Struct(">H").unpack_from
_unpack_64 = struct.Struct(">Q").unpack_from


@attrs.frozen
class Ping:
    """Are you there? To be answered with a `Pong` of the same payload."""

    payload: bytes = b""


@attrs.frozen
class Pong:
    """The answer to a `Ping`, or a sign of life unasked."""

    payload: bytes = b""


Received = str | bytes | Ping | Pong | CloseReason
"""What a peer can say in frames: text, binary, ping, pong, close."""


def _small_frames(masked: bool) -> list[_Unpack | None]:
    """Return, for each second byte of a frame of up to 125 bytes, what takes the key and the payload out of it."""
    small: list[_Unpack | None] = [None] * 256
    for size in range(126):
        small[size | 0x80 if masked else size] = struct.Struct(f"2x{4 if masked else 0}s{size}s").unpack_from
    return small


_SMALL_MASKED: Final = _small_frames(True)
_SMALL_PLAIN: Final = _small_frames(False)
_SMALL_HEADS: Final = {first: [bytes((first, size)) for size in range(126)] for first in (_WHOLE_TEXT, _WHOLE_BINARY)}


# -- out ---------------------------------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes, *, mask: bool = False, fin: bool = True) -> bytes:
    """Return one frame. Clients mask (with a key nobody can guess, section 5.3), servers must not."""
    first = opcode | 0x80 if fin else opcode
    size = len(payload)
    if not mask:
        return frame_head(first, size) + payload
    key = secrets.token_bytes(4)
    head = frame_head(first, size)
    return b"".join((head[:1], bytes((head[1] | 0x80,)), head[2:], key, apply_mask(payload, key)))


def frame_head(first: int, size: int) -> bytes:
    """Return the header of an unmasked frame of `size` bytes whose first byte is `first`."""
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack(">BBH", first, 126, size)
    return struct.pack(">BBQ", first, 127, size)


def message_frame(message: str | bytes, *, mask: bool = False, deflater: Deflater | None = None) -> bytes:
    """Return a whole message in one frame: text for `str`, binary for `bytes`; deflated where that makes it smaller.

    Raises `Misuse` for text with lone surrogates.
    """
    opcode = BINARY
    if not isinstance(message, bytes):
        opcode, message = TEXT, _utf8(message)
    if deflater is not None and len(message) >= deflater.options.above:
        deflated = deflater.deflate(message)
        if len(deflated) < len(message):
            return frame(DEFLATED | opcode, deflated, mask=mask)
    return frame(opcode, message, mask=mask)


def message_frames(messages: Iterable[str | bytes], *, mask: bool = False, deflater: Deflater | None = None) -> bytes:
    """Return whole messages, each in one frame, as `message_frame` makes them; plain ones of a server in one loop."""
    if mask or deflater is not None:
        return b"".join([message_frame(message, mask=mask, deflater=deflater) for message in messages])
    parts = []
    for message in messages:
        first, payload = (_WHOLE_BINARY, message) if isinstance(message, bytes) else (_WHOLE_TEXT, _utf8(message))
        size = len(payload)
        parts.append(_SMALL_HEADS[first][size] if size < 126 else frame_head(first, size))
        parts.append(payload)
    return b"".join(parts)


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise Misuse(f"a message is str or bytes, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Misuse(f"the text cannot be sent as UTF-8: {error.reason}") from error


def close_frame(close: CloseReason, *, mask: bool = False) -> bytes:
    """Return a close frame. A reason beyond 123 bytes is cut at a character's end.

    Raises `Misuse` for a code that may not be sent.
    """
    if close.code in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):  # codes that are never sent (section 7.4.1)
        return frame(CLOSE, b"", mask=mask)
    if not _may_be_sent(close.code):
        raise Misuse(f"close code {close.code} may not be sent")
    reason = close.reason.encode(errors="replace")[:_LONGEST_REASON].decode(errors="ignore")
    return frame(CLOSE, struct.pack(">H", close.code) + reason.encode(), mask=mask)


# -- in ----------------------------------------------------------------------------------------------------------


class _Unfinished:
    """A message under way, in fragments or deflated. Its `size` is that of its frames; `inflated` is what became of it.

    What is deflated is inflated as it comes, and text is decoded, so that a fault is found at once.
    """

    __slots__ = ("_decode", "_inflater", "_parts", "count", "inflated", "size")

    def __init__(self, opcode: int, inflater: Inflater | None) -> None:
        self._inflater = inflater
        self._decode = codecs.getincrementaldecoder("utf-8")().decode if opcode == TEXT else None
        self._parts: list[str] | list[bytes] = []
        self.count = 0
        self.size = 0
        self.inflated = 0

    def add(self, payload: bytes, *, last: bool) -> None:
        self.count += 1
        self.size += len(payload)
        if self._inflater is not None:
            payload = self._inflater.inflate(payload, last=last)
            self.inflated += len(payload)
        self._parts.append(self._decode(payload, last) if self._decode else payload)  # type: ignore[arg-type]

    def whole(self) -> str | bytes:
        return ("" if self._decode else b"").join(self._parts)  # type: ignore[arg-type]


class FrameReader:
    """Cuts what a peer sends into messages.

    `masked` says whether the peer must mask: True for a server's reader, False for a client's. `inflater` is for what
    was deflated, where the ends have agreed on that. `had_control_frames` says whether the last `feed` returned
    anything but messages.
    """

    __slots__ = (
        "_ended",
        "_fault",
        "_halted",
        "_inflated",
        "_inflater",
        "_masked",
        "_max_fragments",
        "_max_message",
        "_unfinished",
        "_waiting",
        "_wanted",
        "had_control_frames",
    )

    def __init__(self, *, masked: bool, max_message: int, max_fragments: int, inflater: Inflater | None = None) -> None:
        self._masked = masked
        self._inflater = inflater
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._waiting = bytearray()  # a frame that is not all there
        self._wanted = 2  # bytes needed before it is worth looking again
        self._unfinished: _Unfinished | None = None
        self._fault: PeerFault | None = None
        self._ended = False
        self._inflated = 0  # bytes of messages, by this `feed`
        self._halted = False  # cuts no further frames: for now, or since it has ended
        self.had_control_frames = False

    @property
    def midway(self) -> bool:
        """Whether a message has begun and not ended."""
        return not self._halted and (bool(self._waiting) or self._unfinished is not None)

    @property
    def has_more(self) -> bool:
        """Whether ``feed(b"")`` is due, for more of what was fed already."""
        return self._halted and bool(self._waiting)

    @property
    def fault(self) -> PeerFault | None:
        """What the peer did wrong; nothing is read after it."""
        return self._fault

    def feed(self, data: bytes) -> list[Received]:
        """Return everything that is complete with these bytes, in order; where that inflates to too much, a part of it.

        When a fault is met, what came before it is returned, `fault` is set, and every later call raises it. After
        a close frame whatever follows is ignored (section 5.5.1).
        """
        if self._fault is not None:
            raise self._fault
        self._halted, self._inflated, self.had_control_frames = self._ended, 0, False
        if self._waiting:
            if len(self._waiting) + len(data) < self._wanted:
                self._waiting += data
                return []
            data = b"".join((self._waiting, data))
            self._waiting.clear()
        received: list[Received] = []
        try:
            at = self._cut(data, received)
        except PeerFault as fault:
            self._fault, self._unfinished = fault, None
            if not received:
                raise
            return received
        self._waiting += data[at:]
        return received

    def _cut(self, data: bytes, received: list[Received]) -> int:
        """Append every whole frame's message to `received`; return where the first unfinished frame begins."""
        at, begun = 0, -1
        while at != begun and not self._halted:
            if self._unfinished is None:
                at = self._cut_whole_messages(data, at, received)
            begun = at
            at = self._cut_one(data, at, received)
        if self._halted:  # what is left was not looked at
            self._wanted = 2
        return len(data) if self._ended else at

    def _cut_whole_messages(self, data: bytes, at: int, received: list[Received]) -> int:
        """Append messages of one frame each, from `at` on; return where something else begins, or something unfinished.

        For text and binary below 64 KiB, plain and masked as it should be, with nothing under way: nearly every frame
        there is. One loop without calls of ours; it judges nothing, and leaves whatever it does not know to `_cut_one`.
        Up to 125 bytes, the second byte of a frame says everything, so it looks up the form that takes it apart.
        """
        masked, largest, append = self._masked, self._max_message, received.append
        small, head = (_SMALL_MASKED, 8) if masked else (_SMALL_PLAIN, 4)
        end = len(data) if largest > 125 else 0
        try:
            while at < end:
                first = data[at]
                if first != _WHOLE_TEXT and first != _WHOLE_BINARY:
                    break
                unpack = small[data[at + 1]]
                if unpack is not None:
                    key, payload = unpack(data, at)
                    stop = at + head - 2 + len(payload)
                else:
                    begin = at + head
                    size = data[at + 2] << 8 | data[at + 3]
                    stop = begin + size
                    if data[at + 1] != (0xFE if masked else 0x7E) or size < 126 or size > largest or stop > end:
                        break
                    key, payload = data[begin - 4 : begin], data[begin:stop]
                if masked:
                    payload = apply_mask(payload, key)
                append(payload.decode() if first == _WHOLE_TEXT else payload)
                at = stop
        except UnicodeDecodeError as error:
            raise _not_utf8(error) from error
        except (struct.error, IndexError):
            pass  # the frame at `at` is not all there
        return at

    def _cut_one(self, data: bytes, at: int, received: list[Received]) -> int:
        """Take the frame at `at`, whatever it is; return where the next one begins, or `at` where it is unfinished."""
        masked, end = self._masked, len(data)
        if end - at < 2:
            self._wanted = 2
            return at
        first, second = data[at], data[at + 1]
        size, start = second & 0x7F, at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            if start > end:
                self._wanted = start - at
                return at
            size = _long_size(data, at)
        if (second > 127) is not masked:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "frame is not masked" if masked else "frame is masked")
        self._check(first, size)
        begin = start + 4 if masked else start
        stop = begin + size
        if stop > end:
            self._wanted = stop - at
            return at
        payload = apply_mask(data[begin:stop], data[start:begin]) if masked else data[begin:stop]
        if self._unfinished is None and first in (_WHOLE_TEXT, _WHOLE_BINARY):
            received.append(_text(payload) if first == _WHOLE_TEXT else payload)
        else:
            self._take(first, payload, received)
        return stop

    def _check(self, first: int, size: int) -> None:
        """Refuse a frame that may not come, or not now, by its header alone (sections 5.2, 5.4, 5.5)."""
        opcode, unfinished = first & 0x0F, self._unfinished
        if first & 0x70 and not (first & 0x70 == DEFLATED and self._inflater and opcode in (TEXT, BINARY)):
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "reserved bits are set that no agreed extension has there")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, f"opcode {opcode} is not known")
        if opcode >= CLOSE:
            if first < 0x80:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, "control frame is fragmented")
            if size > _LARGEST_CONTROL:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, f"control frame of {size} bytes")
            return
        if opcode == CONTINUATION and unfinished is None:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "continuation of nothing")
        if opcode != CONTINUATION and unfinished is not None:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "new message within a fragmented one")
        if size + (unfinished.size if unfinished else 0) > self._max_message:
            raise PeerFault(CloseCode.TOO_BIG, f"message is larger than {self._max_message} bytes")
        if unfinished and unfinished.count >= self._max_fragments:
            raise PeerFault(CloseCode.POLICY, f"message has more than {self._max_fragments} fragments")

    def _take(self, first: int, payload: bytes, received: list[Received]) -> None:
        """Take a control frame, or one fragment; the last fragment, which may be the first, completes its message."""
        opcode = first & 0x0F
        self.had_control_frames |= opcode >= CLOSE
        if opcode == PING:
            received.append(Ping(payload))
        elif opcode == PONG:
            received.append(Pong(payload))
        elif opcode == CLOSE:
            received.append(_close_reason(payload))
            self._ended = self._halted = True
        else:
            inflater = self._inflater if first & DEFLATED else None
            message = self._unfinished = self._unfinished or _Unfinished(opcode, inflater)
            last = first > 127
            try:
                message.add(payload, last=last)
            except UnicodeDecodeError as error:
                raise _not_utf8(error) from error
            if last:
                received.append(message.whole())
                self._unfinished = None
                self._inflated += message.inflated
                self._halted = self._inflated >= self._max_message


def _long_size(data: bytes, at: int) -> int:
    """Return the size of the frame at `at`, which takes 2 or 8 bytes. The shortest form is the only legal one."""
    short = data[at + 1] & 0x7F == 126
    size: int = _unpack_16(data, at + 2)[0] if short else _unpack_64(data, at + 2)[0]
    if size < (126 if short else 65536) or size >> 63:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, f"a size of {size} is not written in its shortest form")
    return size


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from error


def _not_utf8(error: UnicodeDecodeError) -> PeerFault:
    return PeerFault(CloseCode.INVALID_DATA, f"text is not UTF-8: {error.reason}")


def _may_be_sent(code: int) -> bool:
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


def _close_reason(payload: bytes) -> CloseReason:
    """Return what a close frame says (sections 5.5.1, 7.4)."""
    if not payload:
        return CloseReason(CloseCode.NO_STATUS)
    if len(payload) == 1:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, "close frame with half a code")
    code: int = _unpack_16(payload)[0]
    if not _may_be_sent(code):
        raise PeerFault(CloseCode.PROTOCOL_ERROR, f"close code {code} may not be sent")
    return CloseReason(code, _text(payload[2:]))
