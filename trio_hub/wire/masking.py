"""The mask of RFC 6455 section 5.3: each byte XOR the key's byte in turn, the same operation both ways.

The C function of the `websockets` package is used where that package is installed (extra `fast`): 3.3 M frames/s of
64 bytes instead of 1.5 M.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["apply_long_mask", "apply_mask", "apply_mask_in_python", "private_key"]


def apply_mask_in_python(data: bytes, key: bytes) -> bytes:
    """Return `data` masked, or unmasked, with a key of 4 bytes, or of any other size: one XOR of two long integers."""
    size = len(data)
    repeated = (key * (size // len(key) + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


apply_long_mask = apply_mask_in_python
"""For keys of other sizes than 4 bytes."""


def private_key(private_mask: bytes, key: bytes) -> bytes:
    """Return the key of a frame with a private mask: that, XOR the frame's own key again and again."""
    return apply_mask_in_python(private_mask, key) if private_mask else key


try:
    from websockets.speedups import apply_mask as _apply_mask_in_c
except ImportError:  # the extra is not installed
    apply_mask: Callable[[bytes, bytes], bytes] = apply_mask_in_python
else:
    apply_mask = _apply_mask_in_c
