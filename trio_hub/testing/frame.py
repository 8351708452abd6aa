"""Frames as a test says and hears them, the wrong ones included."""

from __future__ import annotations

import enum
import struct
from typing import Any

import attrs

from trio_hub.wire.bodies import encode
from trio_hub.wire.frames import frame
from trio_hub.wire.masking import apply_mask

__all__ = ["Frame", "Opcode", "cut_frame"]


class Opcode(enum.IntEnum):
    """What a frame is (RFC 6455 section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


def _by_name(opcode: int) -> int:
    return Opcode(opcode) if opcode in list(Opcode) else opcode


@attrs.frozen
class Frame:
    """One frame, right or wrong.

    `opcode` may be any of 0 to 15, `reserved` is the three reserved bits as a number from 0 to 7. `masked` is None for
    what is right for its sender: clients mask, servers do not. A frame that was heard says how it was, but that makes
    no difference between two frames.
    """

    opcode: int = attrs.field(converter=_by_name)
    payload: bytes = b""
    fin: bool = attrs.field(default=True, kw_only=True)
    reserved: int = attrs.field(default=0, kw_only=True)
    masked: bool | None = attrs.field(default=None, kw_only=True, eq=False)

    @classmethod
    def text(cls, text: str) -> Frame:
        """Return a whole text message."""
        return cls(Opcode.TEXT, text.encode())

    @classmethod
    def json(cls, value: Any) -> Frame:
        """Return a whole text message that holds this value as JSON."""
        return cls(Opcode.TEXT, encode(value))

    @classmethod
    def close(cls, code: int = 1000, reason: str = "") -> Frame:
        """Return a close frame with any code, also one that may not be sent."""
        return cls(Opcode.CLOSE, struct.pack(">H", code) + reason.encode())

    def encoded(self, *, masked: bool) -> bytes:
        """Return its bytes, as a sender says them who is to mask or not."""
        first = self.reserved << 4 | self.opcode
        return frame(first, self.payload, mask=masked if self.masked is None else self.masked, fin=self.fin)


def cut_frame(data: bytes) -> tuple[Frame, bytes] | None:
    """Return the first frame in `data` and what is behind it, or None when it is not all there. Judges nothing."""
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    size, start = second & 0x7F, 2
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    masked = second > 127
    begin = start + 4 if masked else start
    stop = begin + size
    if len(data) < max(begin, stop):
        return None
    payload = apply_mask(data[begin:stop], data[start:begin]) if masked else data[begin:stop]
    cut = Frame(first & 0x0F, payload, fin=first > 127, reserved=first >> 4 & 0x07, masked=masked)
    return cut, data[stop:]
