"""The index of a hub alone, in this process: what one call costs where few are subscribed, and where very many are.

Every member has one topic, which it shares with nine others. Those who are looked at are drawn from all of them, and
always in the same way; so with very many, what is looked at is not in the processor's caches, as in a hub.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from statistics import median

import attrs

from trio_hub import Target, topic
from trio_hub.hub.index import Index

__all__ = ["CALLS", "LARGE", "SMALL", "IndexCosts", "measure"]

SMALL, LARGE = 1_000, 100_000
CALLS = "subscribe", "unsubscribe", "select"
_SHARE = 10  # members of one topic
_DRAWN = 1_000  # members or topics that are looked at in one round


@attrs.define(eq=False)
class Member:
    """As much of a connection as the index knows."""

    id: str
    user: str
    topics: set[str] = attrs.field(factory=set)


IndexCosts = dict[int, dict[str, float]]
"""By number of subscriptions and call: microseconds each."""


def measure(rounds: int, sizes: Sequence[int] = (SMALL, LARGE)) -> IndexCosts:
    """Return the medians over so many rounds, after a trial; all sizes take part in each."""
    samples = {size: Sample(size) for size in sizes}
    played: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size, sample in samples.items():
            costs = sample.play()
            if number:
                played[size].append(costs)
    return {size: {call: median(costs[call] for costs in each) for call in CALLS} for size, each in played.items()}


class Sample:
    """An index with so many subscriptions, and those in it that are looked at."""

    def __init__(self, subscriptions: int) -> None:
        self._index: Index[Member] = Index()
        members = [Member(f"id{number}", f"user{number}") for number in range(subscriptions)]
        for number, member in enumerate(members):
            self._index.add(member)
            self._index.subscribe(member, f"topic{number // _SHARE}")
        draw = random.Random(1)
        self._drawn = draw.choices(range(subscriptions // _SHARE), k=_DRAWN)
        self._members = draw.sample(members, min(_DRAWN, subscriptions))

    def play(self) -> dict[str, float]:
        """Return what one of each call costs, in microseconds."""
        targets = [topic(f"topic{number}") for number in self._drawn]
        topics = [f"topic{number}" for number in self._drawn]
        subscribed = _each(lambda: self._change(self._index.subscribe, topics), len(self._members))
        unsubscribed = _each(lambda: self._change(self._index.unsubscribe, topics), len(self._members))
        selected = _each(lambda: self._select(targets), len(targets))
        return {"subscribe": subscribed, "unsubscribe": unsubscribed, "select": selected}

    def _change(self, call: Callable[[Member, str], bool], topics: Sequence[str]) -> None:
        for member, name in zip(self._members, topics, strict=True):
            call(member, name)

    def _select(self, targets: Sequence[Target]) -> None:
        """Select as a hub does, which copies the view."""
        for target in targets:
            list(self._index.select(target))


def _each(act: Callable[[], None], count: int) -> float:
    begun = time.perf_counter()
    act()
    return 1e6 * (time.perf_counter() - begun) / count
