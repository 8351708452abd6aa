"""What a hub holds, and what has happened in it."""

from __future__ import annotations

import attrs

from trio_hub.hub.index import IndexStatistics

__all__ = ["Counts", "HubStatistics"]


@attrs.define
class Counts:
    """What has happened since the hub began. Whoever sees it happen counts it."""

    published: int = 0
    offered: int = 0
    dropped: int = 0
    resumed: int = 0
    gaps: int = 0
    relieved: int = 0
    too_fast: int = 0
    refused: int = 0
    editor_failures: int = 0
    restarts: int = 0


@attrs.frozen
class HubStatistics:
    """What the hub holds at this moment, and what has happened in it since it began.

    Held: `inbox` publishes; for all connections together `owed_count` and `kept_count` events of `owed_size` and
    `kept_size` bytes, as if none were shared; and `held_size` bytes of events in all, each counted once, which is
    what `HubOptions.budget` limits.

    Happened: `published` events, `offered` to so many recipients in all, `dropped` as their `Delivery` allows;
    `resumed` connections, `gaps` told of, `relieved` connections of what they held for the budget's sake;
    `too_fast` requests were refused with 429, and `refused` arrivals for which there was no place.
    """

    index: IndexStatistics
    inbox: int
    owed_count: int
    owed_size: int
    kept_count: int
    kept_size: int
    held_size: int
    published: int
    offered: int
    dropped: int
    resumed: int
    gaps: int
    relieved: int
    too_fast: int
    refused: int
    editor_failures: int
    restarts: int
