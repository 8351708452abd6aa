"""Who is here: connections by id, by user and by topic. Pure.

Whoever is selected is found in time proportional to how many they are, never to how many are here; only what sessions
say is not indexed, so that a claim alone is looked for among all. A dict with no
values serves as a set that keeps its order, so every run of a program serves recipients in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

import attrs

from trio_hub.session import Session
from trio_hub.targets import Target, is_beside, meets_claim

__all__ = ["Index", "IndexStatistics", "is_for"]


class Member(Protocol):
    """What the index needs to know of a connection. `topics`, and `topics_beside` them, belong to the index."""

    id: str
    session: Session
    topics: set[str]
    topics_beside: set[str]

    @property
    def user(self) -> str: ...


M = TypeVar("M", bound=Member)


@attrs.frozen
class IndexStatistics:
    """How many there are."""

    connections: int
    users: int
    topics: int


def _nobody_cares(kind: str, name: str, is_here: bool) -> None:
    pass


class Index(Generic[M]):
    """Connections, found by id, user or topic. Empty sets are removed: those who left leave nothing behind.

    `heed` is called with each ``topic``, ``user`` and ``connection`` that is here from now on, or no more.
    """

    def __init__(self) -> None:
        self.heed: Callable[[str, str, bool], None] = _nobody_cares
        self._by_id: dict[str, M] = {}
        self._by_user: dict[str, dict[M, None]] = {}
        self._by_topic: dict[str, dict[M, None]] = {}

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._by_id)

    def statistics(self) -> IndexStatistics:
        """Return how many connections, users and topics there are."""
        return IndexStatistics(len(self._by_id), len(self._by_user), len(self._by_topic))

    def get(self, id: str) -> M | None:
        """Return the connection with this id."""
        return self._by_id.get(id)

    def of_user(self, user_id: str) -> Collection[M]:
        """Return the connections of a user: a live view, so copy it before you wait."""
        return self._by_user.get(user_id, ())

    def add(self, member: M) -> None:
        """Enter a connection, by its id and user."""
        self._by_id[member.id] = member
        self.heed("connection", member.id, True)
        self._enter(self._by_user, "user", member.user, member)

    def remove(self, member: M) -> None:
        """Take a connection out of everything it is in. One that is not here is no error."""
        if self._by_id.get(member.id) is member:
            del self._by_id[member.id]
            self.heed("connection", member.id, False)
            self._discard(self._by_user, "user", member.user, member)
            for topic in [*member.topics, *member.topics_beside]:
                self.unsubscribe(member, topic)

    def rename(self, member: M, id: str) -> None:
        """Note that this connection is about to have another id."""
        del self._by_id[member.id]
        self._by_id[id] = member
        self.heed("connection", member.id, False)
        self.heed("connection", id, True)

    def subscribe(self, member: M, topic: str) -> bool:
        """Subscribe a connection to a topic; False if it was, or is not here."""
        topics = _set_of(member, topic)
        if topic in topics or self._by_id.get(member.id) is not member:
            return False
        topics.add(topic)
        self._enter(self._by_topic, "topic", topic, member)
        return True

    def unsubscribe(self, member: M, topic: str) -> bool:
        """End a subscription; False if there was none."""
        topics = _set_of(member, topic)
        if topic not in topics:
            return False
        topics.remove(topic)
        self._discard(self._by_topic, "topic", topic, member)
        return True

    def _enter(self, sets: dict[str, dict[M, None]], kind: str, key: str, member: M) -> None:
        """Put a member into one of the sets."""
        members = sets.setdefault(key, {})
        if not members:
            self.heed(kind, key, True)
        members[member] = None

    def _discard(self, sets: dict[str, dict[M, None]], kind: str, key: str, member: M) -> None:
        """Remove a member from one of the sets, and the set when it is empty."""
        members = sets[key]
        del members[member]
        if not members:
            del sets[key]
            self.heed(kind, key, False)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield whatever is here, as `heed` is told of it."""
        for kind, known in (("connection", self._by_id), ("user", self._by_user), ("topic", self._by_topic)):
            for name in known:
                yield kind, name

    def select(self, target: Target) -> Collection[M]:
        """Return who should hear, each once: for a simple target a live view, so copy it before you wait."""
        match target.kind:
            case "everyone":
                return self._by_id.values()
            case "topic":
                return self._by_topic.get(target.name, ())
            case "user":
                return self.of_user(target.name)
            case "connection":
                member = self._by_id.get(target.name)
                return () if member is None else (member,)
            case "any":
                return dict.fromkeys(chain.from_iterable([self.select(part) for part in target.parts]))
            case "all":
                narrowest, *others = sorted(target.parts, key=self._breadth)
                return [each for each in self.select(narrowest) if all(is_for(part, each) for part in others)]
            case "minus":
                first, *others = target.parts
                return [each for each in self.select(first) if not any(is_for(part, each) for part in others)]
        return [each for each in self._by_id.values() if is_for(target, each)]

    def _breadth(self, target: Target) -> int:
        """Return about how many have to be looked at to select this."""
        match target.kind:
            case "topic" | "user" | "connection":
                return len(self.select(target))
            case "any":
                return sum([self._breadth(part) for part in target.parts])
            case "all":
                return min([self._breadth(part) for part in target.parts])
            case "minus":
                return self._breadth(target.parts[0])
        return len(self._by_id)


def _set_of(member: Member, topic: str) -> set[str]:
    """Return those of the topics of a member to which this one belongs: what it hears of beside them is its own."""
    return member.topics_beside if is_beside(topic) else member.topics


def is_for(target: Target, member: Member) -> bool:
    """Whether a target has this member among those it selects."""
    match target.kind:
        case "everyone":
            return True
        case "topic":
            return target.name in _set_of(member, target.name)
        case "user":
            return target.name == member.user
        case "connection":
            return target.name == member.id
        case "session":
            return target.name == member.session.id
        case "claim":
            return meets_claim(member.session.claims, target)
        case "any":
            return any(is_for(part, member) for part in target.parts)
        case "all":
            return all(is_for(part, member) for part in target.parts)
    first, *others = target.parts
    return is_for(first, member) and not any(is_for(part, member) for part in others)
