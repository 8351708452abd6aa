"""What a dialect changes of an upgrade: the accept digest, headers of its own, and how webson spells a head."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from trio_hub.dialect import GUID, Dialect
from trio_hub.errors import LinkLost, PeerFault
from trio_hub.link.heads import HTTPFault
from trio_hub.messages import CloseCode, CloseReason

if TYPE_CHECKING:
    from trio_hub.wire.sealing import Seal

__all__ = ["Agreed", "Asking", "accept_digest", "agree"]

_SEALED: Final = "Trio-Hub-Sealed"
_MAX_STREAMS: Final = "Webson-Max-Streams"
_KEY: Final = re.compile(rb"\r\nsec-websocket-key:\s*(\S+)", re.IGNORECASE)
_ACCEPT: Final = re.compile(rb"\r\nsec-websocket-accept:[ \t]*([^\r\n \t]*)", re.IGNORECASE)
_SPELLED: Final = {
    "upgrade": "Upgrade:websocket",
    "connection": "Connection:Upgrade",
    "sec-websocket-version": "Sec-Websocket-Version:13",
}
_NAMES: Final = {
    "sec-websocket-key": "Sec-Websocket-Key",
    "sec-websocket-extensions": "Sec-Websocket-Extensions",
    "sec-websocket-protocol": "Sec-Websocket-Protocol",
}


@attrs.frozen
class Agreed:
    """What the ends have agreed on: how frames are sealed, how many streams of webson's there may be at once."""

    seal: Seal | None = None
    streams: int = 0


def accept_digest(key: str | bytes, magic_key: bytes) -> bytes:
    """Return a server's answer to ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    key = key.encode() if isinstance(key, str) else key
    return base64.b64encode(hashlib.sha1(key + magic_key).digest())


# -- the server's end


def agree(dialect: Dialect, headers: Mapping[str, str]) -> tuple[Agreed, list[tuple[str, str]]]:
    """Return what is agreed on with a client that sent these headers, and the server's headers that say so.

    Raises `HTTPFault` where the dialect asks for more than it said.
    """
    if dialect.secret is not None:
        return _seal_with(dialect.secret, headers.get(_SEALED.lower(), ""))
    asked = headers.get(_MAX_STREAMS.lower())
    if dialect.streams and asked is not None:
        if not asked.isdecimal() or not int(asked[:6]):
            raise HTTPFault(400, f"{_MAX_STREAMS} is not a number")
        streams = min(dialect.streams, int(asked[:6]))
        return Agreed(streams=streams), [(_MAX_STREAMS, str(streams))]
    return Agreed(), []


def _seal_with(secret: bytes, shown: str) -> tuple[Agreed, list[tuple[str, str]]]:
    from trio_hub.wire.sealing import new_nonce, read_nonce, sealed_by

    theirs, ours = read_nonce(shown), new_nonce()
    if theirs is None:
        raise HTTPFault(400, f"Only sealed links are spoken here, and {_SEALED} has no 32 bytes in hexadecimal")
    seal = sealed_by(secret, theirs, ours, client=False)
    return Agreed(seal=seal), [(_SEALED, ours + seal.proof)]


# -- the client's end


class Asking:
    """One client's upgrade in a dialect. `headers` are to be sent with it."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._key = b""
        self._nonce = ""
        self.headers: dict[str, str] = {}
        if dialect.streams:
            self.headers[_MAX_STREAMS] = str(dialect.streams)
        if dialect.secret is not None:
            from trio_hub.wire.sealing import new_nonce

            self._nonce = self.headers[_SEALED] = new_nonce()

    def spelled(self, request: bytes) -> bytes:
        """Return the head of the request as the dialect has it."""
        found = _KEY.search(request)
        assert found is not None
        self._key = found[1]
        return _as_webson(request) if self._dialect.is_webson else request

    def understood(self, response: bytes) -> bytes:
        """Return the head of the response with the digest that the RFC asks for in place of the dialect's.

        Raises `PeerFault` where it has another.
        """
        found = _ACCEPT.search(response)
        if found is None or found[1] != accept_digest(self._key, self._dialect.magic_key):
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "the server's accept digest is not that of our dialect")
        return response[: found.start(1)] + accept_digest(self._key, GUID) + response[found.end(1) :]

    def agreed(self, headers: Mapping[str, str]) -> Agreed:
        """Return what a server agreed on with these headers. Raises `LinkLost` where that is not enough."""
        if self._dialect.secret is not None:
            return self._seal_with(self._dialect.secret, headers.get(_SEALED.lower(), ""))
        allowed = headers.get(_MAX_STREAMS.lower(), "0")
        if self._dialect.streams and not allowed.isdecimal():
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"{_MAX_STREAMS} of the server is not a number"))
        return Agreed(streams=min(self._dialect.streams, int(allowed[:6])) if self._dialect.streams else 0)

    def _seal_with(self, secret: bytes, shown: str) -> Agreed:
        from trio_hub.wire.sealing import read_nonce, sealed_by

        theirs = read_nonce(shown)
        seal = sealed_by(secret, self._nonce, theirs, client=True) if theirs is not None else None
        if theirs is None or seal is None or not seal.is_proof(shown[len(theirs) :]):
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "the server did not prove that it has our key"))
        return Agreed(seal=seal)


def _as_webson(request: bytes) -> bytes:
    """Return a request's head in webson's spelling, which has no blank behind most colons."""
    first, *lines = request.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    spelled = [first]
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip(), value.strip()
        lower = name.lower()
        if lower in ("host", "authorization"):
            spelled.append(f"{name}: {value}")
        else:
            spelled.append(_SPELLED.get(lower) or f"{_NAMES.get(lower, name)}:{value}")
    return "\r\n".join([*spelled, "", ""]).encode("latin-1")
