"""What a hub holds, and what has happened in it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from trio_hub.hub.index import IndexStatistics
from trio_hub.peer.connection import Connection

__all__ = ["OTHER", "Counts", "Durations", "HubStatistics"]

OTHER: Final = "other"
"""What stands for all names of events that are not counted by themselves."""

_MOST_NAMES = 100  # of events: clients may choose some, where they may publish, and each would be kept for ever
_LONGEST_NAME = 100
_FAILURES = range(400, 600)
_GAP_REASONS = ("expired", "moved", "overflow", "restarted", "unknown")
_DROP_REASONS = ("away", "behind", "expired", "replaced")


@attrs.define
class Durations:
    """How often something took how long: `counts[n]` times at most `BOUNDS[n]` seconds, and more than the bound before;
    the last count is of what took longer than any bound. `total` is the sum, in seconds.
    """

    BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(Durations.BOUNDS) + 1))
    total: float = 0.0

    def note(self, seconds: float) -> None:
        """Count one that took so long."""
        self.counts[bisect_left(self.BOUNDS, seconds)] += 1
        self.total += seconds

    def copy(self) -> Durations:
        """Return what was counted so far."""
        return Durations(list(self.counts), self.total)


@attrs.define
class Counts:
    """What has happened since the hub began. Whoever sees it happen counts it."""

    published: dict[str, int] = attrs.field(factory=dict)
    """By the events' names; see `note_published`."""
    broadcast: int = 0
    offered: int = 0
    dropped: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(_DROP_REASONS, 0))
    """By reason."""
    returned: int = 0
    resumed: int = 0
    gaps: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(_GAP_REASONS, 0))
    """By reason."""
    relieved: int = 0
    answered: dict[int, int] = attrs.field(factory=dict)
    """By status; see `note_answered`."""
    too_fast: int = 0
    refused: int = 0
    editor_failures: int = 0
    restarts: int = 0
    fan_out: Durations = attrs.field(factory=Durations)

    def note_published(self, name: str) -> None:
        """Count an event by its name, or as `OTHER` where that is long, or one too many."""
        published = self.published
        if name not in published and (len(published) >= _MOST_NAMES or len(name) > _LONGEST_NAME):
            name = OTHER
        published[name] = published.get(name, 0) + 1

    def note_answered(self, status: int) -> None:
        """Count a request by the status of its reply; a handler's failure with a status that is none counts as 500."""
        if status != 200 and status not in _FAILURES:
            status = 500
        self.answered[status] = self.answered.get(status, 0) + 1

    def note_dropped(self, dropped: Mapping[str, int]) -> None:
        """Count what was dropped, by reason."""
        for reason, count in dropped.items():
            self.dropped[reason] += count


@attrs.frozen
class HubStatistics:
    """What the hub holds at this moment, and what has happened in it since it began.

    Held: `attached` connections that have a link at this moment; `inbox` publishes; for all connections together
    `owed_count` and `kept_count` events of `owed_size` and `kept_size` bytes, as if none were shared; and `held_size`
    bytes of events in all, each counted once, which is what `HubOptions.budget` limits.

    Happened: `published` events, of which `broadcast` were offered to everybody they are for, `offered` to so many
    recipients in all, `dropped` as their `Delivery` allows; `returned` connections wanted to go on, and `resumed` of
    them did; `gaps` told of, `relieved` connections of what they held for the budget's sake; `too_fast` requests were
    refused with 429, and `refused` arrivals for which there was no place. `fan_out` says how long it took to offer a
    burst of events to everybody it is for.

    `published_by_name` counts the first hundred names, and all others as ``other``. Events are dropped because their
    recipient is ``away`` or too far ``behind``, or they have ``expired`` or been ``replaced``; the reasons of gaps are
    those of `Gap`. `answered_by_status` counts requests by the status of their reply, which is 200 for OK.
    """

    index: IndexStatistics
    attached: int
    inbox: int
    owed_count: int
    owed_size: int
    kept_count: int
    kept_size: int
    held_size: int
    published: int
    published_by_name: Mapping[str, int]
    broadcast: int
    offered: int
    dropped: int
    dropped_by_reason: Mapping[str, int]
    returned: int
    resumed: int
    gaps: int
    gaps_by_reason: Mapping[str, int]
    relieved: int
    answered_by_status: Mapping[int, int]
    too_fast: int
    refused: int
    editor_failures: int
    restarts: int
    fan_out: Durations

    @classmethod
    def of(
        cls, counts: Counts, index: IndexStatistics, connections: Sequence[Connection], *, inbox: int, held_size: int
    ) -> HubStatistics:
        """Return what has happened, and what these connections, the index, and the inbox hold."""
        outboxes = [connection.outbox.statistics() for connection in connections]
        counts = attrs.evolve(counts, dropped=dict(counts.dropped))
        for each in outboxes:
            counts.note_dropped(each.dropped_by_reason)
        return cls(
            index=index,
            attached=sum([connection.attached for connection in connections]),
            inbox=inbox,
            owed_count=sum([each.owed_count for each in outboxes]),
            owed_size=sum([each.owed_size for each in outboxes]),
            kept_count=sum([each.kept_count for each in outboxes]),
            kept_size=sum([each.kept_size for each in outboxes]),
            held_size=held_size,
            published=sum(counts.published.values()),
            published_by_name=dict(counts.published),
            broadcast=counts.broadcast,
            offered=counts.offered,
            dropped=sum(counts.dropped.values()),
            dropped_by_reason=counts.dropped,
            returned=counts.returned,
            resumed=counts.resumed,
            gaps=sum(counts.gaps.values()),
            gaps_by_reason=dict(counts.gaps),
            relieved=counts.relieved,
            answered_by_status=dict(counts.answered),
            too_fast=counts.too_fast,
            refused=counts.refused,
            editor_failures=counts.editor_failures,
            restarts=counts.restarts,
            fan_out=counts.fan_out.copy(),
        )
