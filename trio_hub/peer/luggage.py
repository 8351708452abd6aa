"""What a connection takes along where it goes on at another node: its log, and what it has asked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import attrs

from trio_hub.wire.bodies import Body

__all__ = ["Luggage"]


@attrs.frozen(slots=False)
class Luggage:
    """All that is held for one connection id.

    `kept` have the numbers below `next_number`, `owed` none yet. `highest` is the highest request, `replies` are those
    that may be asked for again, by the numbers of their requests, `streamed` the requests whose replies were streamed.
    `heard` says how far each node was heard: what it said up to there is in the log, or was acknowledged, or is told of
    as missing.
    `since` is when it began (wall clock); `is_idle` says that nobody sits at the device.
    `reliably` are the marks of what was had, and may come late elsewhere.
    """

    next_number: int
    kept: Sequence[Body]
    owed: Sequence[Body]
    topics: Iterable[str]
    highest: int = 0
    replies: Mapping[int, str | bytes] = attrs.field(factory=dict)
    streamed: Sequence[int] = ()
    heard: Mapping[str, int] = attrs.field(factory=dict)
    since: float = attrs.field(factory=time.time)
    is_idle: bool = False
    reliably: Sequence[tuple[str, int]] = ()

    def knows(self, body: Body) -> bool:
        """Whether this event was owed where the luggage was packed. One that was carried reliably has a negative number
        in its mark: how far others were heard says nothing of it.
        """
        if body.mark is None:
            return False
        node, number = body.mark
        return 0 < number <= self.heard.get(node, 0) or body.mark in self._marks

    @cached_property
    def _marks(self) -> set[tuple[str, int] | None]:
        return {*[body.mark for body in (*self.kept, *self.owed)], *self.reliably}
