"""How the two ends of a link spell it: as RFC 6455 says, or in a way of their own.

None of the private ways is security. Whoever sees an upgrade pass with a magic key can try keys at leisure, and the
server learns nothing of who calls. A private mask is a XOR of fixed period whose varying part travels in clear: one
frame of known text gives all of it away, and nothing is protected against change. They keep strangers' programs from
connecting by mistake, no more. Take TLS for security, or `Dialect.sealed` where that cannot be had.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Final

import attrs

from trio_hub.errors import Misuse

__all__ = ["GUID", "PRIVATE_CONTROL", "PRIVATE_DATA", "STANDARD", "Dialect"]

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What the accept digest is made with (RFC 6455 section 1.3)."""
PRIVATE_DATA: Final = frozenset(range(3, 8))
PRIVATE_CONTROL: Final = frozenset(range(11, 16))
_MOST_STREAMS: Final = 32_767  # 15 bits, and 0 is none
_SHORTEST_KEY: Final = 16
_SEALED_CHUNK: Final = 64 * 1024


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _opcodes(value: Iterable[int]) -> frozenset[int]:
    return frozenset(value)


@attrs.frozen(kw_only=True)
class Dialect:
    """How a link is spelled. Both ends must be given the same; `STANDARD` is what everybody speaks.

    `magic_key` takes the place of the RFC's in the accept digest, by which a client knows that its server speaks its
    dialect (str as UTF-8). `private_mask`, a multiple of 4 bytes long, is added to each frame's mask; frames are masked
    by the client, with `always_mask` by the server too. `opcodes` are private kinds of messages: 3-7 for data, 11-15
    for what is as short and as urgent as a ping (125 bytes at most). Messages are cut into frames of at most
    `chunk_size` bytes, as they are before they are compressed and sealed; None leaves whole messages whole. `secret` is
    the key of a sealed link, see `sealed`.

    `is_webson` stands for what is peculiar to the wire of the Go library webson, and `streams` for how many messages
    it may have under way at once (0: one after the other), see `webson`.

    Raises `Misuse` where the parts do not fit together.
    """

    magic_key: bytes = attrs.field(default=GUID, converter=_bytes, repr=False)
    private_mask: bytes = attrs.field(default=b"", converter=_bytes, repr=False)
    always_mask: bool = False
    opcodes: frozenset[int] = attrs.field(default=frozenset(), converter=_opcodes)
    chunk_size: int | None = None
    is_webson: bool = False
    streams: int = 0
    secret: bytes | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        if len(self.private_mask) % 4:
            raise Misuse(f"a private mask is a multiple of 4 bytes long, not {len(self.private_mask)}")
        if unknown := sorted(self.opcodes - PRIVATE_DATA - PRIVATE_CONTROL):
            raise Misuse(f"private opcodes are 3-7 and 11-15, not {unknown}")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise Misuse("a chunk has at least one byte")
        if not 0 <= self.streams <= _MOST_STREAMS or (self.streams and not self.is_webson):
            raise Misuse(f"webson has up to {_MOST_STREAMS} streams at once; other dialects have none in their frames")
        if self.secret is not None and (self.is_webson or len(self.secret) < _SHORTEST_KEY):
            raise Misuse(f"a sealed link takes a key of {_SHORTEST_KEY} bytes or more, and is no link of webson's")

    @property
    def is_standard(self) -> bool:
        """Whether frames are those of RFC 6455: then messages are read and written on the quickest ways."""
        return attrs.evolve(self, magic_key=GUID) == STANDARD

    @classmethod
    def webson(
        cls,
        *,
        magic_key: str | bytes = GUID,
        private_mask: str | bytes = b"",
        always_mask: bool = False,
        streams: int = 0,
        chunk_size: int = 4096,
    ) -> Dialect:
        """Return the dialect of the Go library webson, byte for byte.

        Its fragments repeat their message's opcode, its heads are spelled in a way of their own, every opcode may be
        used, and with `streams` (its default is 1024) several messages may be under way at once. Peers of its own make
        some demands that are heeded here: each frame is written by itself, none of more than `chunk_size` bytes (they
        take 5120, the 2 of a stream included); a server says nothing before its client has, for a moment; and only
        messages of one frame are compressed. A private mask is no encryption: see the head of this module.
        """
        opcodes = PRIVATE_DATA | PRIVATE_CONTROL
        return cls(
            magic_key=magic_key,
            private_mask=private_mask,
            always_mask=always_mask,
            opcodes=opcodes,
            chunk_size=chunk_size,
            is_webson=True,
            streams=streams,
        )

    @classmethod
    def sealed(cls, key: bytes, **others: Any) -> Dialect:
        """Return a dialect in which every frame is encrypted and authenticated, by a key that both ends have.

        `key` are 16 bytes or more that nobody can guess (``secrets.token_bytes(32)``; no password), `others` are
        further fields; `chunk_size` is 64 KiB if nothing is said, since a frame is held until it can be opened.

        Takes the extra ``sealed``; `Misuse` is raised without it. Prefer TLS: see the page on sealed links.
        """
        if find_spec("cryptography") is None:
            raise Misuse("sealed links take the package cryptography: pip install 'trio_hub[sealed]'")
        return cls(secret=key, **{"chunk_size": _SEALED_CHUNK, **others})


STANDARD: Final = Dialect()
"""RFC 6455, as everybody speaks it."""
