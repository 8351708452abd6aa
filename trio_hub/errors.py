"""Every error this package raises, sorted by who is to blame::

    HubError
    |-- Misuse            us: a call that could never have worked
    |-- PeerFault         them: the other side broke the protocol
    |-- LinkLost          the world: this link is gone; a resume may mend it
    |   `-- Refused       the other side answered the upgrade with an HTTP error
    |-- Unreachable       the world: other processes cannot be reached now; what is done here goes on
    |-- StreamReset       one message was given up midway; the link and the others on it go on
    |-- NoPlace           a pool is full, or a name in it is taken
    |-- Gap               events were lost for good; what follows is complete again
    |-- RequestFailed     a request was answered with FAIL (handlers raise it to answer so)
    |   `-- OutcomeUnknown  a request was sent, and nobody can say whether it was carried out
    `-- Closed            over: this object will never work again

Facts are attributes; the text is for people. Nothing foreign (`OSError`, `ssl.SSLError`, an exception group) leaves
a public call of this package in place of one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from trio_hub.messages import CloseReason

__all__ = [
    "Closed",
    "Gap",
    "HubError",
    "LinkLost",
    "Misuse",
    "NoPlace",
    "OutcomeUnknown",
    "PeerFault",
    "Refused",
    "RequestFailed",
    "StreamReset",
    "Unreachable",
    "again",
]


E = TypeVar("E", bound=Exception)


def again(error: E) -> E:
    """Return an error that says the same, for one more who is to hear of it.

    One object that is raised again and again would keep every frame that it went through, with all that is in them.
    """
    another = type(error).__new__(type(error), *error.args)
    another.__dict__.update(error.__dict__)
    another.__cause__ = error.__cause__
    return another


class HubError(Exception):
    """The root of every error that trio_hub raises."""


class Misuse(HubError):
    """The caller asked for something that can never work, such as an event whose data cannot be encoded."""


class PeerFault(HubError):
    """The other side broke the protocol.

    `code` and `reason` are the close code (RFC 6455 section 7.4) and the words that were sent to it.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class LinkLost(HubError):
    """This link has ended. `close` says how: the code and reason of whoever ended it, 1006 if nobody said anything."""

    def __init__(self, close: CloseReason) -> None:
        super().__init__(str(close))
        self.close = close


class Refused(LinkLost):
    """The other side answered the upgrade with an HTTP error: `status`, `headers` (lower-case names), `body`."""

    def __init__(self, close: CloseReason, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(close)
        self.status = status
        self.headers = headers
        self.body = body


class Unreachable(HubError):
    """The backplane could not be reached, or did not answer in time, so nobody knows whether it did what was asked.

    `reason` says what was wrong, for people.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StreamReset(HubError):
    """One message was given up midway: by its sender, or by its receiver. Nothing else on the link is touched.

    `code` is one of the close codes, or a number of the application's own; `reason` are the words that came with it.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}" if reason else str(code))
        self.code = code
        self.reason = reason


class NoPlace(HubError):
    """A pool did not take a link, which is as it was, and so is everybody in the pool.

    `reason` is ``full``, or ``taken`` where another member has the name.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Gap(HubError):
    """Events for this connection were lost, and no resume can bring them back: fetch the state anew.

    `reason` is one of ``expired`` (away for longer than the window), ``overflow`` (more was owed than is kept),
    ``restarted`` (the hub forgot everything), ``moved`` (to another node, from where it cannot be fetched), ``unknown``
    (it does not know the connection). `last` is the number of the last event that was written to the old connection id,
    or None where nobody knows.
    """

    def __init__(self, reason: str, last: int | None) -> None:
        super().__init__(f"events after number {last} are lost: {reason}" if last is not None else reason)
        self.reason = reason
        self.last = last


class RequestFailed(HubError):
    """A request was answered with FAIL.

    A handler raises it to answer so; a client's `request` raises what the other side answered. `status` follows
    HTTP (400 wrong form, 401 who are you, 403 no right, 404 no such action, 429 too fast, 500 our fault, 503 busy);
    `id` is a word for programs, `message` a sentence for people.
    """

    def __init__(self, status: int, id: str, message: str) -> None:
        super().__init__(f"{status} {id}: {message}")
        self.status = status
        self.id = id
        self.message = message


class OutcomeUnknown(RequestFailed):
    """The request was sent, the server forgot this connection, and nobody can say whether it was carried out."""


class Closed(HubError):
    """This object has ended and will never work again. `close` says why, where a link was the reason."""

    def __init__(self, message: str, close: CloseReason | None = None) -> None:
        super().__init__(message)
        self.close = close
