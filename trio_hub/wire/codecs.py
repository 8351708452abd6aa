"""Messages as the wire spells them. Three spellings of one language; the application sees no difference.

**compat** (no subprotocol): one JSON object in each text frame; every event carries its number as its last member.
**v1** (``trio-hub.v1.json``): the same objects, or arrays of them; numbers are implicit, since the n-th event of a
connection id is number n. So the bytes of an event are the same for every recipient.
**v1 in CBOR** (``trio-hub.v1.cbor``): the same maps and arrays in binary frames.

An event is encoded once, whoever hears it: see `bodies`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import CloseCode, Reply, Request
from trio_hub.wire import cbor
from trio_hub.wire.bodies import Body, DeflatedBody, encode
from trio_hub.wire.deflate import Deflater
from trio_hub.wire.frames import BINARY, TEXT, frame_head
from trio_hub.wire.spelling import (
    LARGEST_NUMBER,
    FromClient,
    FromServer,
    Message,
    as_object,
    client_message,
    server_message,
    unknown,
)

__all__ = [
    "CODECS",
    "COMPAT",
    "V1_CBOR",
    "V1_JSON",
    "Codec",
    "Framing",
    "FromClient",
    "FromServer",
    "Message",
    "let_go",
]


_decode_json = msgspec.json.Decoder().decode
_decode_request = msgspec.json.Decoder(Request).decode
_WHOLE_TEXT: Final = 0x80 | TEXT
_WHOLE_BINARY: Final = 0x80 | BINARY


class Framing(Protocol):
    """Makes the frames of events: what a server writes.

    `numbered` says whether the same events with other numbers are other frames.
    """

    numbered: bool

    def frames(self, bodies: Sequence[Body], first: int) -> bytes:
        """Return the frames of these events, of which the first has number `first`."""
        ...


class Codec(Framing, Protocol):
    """One spelling. `subprotocol` names it in the handshake; None is what a client without one gets.

    `acknowledges` says whether its clients acknowledge events, number their requests for the life of the connection,
    and expect `Resumed`.
    """

    subprotocol: ClassVar[str | None]
    acknowledges: ClassVar[bool]

    def deflating(self, deflater: Deflater) -> Framing:
        """Return what frames for links that agreed to compression: the same for all who share this deflater."""
        ...

    def let_go(self) -> None:
        """Keep nothing of the events whose frames were made last: nobody else is about to get the same."""
        ...

    def encode(self, message: Message) -> str | bytes:
        """Return one message for one frame. Raises `Misuse` when its data cannot be encoded."""
        ...

    def encode_reply(self, seq: int, data: Any) -> str | bytes:
        """Return the reply that says OK, as ``encode(Reply(seq, data))`` does: nearly all that is encoded are those."""
        ...

    def from_client(self, message: str | bytes) -> list[FromClient]:
        """Return what a client said in one message. Raises `PeerFault` when it said nothing we know."""
        ...

    def from_server(self, message: str | bytes) -> list[FromServer]:
        """Return what a server said in one message. Raises `PeerFault` when it said nothing we know."""
        ...

    def from_peer(self, message: str | bytes) -> list[FromClient | FromServer]:
        """Return what was said in one message by somebody who both asks and answers. Raises as the other two do."""
        ...


class _Deflating:
    """The frames of one codec for links with one deflater. `codec` is its own, for their neighbours are each other."""

    def __init__(self, codec: _Spelling, deflater: Deflater) -> None:
        self._codec = codec
        self._deflater = deflater
        self.numbered = codec.numbered
        self.let_go = codec.let_go

    def frames(self, bodies: Sequence[Body], first: int) -> bytes:
        return self._codec.frames([body.deflated(self._deflater) for body in bodies], first)


class _Spelling:
    """What all spellings share: messages are maps, or where `batches` also arrays of maps."""

    batches: ClassVar[bool]
    numbered: bool

    def __init__(self) -> None:
        self._deflating: dict[Deflater, _Deflating] = {}
        self.let_go()

    def frames(self, bodies: Sequence[Body | DeflatedBody], first: int) -> bytes:
        raise NotImplementedError

    def deflating(self, deflater: Deflater) -> Framing:
        deflating = self._deflating.get(deflater)
        if deflating is None:
            deflating = self._deflating[deflater] = _Deflating(type(self)(), deflater)
        return deflating

    def let_go(self) -> None:
        for deflating in self._deflating.values():
            deflating.let_go()

    def from_client(self, message: str | bytes) -> list[FromClient]:
        return [client_message(item, acknowledges=self.batches) for item in self._maps(message)]

    def from_server(self, message: str | bytes) -> list[FromServer]:
        return [server_message(item) for item in self._maps(message)]

    def from_peer(self, message: str | bytes) -> list[FromClient | FromServer]:
        return [
            server_message(item) if "event" in item or "status" in item else client_message(item, acknowledges=True)
            for item in self._maps(message)
        ]

    def _maps(self, message: str | bytes) -> list[dict[str, Any]]:
        value = self._value(message)
        if type(value) is dict:
            return [value]
        if self.batches and type(value) is list:
            for item in value:
                if type(item) is not dict:
                    raise unknown(item)
            return value
        raise unknown(value)

    def _value(self, message: str | bytes) -> Any:
        """Return what a message holds. Raises `PeerFault` where it cannot be read."""
        raise NotImplementedError


class _Json(_Spelling):
    """Text frames."""

    def encode(self, message: Message) -> str:
        return encode(as_object(message)).decode()

    def encode_reply(self, seq: int, data: Any) -> str:
        if data is None:
            return f'{{"status":"OK","seq_reply":{seq}}}'
        return f'{{"status":"OK","seq_reply":{seq},"data":{encode(data).decode()}}}'

    def from_client(self, message: str | bytes) -> list[FromClient]:
        # Nearly all that clients say are plain requests: those are read in one go, and anything else member by member.
        if type(message) is str:
            try:
                request = _decode_request(message)
            except (msgspec.DecodeError, RecursionError):
                return super().from_client(message)
            if (
                request.deadline is None
                and request.items is None
                and request.action
                and 1 <= request.seq <= LARGEST_NUMBER
            ):
                return [request]
        return super().from_client(message)

    def _value(self, message: str | bytes) -> Any:
        if type(message) is not str:
            raise PeerFault(CloseCode.UNSUPPORTED, "binary frame, but this subprotocol is JSON in text frames")
        try:
            return _decode_json(message)
        except (msgspec.DecodeError, RecursionError) as error:
            raise PeerFault(CloseCode.INVALID_DATA, f"not valid JSON: {error}") from error


class _Compat(_Json):
    subprotocol: ClassVar[str | None] = None
    acknowledges: ClassVar[bool] = False
    batches: ClassVar[bool] = False
    numbered: bool = True

    def let_go(self) -> None:
        # Recipients flushed one after the other are mostly owed the same events, and only their numbers differ: a
        # form of all the frames, with blanks for numbers of one length, is filled in by a single formatting.
        super().let_go()
        self._form = b""
        self._form_for: list[Body | DeflatedBody] = []
        self._form_length = 0  # of the numbers' text

    def frames(self, bodies: Sequence[Body | DeflatedBody], first: int) -> bytes:
        if len(bodies) == 1:
            return bodies[0].compat_frame(first)
        tail = b"%d}" % first
        numbers = range(first, first + len(bodies))
        if len(tail) != len(b"%d}" % (numbers.stop - 1)):  # between 9 and 10, 99 and 100 ...
            return b"".join([body.compat_frame(number) for number, body in zip(numbers, bodies, strict=True)])
        if len(tail) != self._form_length or bodies != self._form_for:
            beginnings = [(body.compat_beginning(len(tail)), body.compat_end) for body in bodies]
            self._form = b"".join([beginning.replace(b"%", b"%%") + b"%d" + end for beginning, end in beginnings])
            self._form_for, self._form_length = list(bodies), len(tail)
        return self._form % tuple(numbers)


class _Batches(_Spelling):
    """Several events to one recipient leave as one array, in one frame, but for those that are deflated.

    Recipients flushed one after the other are mostly owed the same events: they share what is written.
    """

    numbered: bool = False

    def let_go(self) -> None:
        super().let_go()
        self._last: list[Body | DeflatedBody] = []
        self._last_frames = b""

    def frames(self, bodies: Sequence[Body | DeflatedBody], first: int) -> bytes:
        if len(bodies) == 1:
            return self._frame(bodies[0])
        if bodies != self._last:
            plain = [body for body in bodies if isinstance(body, Body)]
            alike = len(plain) == len(bodies)
            self._last_frames = self._batch(plain) if alike else b"".join([self._frame(body) for body in bodies])
            self._last = list(bodies)
        return self._last_frames

    def _frame(self, body: Body | DeflatedBody) -> bytes:
        raise NotImplementedError

    def _batch(self, bodies: Sequence[Body]) -> bytes:
        raise NotImplementedError


class _V1Json(_Batches, _Json):
    subprotocol: ClassVar[str | None] = "trio-hub.v1.json"
    acknowledges: ClassVar[bool] = True
    batches: ClassVar[bool] = True

    def _frame(self, body: Body | DeflatedBody) -> bytes:
        return body.v1_frame()

    def _batch(self, bodies: Sequence[Body]) -> bytes:
        array = b",".join([body.as_json() for body in bodies])
        return b"".join((frame_head(_WHOLE_TEXT, len(array) + 2), b"[", array, b"]")) if bodies else b""


class _V1Cbor(_Batches):
    subprotocol: ClassVar[str | None] = "trio-hub.v1.cbor"
    acknowledges: ClassVar[bool] = True
    batches: ClassVar[bool] = True

    def encode(self, message: Message) -> bytes:
        try:
            return cbor.dumps(msgspec.to_builtins(as_object(message), builtin_types=(bytes,)))
        except (TypeError, ValueError, RecursionError, UnicodeEncodeError, *cbor.Unencodable) as error:
            raise Misuse(f"cannot be encoded as CBOR: {error}") from error

    def encode_reply(self, seq: int, data: Any) -> bytes:
        return self.encode(Reply(seq, data))

    def _value(self, message: str | bytes) -> Any:
        if type(message) is not bytes:
            raise PeerFault(CloseCode.UNSUPPORTED, "text frame, but this subprotocol is CBOR in binary frames")
        try:
            return cbor.loads(message)
        except cbor.Undecodable as error:
            raise PeerFault(CloseCode.INVALID_DATA, f"not valid CBOR: {error}") from error

    def _frame(self, body: Body | DeflatedBody) -> bytes:
        return body.cbor_frame()

    def _batch(self, bodies: Sequence[Body]) -> bytes:
        array = b"".join([cbor.array_head(len(bodies)), *[body.as_cbor() for body in bodies]])
        return frame_head(_WHOLE_BINARY, len(array)) + array if bodies else b""


COMPAT: Final[Codec] = _Compat()
V1_JSON: Final[Codec] = _V1Json()
V1_CBOR: Final[Codec] = _V1Cbor()
CODECS: Final[dict[str | None, Codec]] = {codec.subprotocol: codec for codec in (COMPAT, V1_JSON, V1_CBOR)}
"""Every codec by its subprotocol."""


def let_go() -> None:
    """Have every codec let go of the events whose frames it made last."""
    for codec in CODECS.values():
        codec.let_go()
