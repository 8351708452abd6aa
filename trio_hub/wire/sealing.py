"""Frames that nobody without the key can read, make, change, repeat, reorder or leave out.

How it works. Both ends have a secret. At the upgrade each sends 32 random bytes, so every link has keys of its own, one
for each direction, by HKDF-SHA-256 (RFC 5869) of secret and random bytes; a third, which the server sends back, proves
that it has the secret. The client proves it with its first frame, an empty pong. A frame's payload is sealed by
ChaCha20-Poly1305 (RFC 8439): the nonce is the frame's number in its direction, which is not sent, and the frame's first
byte is authenticated with it. So a frame that was changed, repeated, left out or comes out of order does not open, and
a link whose last frame is no sealed goodbye was cut, by whomever.

What it does not do: hide how long messages are and when they are sent, who talks to whom, or the upgrade itself (its
URL, its headers, tickets in it); protect what was recorded once the secret is known (no forward secrecy); and it needs
a secret that both ends had before. TLS does the first half of that and more.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Final

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode

__all__ = ["Opener", "Seal", "Sealer", "new_nonce", "read_nonce", "sealed_by"]

_TAG: Final = 16
_NONCE: Final = 32
_HEX_NONCE: Final = 2 * _NONCE
_LABEL: Final = b"trio_hub sealed link v1"


def new_nonce() -> str:
    """Return what one end contributes to the keys of a link: 32 random bytes in hexadecimal."""
    return secrets.token_hex(_NONCE)


class Sealer:
    """Seals one direction's frames, in order. Each is longer by `overhead` bytes then."""

    __slots__ = ("_cipher", "_count")
    overhead = _TAG

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._count = 0

    def seal(self, first: int, payload: bytes) -> bytes:
        """Return the payload of the next frame, whose first byte is `first`: to be sent now."""
        nonce = self._count.to_bytes(12)
        self._count += 1
        return self._cipher.encrypt(nonce, payload, bytes((first,)))


class Opener:
    """Opens one direction's frames, in order, each of them longer by `overhead` bytes. `opened` counts them."""

    __slots__ = ("_cipher", "opened")
    overhead = _TAG

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self.opened = 0

    def open(self, first: int, payload: bytes) -> bytes:
        """Return what the next frame's payload says. Raises `PeerFault` (1008) where it is not what was sealed."""
        try:
            opened = self._cipher.decrypt(self.opened.to_bytes(12), payload, bytes((first,)))
        except InvalidTag as error:
            raise PeerFault(CloseCode.POLICY, "frame is not sealed by our key, or not the next one") from error
        self.opened += 1
        return opened


@attrs.frozen
class Seal:
    """What seals and opens at one end of a link, and the server's proof."""

    sealer: Sealer
    opener: Opener
    proof: str = attrs.field(repr=False)

    def is_proof(self, shown: str) -> bool:
        """Whether this is the server's proof, in a time that does not depend on it."""
        return hmac.compare_digest(self.proof.encode(), shown.encode(errors="replace"))


def sealed_by(secret: bytes, client_nonce: str, server_nonce: str, *, client: bool) -> Seal:
    """Return the seal of one end of the link for which the ends have sent these."""
    material = HKDF(SHA256(), 3 * 32, (client_nonce + server_nonce).encode(), _LABEL).derive(secret)
    from_client, from_server, proof = material[:32], material[32:64], material[64:]
    ours, theirs = (from_client, from_server) if client else (from_server, from_client)
    return Seal(Sealer(ours), Opener(theirs), proof.hex())


def read_nonce(shown: str) -> str | None:
    """Return the random bytes in a header, None where it has none."""
    nonce = shown[:_HEX_NONCE].lower()
    return nonce if len(nonce) == _HEX_NONCE and all(digit in "0123456789abcdef" for digit in nonce) else None
