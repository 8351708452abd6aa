"""The dialects in which large messages are measured, by name."""

from __future__ import annotations

from trio_hub import CompressionOptions, Dialect, LinkOptions

__all__ = ["DIALECTS", "options_for"]

_KEY = bytes(range(32))
_MASK = "bytes length is times 4!"

DIALECTS = {
    "standard": Dialect(),
    "magic key": Dialect(magic_key="magic"),
    "always masked": Dialect(always_mask=True),
    "private mask": Dialect(private_mask=_MASK, always_mask=True),
    "private opcodes": Dialect(opcodes={5, 12}),
    "chunks of 4 KiB": Dialect(chunk_size=4096),
    "sealed": Dialect.sealed(_KEY),
    "sealed, all at once": Dialect.sealed(
        _KEY, magic_key="magic", private_mask=_MASK, always_mask=True, opcodes={5, 12}, chunk_size=4096
    ),
    "webson": Dialect.webson(),
    "webson, streams": Dialect.webson(streams=1024),
    "webson, all at once": Dialect.webson(magic_key="magic", private_mask=_MASK, always_mask=True, streams=1024),
}


def options_for(name: str, compression: str) -> LinkOptions:
    """Return the options of a link in a dialect; `compression` is ``deflated`` or ``plain``."""
    return LinkOptions(
        dialect=DIALECTS[name], compression=CompressionOptions(level=1) if compression == "deflated" else None
    )
