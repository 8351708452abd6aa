"""CBOR (RFC 8949), as far as it says what JSON can say, and bytes.

What a stranger sends is data and nothing else: tags, by which CBOR asks for objects to be built, are refused but for
large integers, and so are indefinite lengths, repeated keys, deep nesting, and bytes behind the end.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any, Final, NoReturn

import cbor2

__all__ = ["Undecodable", "Unencodable", "array_head", "dumps", "loads"]

Undecodable = (cbor2.CBORDecodeError, ValueError, OverflowError)
"""What `loads` raises."""
Unencodable = (cbor2.CBOREncodeError, OverflowError)
"""What `dumps` raises."""

_DEEPEST: Final = 64
_BUILT_IN: Final = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
"""The other tags that cbor2 would build something from (RFC 8949 section 3.4 and the registry)."""


def _refuse(*_: Any) -> NoReturn:
    raise ValueError("a tag, which asks for more than data")


_REFUSED: Final[dict[int, Any]] = dict.fromkeys(_BUILT_IN, _refuse)


def dumps(value: Any) -> bytes:
    """Return `value` as CBOR. Raises one of `Unencodable`."""
    return cbor2.dumps(value)


def array_head(count: int) -> bytes:
    """Return what stands before the items of an array (RFC 8949 section 3)."""
    if count < 24:
        return bytes((0x80 | count,))
    return struct.pack(">BH", 0x99, count) if count < 65536 else struct.pack(">BI", 0x9A, count)


def loads(data: bytes) -> Any:
    """Return what these bytes say, all of them. Raises one of `Undecodable`."""
    stream = BytesIO(data)
    value = cbor2.load(
        stream,
        tag_hook=_refuse,
        semantic_decoders=_REFUSED,
        max_depth=_DEEPEST,
        allow_indefinite=False,
        allow_duplicate_keys=False,
    )
    if stream.tell() != len(data):
        raise ValueError(f"{len(data) - stream.tell()} bytes behind the end")
    return value
