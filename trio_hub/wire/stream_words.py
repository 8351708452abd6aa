"""The frames of many messages at once, piece by piece: words, numbers, reasons. `streams` says what they mean."""

from __future__ import annotations

from typing import Final

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode

__all__ = [
    "BEGIN",
    "BEGINNINGS",
    "CREDIT",
    "HELLO",
    "KINDS",
    "LAST",
    "MORE",
    "OVERHEAD",
    "RESET",
    "STOP",
    "WHOLE",
    "fault",
    "number_in",
    "number_of",
    "parting",
    "reason_in",
]

MORE, LAST, RESET, STOP, CREDIT, HELLO = [bytes((word,)) for word in range(6)]
KINDS: Final = frozenset((*range(1, 8), *range(11, 16)))  # the opcodes that are neither a continuation's nor control's
BEGIN: Final = {kind: bytes((0x40 + kind,)) for kind in KINDS}
WHOLE: Final = {kind: bytes((0x80 + kind,)) for kind in KINDS}
BEGINNINGS: Final = {words[kind][0]: (kind, words is WHOLE) for words in (BEGIN, WHOLE) for kind in KINDS}
"""By the first byte of a frame that begins a message: the kind of that, and whether it is whole."""
_LONGEST_REASON: Final = 123  # bytes, as in a close frame
OVERHEAD: Final = 1 + 8 + 8 + _LONGEST_REASON
"""Bytes of a frame beside its data, at most."""

_LARGEST_NUMBER: Final = 2**62 - 1


def fault(reason: str) -> PeerFault:
    """Return the fault of whoever says what may not be said here."""
    return PeerFault(CloseCode.PROTOCOL_ERROR, reason)


def number_of(value: int) -> bytes:
    """Return a number in 1, 2, 4 or 8 bytes."""
    if value < 64:
        return value.to_bytes(1, "big")
    if value < 1 << 14:
        return (value | 1 << 14).to_bytes(2, "big")
    if value < 1 << 30:
        return (value | 2 << 30).to_bytes(4, "big")
    return (min(value, _LARGEST_NUMBER) | 3 << 62).to_bytes(8, "big")


def number_in(frame: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where it ends. Raises `PeerFault` where none does."""
    size = 1 << (frame[at] >> 6) if at < len(frame) else 1
    end = at + size
    if end > len(frame):
        raise fault("a number is cut short")
    return int.from_bytes(frame[at:end], "big") & ((1 << (8 * size - 2)) - 1), end


def parting(word: bytes, number: int, code: int, reason: str) -> bytes:
    """Return a frame that gives a message up. A reason beyond 123 bytes is cut at a character's end."""
    words = reason.encode(errors="replace")[:_LONGEST_REASON].decode(errors="ignore")
    return word + number_of(number) + number_of(code) + words.encode()


def reason_in(words: bytes) -> str:
    """Return what is said at the end of a frame that gives a message up."""
    if len(words) > _LONGEST_REASON:
        raise fault(f"a reason is longer than {_LONGEST_REASON} bytes")
    try:
        return words.decode()
    except UnicodeDecodeError as error:
        raise fault("a reason is not UTF-8") from error
