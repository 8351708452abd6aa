"""What a peer sends, cut into messages (RFC 6455), for either role, with every limit enforced here.

How reading works. A read from the network holds many frames, or part of one. `FrameReader.feed` takes it whole and
returns every message that is complete by then; a loop without calls cuts frames that are whole messages, and everything
rare (fragments, control frames, what is deflated or very large, faults) leaves that loop for a method. What is left of
an unfinished frame waits until enough bytes are there for it, so it is looked at again only once, however small the
reads.

A read of 64 KiB may inflate to a thousand times as much. So `feed` stops when it has inflated as much as one message
may have, and `has_more` says that there is more to be had of the same read.

A frame is refused as soon as its header is known, so a peer that declares 4 GB costs us its header. A fault is
raised only after the messages before it have been returned: what was said properly counts.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Final

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode
from trio_hub.wire.deflate import Inflater
from trio_hub.wire.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATED,
    PONG,
    TEXT,
    WHOLE_BINARY,
    WHOLE_TEXT,
    Received,
    check_control,
    control,
    long_size,
    not_utf8,
    text,
)
from trio_hub.wire.masking import apply_mask

__all__ = ["FrameReader"]

_Unpack = Callable[[bytes, int], tuple[bytes, bytes]]


def _small_frames(masked: bool) -> list[_Unpack | None]:
    """Return, for each second byte of a frame of up to 125 bytes, what takes the key and the payload out of it."""
    small: list[_Unpack | None] = [None] * 256
    for size in range(126):
        small[size | 0x80 if masked else size] = struct.Struct(f"2x{4 if masked else 0}s{size}s").unpack_from
    return small


_SMALL_MASKED: Final = _small_frames(True)
_SMALL_PLAIN: Final = _small_frames(False)


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
        "_masked",
        "_max_fragments",
        "_max_message",
        "_unfinished",
        "_waiting",
        "_wanted",
        "had_control_frames",
        "inflater",
    )

    def __init__(self, *, masked: bool, max_message: int, max_fragments: int, inflater: Inflater | None = None) -> None:
        self._masked = masked
        self.inflater = inflater
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
    def is_within_message(self) -> bool:
        """Whether fragments of a message were taken, and not the last."""
        return self._unfinished is not None

    def take_waiting(self) -> bytes:
        """Return what was fed and not looked at yet, and forget it."""
        waiting = bytes(self._waiting)
        self._waiting.clear()
        return waiting

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
                if first != WHOLE_TEXT and first != WHOLE_BINARY:
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
                append(payload.decode() if first == WHOLE_TEXT else payload)
                at = stop
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
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
            size = long_size(data, at)
        if (second > 127) is not masked:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "frame is not masked" if masked else "frame is masked")
        self._check(first, size)
        begin = start + 4 if masked else start
        stop = begin + size
        if stop > end:
            self._wanted = stop - at
            return at
        payload = apply_mask(data[begin:stop], data[start:begin]) if masked else data[begin:stop]
        if self._unfinished is None and first in (WHOLE_TEXT, WHOLE_BINARY):
            received.append(text(payload) if first == WHOLE_TEXT else payload)
        else:
            self._take(first, payload, received)
        return stop

    def _check(self, first: int, size: int) -> None:
        """Refuse a frame that may not come, or not now, by its header alone (sections 5.2, 5.4, 5.5)."""
        opcode, unfinished = first & 0x0F, self._unfinished
        if first & 0x70 and not (first & 0x70 == DEFLATED and self.inflater and opcode in (TEXT, BINARY)):
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "reserved bits are set that no agreed extension has there")
        if opcode > PONG or BINARY < opcode < CLOSE:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, f"opcode {opcode} is not known")
        if opcode >= CLOSE:
            check_control(first, size)
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
        if opcode >= CLOSE:
            received.append(control(opcode, payload))
            self.had_control_frames = True
            self._ended = self._halted = opcode == CLOSE
        else:
            inflater = self.inflater if first & DEFLATED else None
            message = self._unfinished = self._unfinished or _Unfinished(opcode, inflater)
            last = first > 127
            try:
                message.add(payload, last=last)
            except UnicodeDecodeError as error:
                raise not_utf8(error) from error
            if last:
                received.append(message.whole())
                self._unfinished = None
                self._inflated += message.inflated
                self._halted = self._inflated >= self._max_message
