"""Which of the owed events may be dropped or replaced, and which have been. Pure; a part of the outbox.

An event that a newer one replaces is dead from that moment, but stays in the list of the owed until somebody sweeps:
so replacing costs the same however much is owed. Until then it counts, since it takes up memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from trio_hub.delivery import MUST
from trio_hub.wire.bodies import Body

__all__ = ["Droppable"]


class Droppable:
    """What the owed events allow. No owed event expires before `expiry`; what is dead has `dead_size` bytes."""

    __slots__ = ("_dead", "_latest", "dead_size", "expiry")

    def __init__(self, owed: Iterable[Body] = ()) -> None:
        self._latest: dict[str, Body] = {}  # by their key
        self._dead: set[Body] = set()
        self.dead_size = 0
        self.expiry = math.inf
        for body in owed:
            self.note(body)

    @property
    def dead(self) -> int:
        """How many are dead and still in the list."""
        return len(self._dead)

    def note(self, body: Body) -> None:
        """Note that this event is owed."""
        if body.delivery is not MUST:
            self.expiry = min(self.expiry, body.expires_at)
            if body.delivery.key is not None:
                self._latest[body.delivery.key] = body

    def replaced_by(self, body: Body) -> Body | None:
        """Return the owed event that this one is to replace."""
        return None if body.delivery.key is None else self._latest.get(body.delivery.key)

    def bury(self, older: Body) -> None:
        """Note that this event is dead."""
        self._dead.add(older)
        self.dead_size += older.size

    def sweep(self, owed: list[Body]) -> list[Body]:
        """Return the owed without what is dead, which is forgotten."""
        alive = [body for body in owed if body not in self._dead]
        self._dead.clear()
        self.dead_size = 0
        return alive

    def written(self, bodies: Iterable[Body]) -> None:
        """Note that these are owed no more: nothing can replace them."""
        for body in bodies:
            if self.replaced_by(body) is body:
                del self._latest[body.delivery.key]  # type: ignore[arg-type]
