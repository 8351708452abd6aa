"""Who is here: connections by id, by user and by topic. Pure.

Whoever is selected is found in time proportional to how many they are, never to how many are here. A dict with no
values serves as a set that keeps its order, so every run of a program serves recipients in the same order.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

import attrs

from trio_hub.errors import Misuse
from trio_hub.targets import Target

__all__ = ["Index", "IndexStatistics"]


class Member(Protocol):
    """What the index needs to know of a connection. `topics` belongs to the index."""

    id: str
    topics: set[str]

    @property
    def user(self) -> str: ...


M = TypeVar("M", bound=Member)


@attrs.frozen
class IndexStatistics:
    """How many there are."""

    connections: int
    users: int
    topics: int


class Index(Generic[M]):
    """Connections, found by id, user or topic. Empty sets are removed: those who left leave nothing behind."""

    def __init__(self) -> None:
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

    def add(self, member: M) -> None:
        """Enter a connection, by its id and user."""
        self._by_id[member.id] = member
        self._by_user.setdefault(member.user, {})[member] = None

    def remove(self, member: M) -> None:
        """Take a connection out of everything it is in. One that is not here is no error."""
        if self._by_id.get(member.id) is member:
            del self._by_id[member.id]
            _discard(self._by_user, member.user, member)
            for topic in list(member.topics):
                self.unsubscribe(member, topic)

    def rename(self, member: M, id: str) -> None:
        """Note that this connection is about to have another id."""
        del self._by_id[member.id]
        self._by_id[id] = member

    def subscribe(self, member: M, topic: str) -> bool:
        """Subscribe a connection to a topic; False if it was, or is not here."""
        if topic in member.topics or self._by_id.get(member.id) is not member:
            return False
        member.topics.add(topic)
        self._by_topic.setdefault(topic, {})[member] = None
        return True

    def unsubscribe(self, member: M, topic: str) -> bool:
        """End a subscription; False if there was none."""
        if topic not in member.topics:
            return False
        member.topics.remove(topic)
        _discard(self._by_topic, topic, member)
        return True

    def select(self, target: Target) -> Collection[M]:
        """Return who should hear: a live view, so copy it before you wait."""
        match target.kind:
            case "everyone":
                return self._by_id.values()
            case "topic":
                return self._by_topic.get(target.name, ())
            case "user":
                return self._by_user.get(target.name, ())
            case "connection":
                member = self._by_id.get(target.name)
                return () if member is None else (member,)
        raise Misuse(f"nobody knows how to select {target}")


def _discard(sets: dict[str, dict[M, None]], key: str, member: M) -> None:
    """Remove a member from one of the sets, and the set when it is empty."""
    members = sets[key]
    del members[member]
    if not members:
        del sets[key]
