"""The other nodes, as far as they can be heard: what each says of itself, and what was heard of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs
import trio

from trio_hub.cluster.numbering import Heard

__all__ = ["Node", "Nodes"]

_MOST: Final = 1000
_GONE_AFTER: Final = 3.0  # s without a beat


@attrs.define(eq=False)
class Node:
    """Another node, in this life of it: how its connections' ids begin, how many it has, and when it was heard last."""

    name: str
    origin: str = ""
    connections: int = 0
    beaten_at: float = -math.inf
    silent_since: float = -math.inf  # when it had not answered in time, for the last time
    heard: Heard = attrs.field(factory=Heard)
    has_left: bool = False
    in_doubt_since: float | None = None  # something that it said may be missing, and it has not told yet

    @property
    def is_here(self) -> bool:
        """Whether it lives, as far as we know."""
        return not self.has_left and trio.current_time() - self.beaten_at < _GONE_AFTER

    @property
    def is_answering(self) -> bool:
        """Whether there is sense in asking it: it was heard after it had not answered."""
        return self.is_here and self.beaten_at > self.silent_since


class Nodes:
    """The nodes that were heard lately."""

    def __init__(self) -> None:
        self._by_name: dict[str, Node] = {}

    def __iter__(self) -> Iterator[Node]:
        """All that are here."""
        return iter([node for node in self._by_name.values() if node.is_here])

    def answering(self) -> list[Node]:
        """Return those that are here, and can be asked something."""
        return [node for node in self if node.is_answering]

    def is_answering(self, name: str) -> bool:
        """Whether the node of this name is one of those."""
        return name in self._by_name and self._by_name[name].is_answering

    def note_silent(self, name: str) -> None:
        """Note that a node has not answered: nobody waits for it again before it is heard."""
        if name in self._by_name:
            self._by_name[name].silent_since = trio.current_time()

    def get(self, name: str) -> Node:
        """Return the node of this name, which was just heard."""
        node = self._by_name.pop(name, None)
        if node is None:
            node = Node(name)
        self._by_name[name] = node  # the one that was not heard for longest is first
        while len(self._by_name) > _MOST:
            del self._by_name[next(iter(self._by_name))]
        return node

    def of_origin(self, origin: str) -> Node | None:
        """Return the node that made connection ids which begin so, if it is here."""
        return next((node for node in self if node.origin == origin), None)

    def heard_up_to(self) -> dict[str, int]:
        """Return, of each, up to which number all is known."""
        return {node.name: node.heard.known or 0 for node in self._by_name.values()}

    def seen(self) -> dict[str, tuple[int, bool]]:
        """Return, of each, the highest number that was heard, or heard of, and whether it is still here."""
        return {node.name: (node.heard.highest, node.is_answering) for node in self._by_name.values()}

    def have_seen(self, seen: Mapping[str, tuple[int, bool]]) -> bool:
        """Whether all was heard that others have `seen`. A node that was gone before this one knew of it has said
        nothing that was for anybody here.
        """
        ours = self._by_name
        return all(
            number <= ours[name].heard.highest if name in ours else not is_here
            for name, (number, is_here) in seen.items()
        )

    def doubt(self) -> None:
        """Note that what they say may have been lost."""
        for node in self._by_name.values():
            node.heard.doubt()  # also of one that seems to have left: perhaps we did not hear it
            if not node.has_left:
                node.in_doubt_since = trio.current_time()

    @property
    def is_any_in_doubt(self) -> bool:
        """Whether something may be missing that nobody has told yet."""
        return any(node.in_doubt_since is not None and not node.has_left for node in self._by_name.values())

    def note_gone(self) -> bool:
        """Note who is gone; return whether anybody is who was in doubt: nobody can tell any more what is missing."""
        now, is_any_in_doubt = trio.current_time(), False
        for node in self._by_name.values():
            if now - max(node.beaten_at, node.in_doubt_since or node.beaten_at) > _GONE_AFTER and not node.has_left:
                node.has_left = True
                is_any_in_doubt |= node.in_doubt_since is not None
        return is_any_in_doubt

    def listens_to(self, channels: Iterable[str]) -> None:
        """Note that we listen to these from now on."""
        for node in self._by_name.values():
            node.heard.listens_to(channels)
