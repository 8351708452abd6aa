"""RFC 6455 frames: the words, how they are written, and the rules for one frame alone. `reading` cuts what comes.

On the first byte of a frame: 0x80 FIN, 0x70 reserved bits, 0x0F opcode. On the second: 0x80 masked, 0x7F the size,
126 and 127 announcing 2 and 8 further bytes of it (section 5.2).
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable
from typing import Final

import attrs

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.wire.deflate import Deflater
from trio_hub.wire.masking import apply_mask

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "DEFLATED",
    "LARGEST_CONTROL",
    "PING",
    "PONG",
    "TEXT",
    "WHOLE_BINARY",
    "WHOLE_TEXT",
    "Ping",
    "Pong",
    "Received",
    "check_control",
    "close_frame",
    "close_payload",
    "control",
    "frame",
    "frame_head",
    "long_size",
    "masked_frame",
    "message_frame",
    "message_frames",
    "not_utf8",
    "text",
    "utf8",
]

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
DEFLATED: Final = 0x40
"""The reserved bit RSV1: the first frame of a compressed message has it (RFC 7692 section 6)."""

WHOLE_TEXT: Final = 0x80 | TEXT
WHOLE_BINARY: Final = 0x80 | BINARY
LARGEST_CONTROL: Final = 125
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


_SMALL_HEADS: Final = {first: [bytes((first, size)) for size in range(126)] for first in (WHOLE_TEXT, WHOLE_BINARY)}


# -- out ---------------------------------------------------------------------------------------------------------


def frame(opcode: int, payload: bytes, *, mask: bool = False, fin: bool = True) -> bytes:
    """Return one frame. Clients mask (with a key nobody can guess, section 5.3), servers must not."""
    first = opcode | 0x80 if fin else opcode
    size = len(payload)
    if not mask:
        return frame_head(first, size) + payload
    key = secrets.token_bytes(4)
    return masked_frame(frame_head(first, size), key, apply_mask(payload, key))


def masked_frame(head: bytes, key: bytes, payload: bytes) -> bytes:
    """Return a frame with an unmasked one's header, of a payload that is masked already, by a mask with this key."""
    return b"".join((head[:1], bytes((head[1] | 0x80,)), head[2:], key, payload))


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
        opcode, message = TEXT, utf8(message)
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
        first, payload = (WHOLE_BINARY, message) if isinstance(message, bytes) else (WHOLE_TEXT, utf8(message))
        size = len(payload)
        parts.append(_SMALL_HEADS[first][size] if size < 126 else frame_head(first, size))
        parts.append(payload)
    return b"".join(parts)


def utf8(text: str) -> bytes:
    """Return text as bytes. Raises `Misuse` for what is no text, and for lone surrogates."""
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
    return frame(CLOSE, close_payload(close, LARGEST_CONTROL), mask=mask)


def close_payload(close: CloseReason, most: int) -> bytes:
    """Return what a close frame says, in at most so many bytes. Raises `Misuse` for a code that may not be sent."""
    if close.code in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):  # codes that are never sent (section 7.4.1)
        return b""
    if not _may_be_sent(close.code):
        raise Misuse(f"close code {close.code} may not be sent")
    reason = close.reason.encode(errors="replace")[: most - 2].decode(errors="ignore")
    return struct.pack(">H", close.code) + reason.encode()


# -- the rules for one frame ----------------------------------------------------------------------------------------


def long_size(data: bytes, at: int) -> int:
    """Return the size of the frame at `at`, which takes 2 or 8 bytes. The shortest form is the only legal one."""
    short = data[at + 1] & 0x7F == 126
    size: int = _unpack_16(data, at + 2)[0] if short else _unpack_64(data, at + 2)[0]
    if size < (126 if short else 65536) or size >> 63:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, f"a size of {size} is not written in its shortest form")
    return size


def text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(error) from error


def not_utf8(error: UnicodeDecodeError) -> PeerFault:
    return PeerFault(CloseCode.INVALID_DATA, f"text is not UTF-8: {error.reason}")


def _may_be_sent(code: int) -> bool:
    return code in _REGISTERED_CODES or 3000 <= code <= 4999


def check_control(first: int, size: int) -> None:
    """Refuse a control frame that is in fragments, or too large, by its header alone (section 5.5)."""
    if first < 0x80:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, "control frame is fragmented")
    if size > LARGEST_CONTROL:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, f"control frame of {size} bytes")


def control(opcode: int, payload: bytes) -> Ping | Pong | CloseReason:
    """Return what a control frame says."""
    if opcode == PING:
        return Ping(payload)
    return Pong(payload) if opcode == PONG else _close_reason(payload)


def _close_reason(payload: bytes) -> CloseReason:
    """Return what a close frame says (sections 5.5.1, 7.4)."""
    if not payload:
        return CloseReason(CloseCode.NO_STATUS)
    if len(payload) == 1:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, "close frame with half a code")
    code: int = _unpack_16(payload)[0]
    if not _may_be_sent(code):
        raise PeerFault(CloseCode.PROTOCOL_ERROR, f"close code {code} may not be sent")
    return CloseReason(code, text(payload[2:]))
