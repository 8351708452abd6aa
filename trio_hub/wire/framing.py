"""How one end of a link writes: whole messages, messages in fragments, and control frames, in its dialect."""

from __future__ import annotations

import secrets
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Final

from trio_hub.dialect import PRIVATE_CONTROL, Dialect
from trio_hub.errors import Misuse
from trio_hub.messages import CloseReason, Kind
from trio_hub.wire.deflate import DeflatedMessage, Deflater
from trio_hub.wire.frames import (
    BINARY,
    CLOSE,
    DEFLATED,
    LARGEST_CONTROL,
    TEXT,
    close_payload,
    frame_head,
    masked_frame,
    message_frames,
    utf8,
)
from trio_hub.wire.masking import apply_long_mask, apply_mask, private_key
from trio_hub.wire.pieces import GIVEN_UP, NUMBERED

if TYPE_CHECKING:
    from trio_hub.wire.sealing import Sealer

__all__ = ["Fragments", "Framer", "opcode_and_payload"]

_FIN: Final = 0x80


class _Numbers:
    """The numbers of webson's streams, upwards and round again, without those under way; 0 where there are none."""

    __slots__ = ("_latest", "_taken", "given_up", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.given_up = 0
        self._latest = 0
        self._taken: set[int] = set()

    @property
    def all_taken(self) -> bool:
        """Whether none is left; where there are none at all, whether one message at a time is what there is."""
        return len(self._taken) >= self.limit

    def take(self) -> int:
        if not self.limit:
            return 0
        self._latest = self._latest % self.limit + 1
        while self._latest in self._taken:
            self._latest = self._latest % self.limit + 1
        self._taken.add(self._latest)
        return self._latest

    def release(self, number: int) -> None:
        self._taken.discard(number)


_NO_NUMBERS: Final = _Numbers(0)


def _new_key() -> bytes:
    return secrets.token_bytes(4)  # nobody can guess it (section 5.3)


class Framer:
    """Makes the frames of one end.

    `streams` is how many messages in fragments it may have under way at once, where they have numbers, else 0: then
    nothing else goes out until one is ended. `is_occupied` says that no message can begin now. `new_key` makes the key
    of each mask.
    """

    __slots__ = (
        "_deflater",
        "_is_plain",
        "_masks",
        "_numbers",
        "_sealer",
        "dialect",
        "is_occupied",
        "largest_control",
        "new_key",
    )

    def __init__(
        self,
        dialect: Dialect,
        *,
        client: bool,
        deflater: Deflater | None = None,
        sealer: Sealer | None = None,
        streams: int = 0,
    ) -> None:
        self.dialect = dialect
        self._masks = client or dialect.always_mask
        self._deflater = deflater
        self._sealer = sealer
        self._is_plain = dialect.is_standard
        self._numbers = _Numbers(streams) if streams else _NO_NUMBERS
        self.new_key = _new_key
        self.is_occupied = False
        self.largest_control = LARGEST_CONTROL - (sealer.overhead if sealer is not None else 0)

    def frame(self, first: int, payload: bytes) -> bytes:
        """Return one frame whose first byte is `first`."""
        if self._sealer is not None:
            payload = self._sealer.seal(first, payload)
        head = frame_head(first, len(payload))
        if not self._masks:
            return head + payload
        key = self.new_key()
        if self.dialect.private_mask:
            payload = apply_long_mask(payload, private_key(self.dialect.private_mask, key))
        else:
            payload = apply_mask(payload, key)
        return masked_frame(head, key, payload)

    def control(self, opcode: int, payload: bytes = b"") -> bytes:
        """Return a control frame. Raises `Misuse` for a payload that is too large for one (section 5.5)."""
        self._check_control(payload)
        return self.frame(_FIN | opcode, payload)

    def close(self, close: CloseReason) -> bytes:
        """Return a close frame; its reason is cut where it is too long. Raises `Misuse` for a code never sent."""
        return self.frame(_FIN | CLOSE, close_payload(close, self.largest_control))

    def messages(self, messages: Iterable[str | bytes], kind: int | None = None) -> list[bytes]:
        """Return whole messages as frames, or several frames joined: each item may be written by itself.

        Of this `kind`, or else text for `str` and binary for `bytes`. Raises `Misuse` for what cannot be sent.
        """
        if self._is_plain and kind is None:
            return [message_frames(messages, mask=self._masks, deflater=self._deflater)]
        checked = [self.checked(message, kind) for message in messages]  # all, before the first frame has its place
        frames = [frame for opcode, payload in checked for frame in self._message(opcode, payload)]
        return frames if self.dialect.is_webson else [b"".join(frames)]

    def checked(self, message: str | bytes, kind: int | None) -> tuple[int, bytes]:
        """Return opcode and payload of a message, as `opcode_and_payload` does. Raises `Misuse` as `messages` does."""
        opcode, payload = opcode_and_payload(message, kind)
        self.check(opcode, message)
        return opcode, payload

    def _message(self, opcode: int, payload: bytes) -> list[bytes]:
        if opcode in PRIVATE_CONTROL:
            return [self.control(opcode, payload)]
        most = self.dialect.chunk_size or max(len(payload), 1)
        if len(payload) <= most:
            return [self._whole(opcode, payload)]
        fragments = self.begin(opcode)
        size = len(payload)
        return [fragments.piece(payload[at : at + most], last=at + most >= size) for at in range(0, size, most)]

    @property
    def way(self) -> Hashable:
        """What all framers have in common that make the same bytes of a message; None where no two do."""
        if self._masks or self._sealer is not None or self._numbers.limit:
            return None
        return self.dialect, self._deflater

    @property
    def contents_way(self) -> Hashable:
        """The same for `contents`, which are masked for each link; None where there are none."""
        return (None, self._deflater) if self._is_plain else None

    def contents(self, opcode: int, payload: bytes) -> tuple[int, bytes]:
        """Return the first byte, and what becomes of the payload before it is masked, of a message in one `frame`."""
        if self._deflater is not None and len(payload) >= self._deflater.options.above:
            deflated = self._deflater.deflate(payload)
            if len(deflated) < len(payload):
                return _FIN | DEFLATED | opcode, deflated
        return _FIN | opcode, payload

    def _whole(self, opcode: int, payload: bytes) -> bytes:
        first, payload = self.contents(opcode, payload)
        if self._numbers.limit:
            number = self._numbers.take()
            self._numbers.release(number)
            first, payload = first | NUMBERED, number.to_bytes(2) + payload
        return self.frame(first, payload)

    def check(self, kind: int, message: str | bytes) -> None:
        """Raise `Misuse` unless this message, of this kind, can be sent here."""
        if kind in PRIVATE_CONTROL:
            self._check_control(message)
        if (kind == Kind.TEXT) is not isinstance(message, str):
            raise Misuse(
                f"text is str and has kind {Kind.TEXT}, every other kind is bytes: not {kind} with {_name(message)}"
            )
        self.check_kind(kind)

    def _check_control(self, payload: str | bytes) -> None:
        if len(payload) > self.largest_control:
            raise Misuse(f"a control frame takes {self.largest_control} bytes here, not {len(payload)}")

    def check_kind(self, kind: int) -> None:
        """Raise `Misuse` unless messages of this kind can be sent here."""
        if kind not in (TEXT, BINARY) and kind not in self.dialect.opcodes:
            raise Misuse(f"messages of kind {kind} are not known in this link's dialect")

    # -- in fragments

    @property
    def is_spent(self) -> bool:
        """Whether so many messages were given up that no number is left."""
        return self._numbers.limit > 0 and self._numbers.given_up >= self._numbers.limit

    def begin(self, kind: int) -> Fragments:
        """Begin a message in fragments, while not occupied. It must be ended, or given up."""
        self.check_kind(kind)
        if kind in PRIVATE_CONTROL:
            raise Misuse("a control frame is not sent in fragments")
        number = self._numbers.take()
        self.is_occupied = self._numbers.all_taken
        deflated = None
        if self._deflater is not None and not self.dialect.is_webson:
            deflated = DeflatedMessage(self._deflater)
        return Fragments(self, kind, number, deflated)

    def give_up(self, number: int) -> None:
        """Note that a message in fragments was given up: a number stays taken."""
        self._numbers.given_up += number > 0
        self.is_occupied = number > 0 and self._numbers.all_taken

    def end(self, number: int) -> None:
        """Note that a message in fragments has ended; one with a number may be used again."""
        self._numbers.release(number)
        self.is_occupied = False


class Fragments:
    """One message, fragment by fragment (section 5.4, or as webson has it)."""

    __slots__ = ("_begun", "_deflated", "_framer", "_kind", "_number")

    def __init__(self, framer: Framer, kind: int, number: int, deflated: DeflatedMessage | None) -> None:
        self._framer = framer
        self._kind = kind
        self._number = number
        self._deflated = deflated
        self._begun = False

    def piece(self, payload: bytes, *, last: bool = False) -> bytes:
        """Return the frame of the next piece."""
        first = self._first(last)
        if self._deflated is not None:
            payload = self._deflated.deflate(payload, last=last)
        if self._number:
            payload = self._number.to_bytes(2) + payload
        self._begun = True
        if last:
            self._framer.end(self._number)
        return self._framer.frame(first, payload)

    def _first(self, last: bool) -> int:
        first = _FIN if last else 0
        if not self._begun or self._framer.dialect.is_webson:
            first |= self._kind
        if self._deflated is not None and not self._begun:
            first |= DEFLATED
        return first | NUMBERED if self._number else first

    def give_up(self) -> bytes | None:
        """Return the frame that says that the rest will not come; None where only the link's end can say so.

        Nothing has to be said where nothing of it was.

        The number is not used again: webson keeps what was given up in mind.
        """
        if not self._begun:
            self._framer.end(self._number)
            return b""
        self._framer.give_up(self._number)
        if not self._number:
            return None
        return self._framer.frame(NUMBERED | self._kind, (self._number | GIVEN_UP).to_bytes(2))


def opcode_and_payload(message: str | bytes, kind: int | None) -> tuple[int, bytes]:
    """Return both, for a message of this kind or, if none is said, of the usual one. Raises `Misuse` for bad text."""
    usual, payload = (BINARY, message) if isinstance(message, bytes) else (TEXT, utf8(message))
    return (usual if kind is None else kind), payload


def _name(message: object) -> str:
    return type(message).__name__
