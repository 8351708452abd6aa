"""What a connection takes along where it goes on at another node: its log, and what it has asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from trio_hub.wire.bodies import Body

__all__ = ["Luggage"]


@attrs.frozen
class Luggage:
    """All that is held for one connection id.

    `kept` have the numbers below `next_number`, `owed` none yet. `highest` is the highest request, `replies` are those
    that may be asked for again, by the numbers of their requests, `streamed` the requests whose replies were streamed.
    """

    next_number: int
    kept: Sequence[Body]
    owed: Sequence[Body]
    topics: Iterable[str]
    highest: int = 0
    replies: Mapping[int, str | bytes] = attrs.field(factory=dict)
    streamed: Sequence[int] = ()
