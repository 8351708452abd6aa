"""What has become of sessions while some of them are being looked up.

Changes are a chain in which each knows the next one. Whoever looks a session up holds on to the latest change of that
moment, and finds from there whatever came after it; what nobody holds on to any more is forgotten. So no clock says
what came first, and nothing that is still of importance is ever forgotten.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator

import attrs

from trio_hub.hub.index import is_for
from trio_hub.peer.connection import Connection
from trio_hub.session import Session
from trio_hub.targets import Target

__all__ = ["Change", "Newcomer", "Selected", "are_alike", "selected"]


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


def selected(target: Target, session: Session, who: Newcomer | None = None) -> Selected:
    """Whether a target selects somebody with this session; without `who`, as far as the session alone can say."""
    match target.kind:
        case "topic" | "connection":
            return Selected.MAYBE if who is None else who.may_be_of(target, session)
        case "any":
            return max([selected(part, session, who) for part in target.parts], default=Selected.NO)
        case "all":
            return min([selected(part, session, who) for part in target.parts])
        case "minus":
            first, *others = [selected(part, session, who) for part in target.parts]
            return min(first, *(Selected(-other) for other in others))
    return Selected.YES if is_for(target, _Candidate(session)) else Selected.NO


def are_alike(target: Target, one: Session, other: Session) -> bool:
    """Whether a target cannot tell these sessions from each other."""
    if target.parts:
        return all(are_alike(part, one, other) for part in target.parts)
    return selected(target, one) is selected(target, other)


@attrs.frozen
class Newcomer:
    """Somebody on the way in: `since` is the latest change of when they came, `topics_of` a session are those that they
    will hear with it, and `resumes` is the connection that they come back to, if it was here when they came.
    """

    since: Change
    topics_of: Callable[[Session], Collection[str]]
    resumes: Connection | None

    def may_be_of(self, target: Target, session: Session) -> Selected:
        """Whether a topic or connection may be theirs, or may have been. It never is for certain: whether they may go
        on with that connection is decided later, and what they will hear they do not hear yet.
        """
        if self.resumes is not None and (target.kind == "topic" or target.name == self.resumes.id):
            return Selected.MAYBE
        if target.kind == "topic" and target.name in self.topics_of(session):
            return Selected.MAYBE
        return Selected.NO


@attrs.define
class _Candidate:
    """Whoever has this session, as a target sees them that asks for no topic or connection."""

    session: Session
    id: str = ""
    topics: set[str] = attrs.field(factory=set)
    topics_beside: set[str] = attrs.field(factory=set)

    @property
    def user(self) -> str:
        return self.session.user
