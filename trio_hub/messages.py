"""What is said: events, requests, replies and the small words around them. Frozen, and free of any spelling.

How they look on the wire is `wire.codecs`' business; the names of the members are those of the wire.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

__all__ = [
    "Ack",
    "AckReplies",
    "Cancel",
    "CloseCode",
    "CloseReason",
    "End",
    "Event",
    "Item",
    "Kind",
    "LinkStatus",
    "MalformedRequest",
    "More",
    "Reply",
    "Request",
    "Resumed",
]

HELLO: Final = "hello"
"""The name of event 0 of every connection id."""


class CloseCode:
    """The close codes we say (RFC 6455 section 7.4.1, and our own between 4100 and 4999).

    4100-4499: the client may come back and resume, except after `TAKEN_OVER`. 4500-4999: it stays away by itself.
    """

    NORMAL: Final = 1000
    GOING_AWAY: Final = 1001
    PROTOCOL_ERROR: Final = 1002
    UNSUPPORTED: Final = 1003
    NO_STATUS: Final = 1005
    ABNORMAL: Final = 1006
    INVALID_DATA: Final = 1007
    POLICY: Final = 1008
    TOO_BIG: Final = 1009
    INTERNAL: Final = 1011
    RESTART: Final = 1012
    TRY_AGAIN: Final = 1013
    TOO_SLOW: Final = 4100
    TAKEN_OVER: Final = 4101
    LOST_PATIENCE: Final = 4102
    NOT_AUTHENTICATED: Final = 4500
    SESSION_REVOKED: Final = 4501
    SESSION_EXPIRED: Final = 4502
    SESSION_REPLACED: Final = 4503
    TOO_MANY_SESSIONS: Final = 4504


class Kind:
    """What a message is, by its opcode (RFC 6455 section 5.2). Private dialects have others: 3-7 beside these, and
    11-15 for messages as short and as urgent as a ping.
    """

    TEXT: Final = 1
    BINARY: Final = 2


class LinkStatus(enum.Enum):
    """How a link is, as far as anybody can know."""

    CONNECTING = "connecting"
    """It is there, and nobody runs it yet."""
    READY = "ready"
    """It runs, and its peer is there as far as we know."""
    TIMEOUT = "timeout"
    """A pong is overdue. It may come yet: see `LinkOptions.grace`. Until then the link is used as before."""
    CLOSED = "closed"
    """How it ends is decided: `Link.closed` says it. The last status, always."""


@attrs.frozen
class CloseReason:
    """Why a link ended: the close code and the words that came with it."""

    code: int
    reason: str = ""

    @classmethod
    def come_again(cls, seconds: float, code: int = CloseCode.TRY_AGAIN) -> CloseReason:
        """Return what tells a peer to come again after so many seconds."""
        return cls(code, json.dumps({"retry_after": seconds}))

    def __str__(self) -> str:
        """Return both in one line, whatever a stranger has said: it may go into a log, or to a terminal."""
        words = self.reason if self.reason.isprintable() else repr(self.reason)[1:-1]
        return f"{self.code} {words}".rstrip()


@attrs.frozen
class Event:
    """Something said unasked: its name, its data, and what recipients may know of whom it was meant for.

    `data` is anything JSON can hold (attrs classes, datetimes and the like are written as msgspec writes them).
    `broadcast` is left to the hub unless the publisher sets it. `number` is the event's place in its connection:
    set on events that a client received, None on those that are still to be published.
    """

    name: str
    data: Any = attrs.field(factory=dict)
    broadcast: Mapping[str, Any] | None = None
    number: int | None = None


class Request(msgspec.Struct, frozen=True):  # nearly all that clients say: a Struct is read in a third of the time
    """Something asked. `seq` is the asker's number for it, `deadline` the seconds it is worth waiting for.

    `traceparent` names what it is a part of, where the asker traces that (W3C Trace Context); it may be any text.
    `items` says that the reply may be streamed, and how many items of it the asker takes until it says `More` (v1).
    """

    seq: int
    action: str
    data: Any = None
    deadline: float | None = None
    traceparent: str | None = None
    items: int | None = None


@attrs.frozen
class MalformedRequest:
    """A request that names its number, so that it can be answered, and is wrong in some other way."""

    seq: int
    fault: str


@attrs.frozen
class Reply:
    """The answer to request `seq_reply`: `data`, or (status, id, message) of a failure in `error`."""

    seq_reply: int
    data: Any = None
    error: tuple[int, str, str] | None = None


@attrs.frozen
class Item:
    """One item of the streamed reply to request `reply_to`. Takes a number, as an event does (v1)."""

    reply_to: int
    data: Any = None


@attrs.frozen
class End:
    """There are no more items for request `reply_to`: all were sent, or `error` says why not, as in a `Reply` (v1).

    Takes a number, as an event does.
    """

    reply_to: int
    error: tuple[int, str, str] | None = None


@attrs.frozen
class Resumed:
    """Said first on a resumed link (v1): the next event's number, the highest request, the largest message."""

    connection_id: str
    next: int
    requests: int
    max_message: int | None = None


@attrs.frozen
class Ack:
    """The client has handled every event up to this number of this connection id (v1).

    Without the id it speaks of whatever id the connection has by then; with it, an acknowledgement that crossed a
    new hello on its way is known to be stale.
    """

    number: int
    connection_id: str | None = None


@attrs.frozen
class AckReplies:
    """The client has every reply up to this request number; they need not be kept (v1)."""

    number: int


@attrs.frozen
class Cancel:
    """The client no longer wants request `seq` (v1)."""

    seq: int


@attrs.frozen
class More:
    """Of the streamed reply to request `seq` the asker takes `items` in all, counted from the first (v1).

    Each says the whole: so one that is lost with its link is made good by the next, and repeating it is harmless.
    """

    seq: int
    items: int
