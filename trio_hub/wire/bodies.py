"""Events, each encoded once, and shared by all who are owed it.

What differs between recipients is only the number, and it stands last: so a compat frame is the shared beginning
(frame header included, made once for each length of a number) and a few digits of its own.

Where links agreed to compression, a body is deflated once for all of them, and the number follows plain.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final

import attrs
import msgspec

from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Misuse
from trio_hub.messages import Event
from trio_hub.wire import cbor
from trio_hub.wire.deflate import CLOSING, Deflater, stored_head
from trio_hub.wire.frames import BINARY, DEFLATED, TEXT, frame_head

__all__ = ["Body", "DeflatedBody", "Tally", "encode"]

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_ENTRY_SIZE: Final = 64  # what an entry costs beside its bytes, in our accounts
_WHOLE_TEXT: Final = 0x80 | TEXT
_WHOLE_BINARY: Final = 0x80 | BINARY
_WHOLE_DEFLATED: Final = _WHOLE_TEXT | DEFLATED
_WHOLE_DEFLATED_BINARY: Final = _WHOLE_BINARY | DEFLATED


def encode(value: Any) -> bytes:
    """Return `value` as JSON. Raises `Misuse` where JSON has no words for it."""
    try:
        return _encode_json(value)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise Misuse(f"cannot be encoded as JSON: {error}") from error


@attrs.define(eq=False)
class Tally:
    """Counts the bytes of all bodies that still exist, each once, however many connections are owed it."""

    size: int = 0


class Body:
    """An event encoded once, and shared by all who are owed it.

    `size` is what it counts for in every bound. `delivery` says what may become of it while it is owed; from the time
    `expires_at` on it is of no use. `reply_to` is the request that it answers, where it is a part of a streamed reply.
    `mark` tells it from all other events of a cluster, where it is one that crosses: by the node that said it, and a
    number. Raises `Misuse` when the event cannot be encoded.
    """

    compat_end: ClassVar[bytes] = b"}"
    """What stands behind the number in a compat frame."""

    __slots__ = (
        "_cbor",
        "_compat",
        "_deflated",
        "_event",
        "_json",
        "_last_frame",
        "_last_number",
        "_tally",
        "_v1",
        "delivery",
        "expires_at",
        "mark",
        "size",
    )

    def __init__(
        self, event: Event, *, delivery: Delivery = MUST, expires_at: float = math.inf, reply_to: int | None = None
    ) -> None:
        self._tally: Tally | None = None  # also of what cannot be encoded
        members = [b'{"event":', encode(event.name), b',"data":', encode(event.data)]
        if event.broadcast is not None:
            members += [b',"broadcast":', encode(event.broadcast)]
        if reply_to is not None:
            members += [b',"reply_to":', encode(reply_to)]
        self._hold(b"".join(members), delivery, expires_at)

    @classmethod
    def of_json(cls, json: bytes, *, delivery: Delivery, expires_at: float) -> Body:
        """Return the event whose `open_json` this is."""
        body = cls.__new__(cls)
        body._tally = None
        body._hold(json, delivery, expires_at)
        return body

    def _hold(self, json: bytes, delivery: Delivery, expires_at: float) -> None:
        self._json = json
        self._compat: dict[int, bytes] = {}
        self._last_number = -1
        self._last_frame = b""
        self._v1: bytes | None = None
        self._cbor: bytes | None = None
        self._event: Event | None = None
        self._deflated: dict[Deflater, DeflatedBody] | None = None
        self.delivery = delivery
        self.expires_at = expires_at
        self.mark: tuple[str, int] | None = None
        self.size = len(json) + len(delivery.key or "") + _ENTRY_SIZE

    def count_in(self, tally: Tally) -> None:
        """Count in `tally` from now on, once, for as long as anybody holds it."""
        if self._tally is None:
            tally.size += self.size
            self._tally = tally

    def __del__(self) -> None:
        # The one thing that knows when the last of many holders has let go is the reference count.
        if self._tally is not None:
            self._tally.size -= self.size

    def compat_beginning(self, tail: int) -> bytes:
        """Return the compat frame without its last `tail` bytes, which are the number and a brace."""
        beginning = self._compat.get(tail)
        if beginning is None:
            opened = self._json + b',"seq":'
            beginning = self._compat[tail] = frame_head(_WHOLE_TEXT, len(opened) + tail) + opened
        return beginning

    def compat_frame(self, number: int) -> bytes:
        """Return the whole compat frame. Recipients who have heard equally much share it."""
        if number != self._last_number:
            tail = b"%d}" % number
            self._last_frame = self.compat_beginning(len(tail)) + tail
            self._last_number = number
        return self._last_frame

    def v1_frame(self) -> bytes:
        """Return the whole v1 frame."""
        if self._v1 is None:
            self._v1 = frame_head(_WHOLE_TEXT, len(self._json) + 1) + self.as_json()
        return self._v1

    @property
    def open_json(self) -> bytes:
        """The event as a JSON object that is not closed yet: another node makes the same body of it."""
        return self._json

    def as_json(self) -> bytes:
        """Return the event as a JSON object, without a number."""
        return self._json + b"}"

    @property
    def event(self) -> Event:
        """The event as clients hear it: bytes in its data have become text. One for all who ask."""
        if self._event is None:
            members = _decode_json(self.as_json())
            self._event = Event(members["event"], members["data"], members.get("broadcast"))
        return self._event

    def as_cbor(self) -> bytes:
        """Return the same as a CBOR map: made from the JSON, since the publisher may have changed its data by now."""
        if self._cbor is None:
            self._cbor = _as_cbor(self._json)
        return self._cbor

    def cbor_frame(self) -> bytes:
        """Return the whole frame in CBOR."""
        event = self.as_cbor()
        return frame_head(_WHOLE_BINARY, len(event)) + event

    def deflated(self, deflater: Deflater) -> Body | DeflatedBody:
        """Return what makes the frames for links with this deflater; it is one for all of them."""
        if len(self._json) < deflater.options.above:
            return self
        if self._deflated is None:
            self._deflated = {}
        deflated = self._deflated.get(deflater)
        if deflated is None:
            deflated = self._deflated[deflater] = DeflatedBody(self._json, deflater)
        return deflated


class DeflatedBody:
    """A `Body` for links that agreed to compression. Each spelling of it is deflated once, when it is asked for."""

    compat_end: ClassVar[bytes] = b"}" + CLOSING

    __slots__ = ("_cbor", "_compat", "_compat_opened", "_deflater", "_json", "_v1")

    def __init__(self, json: bytes, deflater: Deflater) -> None:
        self._json = json  # and not the body, which could not go then before a collection of cycles
        self._deflater = deflater
        self._cbor: bytes | None = None
        self._compat: dict[int, bytes] = {}
        self._compat_opened: bytes | None = None
        self._v1: bytes | None = None

    def compat_beginning(self, tail: int) -> bytes:
        """Return the compat frame up to its last `tail` plain bytes, which are the number and a brace."""
        beginning = self._compat.get(tail)
        if beginning is None:
            if self._compat_opened is None:
                self._compat_opened = self._deflater.deflate(self._json + b',"seq":')
            opened = self._compat_opened + stored_head(tail)
            size = len(opened) + tail + len(CLOSING)
            beginning = self._compat[tail] = frame_head(_WHOLE_DEFLATED, size) + opened
        return beginning

    def compat_frame(self, number: int) -> bytes:
        """Return the whole compat frame."""
        tail = b"%d}" % number
        return self.compat_beginning(len(tail)) + tail + CLOSING

    def v1_frame(self) -> bytes:
        """Return the whole v1 frame."""
        if self._v1 is None:
            deflated = self._deflater.deflate(self._json + b"}")
            self._v1 = frame_head(_WHOLE_DEFLATED, len(deflated)) + deflated
        return self._v1

    def cbor_frame(self) -> bytes:
        """Return the whole frame in CBOR."""
        if self._cbor is None:
            deflated = self._deflater.deflate(_as_cbor(self._json))
            self._cbor = frame_head(_WHOLE_DEFLATED_BINARY, len(deflated)) + deflated
        return self._cbor


def _as_cbor(json: bytes) -> bytes:
    """Return an open JSON object as a CBOR map."""
    return cbor.dumps(_decode_json(json + b"}"))
