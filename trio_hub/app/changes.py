"""What has become of sessions while some of them are being looked up.

Changes are a chain in which each knows the next one. Whoever looks a session up holds on to the latest change of that
moment, and finds from there whatever came after it; what nobody holds on to any more is forgotten. So no clock says
what came first, and nothing that is still of importance is ever forgotten.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from trio_hub.hub.index import is_for
from trio_hub.peer.connection import Connection
from trio_hub.session import Session
from trio_hub.targets import Target

__all__ = ["Change", "Selected", "selected"]


@attrs.define(eq=False)
class Change:
    """Sessions that a target selects were revoked, or (`is_end` is False) are something else by now."""

    of: Target
    is_end: bool = False
    number: int = 0
    _next: Change | None = attrs.field(default=None, init=False, repr=False)

    def follow(self, of: Target, *, is_end: bool) -> Change:
        """Return the next change, which is the latest now."""
        self._next = Change(of, is_end, self.number + 1)
        return self._next

    def later(self, *, is_end: bool) -> Iterator[Target]:
        """Yield of whom the later changes of this kind were."""
        change = self
        while (following := change._next) is not None:
            change = following
            if change.is_end is is_end:
                yield change.of


class Selected(enum.IntEnum):
    """Whether somebody is among those whom a target selects, as far as it can be known."""

    NO = -1
    MAYBE = 0
    YES = 1


def selected(target: Target, session: Session, connection: Connection | None) -> Selected:
    """Whether a target selects this connection, with this session; None stands for somebody on the way in, of whom it
    is not known yet which connection that will be, and in which topics.
    """
    match target.kind:
        case "topic" | "connection" if connection is None:
            return Selected.MAYBE
        case "any":
            return max([selected(part, session, connection) for part in target.parts], default=Selected.NO)
        case "all":
            return min([selected(part, session, connection) for part in target.parts])
        case "minus":
            first, *others = [selected(part, session, connection) for part in target.parts]
            return min(first, *(Selected(-other) for other in others))
    return Selected.YES if is_for(target, _Candidate(session, connection)) else Selected.NO


class _Candidate:
    """A connection with a session that it may go on with, as a target sees it."""

    def __init__(self, session: Session, connection: Connection | None) -> None:
        self.session = session
        self.user = session.user
        self.id = "" if connection is None else connection.id
        self.topics: set[str] = set() if connection is None else connection.topics
        self.topics_beside: set[str] = set() if connection is None else connection.topics_beside
