"""Who has had what is carried reliably: it may come to a node long after a connection came there that has had it.

A mark is the node that said something, and its number there, negative, as in `Body.mark`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import trio

from trio_hub.targets import Target, any_of, connection

__all__ = ["Mark", "Reliably"]

Mark = tuple[str, int]

_LASTS: Final = 60.0  # s, within which what was said comes to all nodes
_MOST: Final = 1000  # marks that are known to come
_MOST_LATE: Final = 10_000


class Reliably:
    """What was had here, lately or before it had left, and who came with what has not come here yet."""

    def __init__(self) -> None:
        self._had: OrderedDict[Mark, float] = OrderedDict()  # and when
        self._leaving: dict[Mark, None] = {}
        self._late: OrderedDict[Mark, list[str]] = OrderedDict()  # and the ids of those who have had it elsewhere

    def begin(self, mark: Mark) -> None:
        """Note that something of ours was had here, and is about to leave."""
        self._leaving[mark] = None

    def end(self, mark: Mark) -> None:
        """Note that it has left."""
        del self._leaving[mark]
        self._note(mark)

    def _note(self, mark: Mark) -> None:
        self._had[mark] = trio.current_time()
        while len(self._had) > _MOST:
            self._had.popitem(last=False)

    def come(self, mark: Mark, target: Target) -> Target:
        """Note that something for `target` has come, and return for whom it is: not for who has had it elsewhere."""
        self._note(mark)
        ids = self._late.pop(mark, ())
        return target - any_of(*map(connection, ids)) if ids else target

    def had_by(self, id: str) -> list[Mark]:
        """Return what a connection that leaves has had, or need not have any more, of all that may come late."""
        oldest = trio.current_time() - _LASTS
        lately = [mark for mark, at in self._had.items() if at >= oldest]
        return [*lately, *self._leaving, *[mark for mark, ids in self._late.items() if id in ids]]

    def note_had(self, id: str, marks: Iterable[Mark]) -> None:
        """Note what a connection has had that comes here."""
        for mark in marks:
            if mark not in self._had and mark not in self._leaving:
                self._late.setdefault(mark, []).append(id)
        while len(self._late) > _MOST_LATE:
            self._late.popitem(last=False)
