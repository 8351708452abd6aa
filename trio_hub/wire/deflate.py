"""permessage-deflate (RFC 7692): what two ends agree on, and messages on their way in and out.

What we send is deflated message by message, and takes no context over from one to the next. So a link keeps nothing for
it, and the bytes of a message are the same on every link: an event to a thousand of them is deflated once. What we
receive may lean on the messages before it, where a server does that and we are its client.

A message is deflated up to a sync flush, that is, to an empty stored block: three bits, zeros up to the end of their
byte, and 00 00 FF FF, the size 0 and its complement. These four bytes are not sent (section 7.2.1). Another size may
stand in their place, with as many plain bytes behind it: so a tail that differs between recipients follows a beginning
that was deflated once for all of them (`stored_head`), and `CLOSING` is the beginning of the next empty block.
"""

from __future__ import annotations

import re
import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import attrs

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode
from trio_hub.options import CompressionOptions, LinkOptions

if TYPE_CHECKING:
    from zlib import _Decompress

__all__ = [
    "CLOSING",
    "OFFER",
    "OFFER_OF_WEBSON",
    "DeflatedMessage",
    "Deflater",
    "Inflater",
    "Parameters",
    "agreed_in",
    "answer_to",
    "stored_head",
]

_NAME: Final = "permessage-deflate"
_LARGEST_WINDOW: Final = 15
_SMALLEST_WINDOW: Final = 9  # that zlib can deflate with; the RFC knows 8, too
_MEMORY: Final = 5  # of 9: messages are small, and clearing the tables of 8 takes longer than deflating 2 KiB
_UNSAID: Final = b"\x00\x00\xff\xff"
_EMPTY_LAST_BLOCK: Final = b"\x03\x00"
_MOST_STREAMS: Final = 16  # in one fragment; each costs a copy of the rest
_FLAG: Final = re.compile(r"(?:server|client)_no_context_takeover")
_BITS: Final = re.compile(r'((?:server|client)_max_window_bits)[ \t]*=[ \t]*("?)([89]|1[0-5])\2')


# -- what is agreed on -------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Parameters:
    """The parameters of an offer or of an answer (section 7.1). `str` of it can stand in a header.

    Window sizes are powers of two; None is one that was not spoken of.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None

    def __str__(self) -> str:
        said = [(name, value) for name, value in attrs.asdict(self).items() if value]
        return "; ".join([_NAME, *(name if value is True else f"{name}={value}" for name, value in said)])

    def carried_out(self, options: LinkOptions, *, client: bool) -> tuple[Deflater, Inflater]:
        """Return what deflates and inflates at one end of a link that has agreed on this."""
        ours, theirs = self.server_max_window_bits, self.client_max_window_bits
        keeps_context = not self.client_no_context_takeover
        if client:
            ours, theirs = theirs, ours
            keeps_context = not self.server_no_context_takeover
        return (
            _deflater(ours or _LARGEST_WINDOW, options.compression or CompressionOptions()),
            Inflater(theirs or _LARGEST_WINDOW, options.max_message, keeps_context=keeps_context),
        )


OFFER: Final = Parameters(client_no_context_takeover=True, client_max_window_bits=_LARGEST_WINDOW)
"""What a client of ours offers."""

OFFER_OF_WEBSON: Final = Parameters(server_no_context_takeover=True, client_no_context_takeover=True)
"""What a client of webson's offers, and takes for an answer."""


def answer_to(offers: str) -> Parameters | None:
    """Return a server's answer to the first offer it can accept; None where there is none.

    Neither side may take context over: we never do, and what a client might would cost up to 40 KiB for each link.
    """
    for extension in offers.split(","):
        offer = _read(extension, in_offer=True)
        if offer is not None and (offer.server_max_window_bits or _LARGEST_WINDOW) >= _SMALLEST_WINDOW:
            return Parameters(
                server_no_context_takeover=True,
                client_no_context_takeover=True,
                server_max_window_bits=offer.server_max_window_bits,
            )
    return None


def agreed_in(answer: str) -> Parameters:
    """Return what a server's answer to `OFFER` says. Raises `PeerFault` where it is none (section 7.1)."""
    agreed = _read(answer, in_offer=False)
    if agreed is None:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, f"extensions that were not offered: {answer!r}")
    if (agreed.client_max_window_bits or _LARGEST_WINDOW) < _SMALLEST_WINDOW:
        raise PeerFault(CloseCode.PROTOCOL_ERROR, "nothing can be deflated with a window of 256 bytes")
    return agreed


def _read(extension: str, *, in_offer: bool) -> Parameters | None:
    """Return the parameters of one extension in a header; None where it is another, or one of them is not right."""
    name, *parameters = [part.strip() for part in extension.split(";")]
    read: dict[str, Any] = {}
    for parameter in parameters:
        key, value = _read_parameter(parameter, in_offer=in_offer)
        if not value or key in read:
            return None
        read[key] = value
    return Parameters(**read) if name == _NAME else None


def _read_parameter(parameter: str, *, in_offer: bool) -> tuple[str, int]:
    """Return a parameter's name and value; 0 where it has none that we know."""
    if _FLAG.fullmatch(parameter):
        return parameter, True
    if in_offer and parameter == "client_max_window_bits":  # whatever the server likes (section 7.1.2.2)
        return parameter, _LARGEST_WINDOW
    bits = _BITS.fullmatch(parameter)
    return (bits[1], int(bits[3])) if bits else (parameter, 0)


# -- out ---------------------------------------------------------------------------------------------------------

CLOSING: Final = b"\x00"
"""What ends a message whose last block is a stored one."""


@attrs.frozen(eq=False)
class Deflater:
    """Deflates messages, each by itself. All links that agreed on the same window share one."""

    window_bits: int
    options: CompressionOptions

    def deflate(self, payload: bytes) -> bytes:
        """Return the payload deflated, as it is sent: without the end that every message has."""
        stream = zlib.compressobj(self.options.level, zlib.DEFLATED, -self.window_bits, _MEMORY)
        return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(_UNSAID)]


class DeflatedMessage:
    """One message deflated piece by piece, each up to a sync flush, so that what was written can be read at once."""

    __slots__ = ("_stream",)

    def __init__(self, deflater: Deflater) -> None:
        self._stream = zlib.compressobj(deflater.options.level, zlib.DEFLATED, -deflater.window_bits, _MEMORY)

    def deflate(self, payload: bytes, *, last: bool) -> bytes:
        """Return a fragment of the message. What is empty and the last is an empty block (section 7.2.3.6)."""
        if not payload:
            return CLOSING if last else b""
        deflated = self._stream.compress(payload) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        return deflated[: -len(_UNSAID)] if last else deflated


_deflater = cache(Deflater)


def stored_head(size: int) -> bytes:
    """Return what goes between something deflated and `size` plain bytes; `CLOSING` goes behind those."""
    return struct.pack("<HH", size, size ^ 0xFFFF)


# -- in ----------------------------------------------------------------------------------------------------------


class Inflater:
    """Inflates one peer's messages, each to at most `max_message` bytes."""

    __slots__ = ("_keeps_context", "_max_message", "_room", "_stream", "_window_bits")

    def __init__(self, window_bits: int, max_message: int, *, keeps_context: bool) -> None:
        self._window_bits = window_bits
        self._max_message = max_message
        self._keeps_context = keeps_context
        self._room = max_message  # bytes that the message under way may still have
        self._stream: _Decompress | None = None

    def again(self) -> Inflater:
        """Return another like this for one message, which leans on none before it."""
        return Inflater(self._window_bits, self._max_message, keeps_context=False)

    def inflate(self, payload: bytes, *, last: bool) -> bytes:
        """Return what one fragment of a message holds; `last` says that it is the last. No more after a fault.

        Raises `PeerFault` where it is not deflated, and where the message gets too large; then hardly more memory than
        `max_message` was taken.
        """
        try:
            inflated = self._inflate(payload + _UNSAID if last else payload)
            if last:
                self._end_message()
        except zlib.error as error:
            raise PeerFault(CloseCode.INVALID_DATA, f"message is not deflated: {error}") from error
        return inflated

    def allow_more(self) -> None:
        """Let the message under way have `max_message` bytes more: it is not held."""
        self._room = self._max_message

    def _inflate(self, data: bytes) -> bytes:
        parts = []
        for _ in range(_MOST_STREAMS):
            stream = self._stream = self._stream or zlib.decompressobj(-self._window_bits)
            parts.append(stream.decompress(data, self._room + 1))  # 0 would be: without limit
            self._room -= len(parts[-1])
            if self._room < 0:
                raise PeerFault(CloseCode.TOO_BIG, f"message inflates to more than {self._max_message} bytes")
            if not stream.eof:
                return b"".join(parts)
            # A last block is not the end of a message (section 7.2.3.5). What follows stands alone: who ends a stream
            # with zlib begins without a window.
            data, self._stream = stream.unused_data, None
        raise PeerFault(CloseCode.POLICY, f"fragment has more than {_MOST_STREAMS} last blocks")

    def _end_message(self) -> None:
        """See that the message ends where a block does, or half of one would pass for it; get ready for the next."""
        assert self._stream is not None
        stream = self._stream.copy() if self._keeps_context else self._stream
        stream.decompress(_EMPTY_LAST_BLOCK, 1)
        if not stream.eof:
            raise PeerFault(CloseCode.INVALID_DATA, "message is not deflated: it ends within a block")
        if not self._keeps_context:
            self._stream = None
        self._room = self._max_message
