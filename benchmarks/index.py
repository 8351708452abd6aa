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

from trio_hub import topic
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
    topics_beside: set[str] = attrs.field(factory=set)


IndexCosts = dict[int, dict[str, float]]
"""By number of subscriptions and call: microseconds each."""


def measure(rounds: int, sizes: Sequence[int]) -> IndexCosts:
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
        topics = subscriptions // _SHARE
        drawn = draw.sample(range(subscriptions), min(_DRAWN, subscriptions))
        self._members = [members[number] for number in drawn]
        self._topics = [f"topic{(number // _SHARE + 1) % topics}" for number in drawn]  # of each, one it is not in
        self._targets = [topic(name) for name in self._topics]

    def play(self) -> dict[str, float]:
        """Return what one of each call costs, in microseconds."""
        acts = {
            "subscribe": lambda: self._change(self._index.subscribe),
            "unsubscribe": lambda: self._change(self._index.unsubscribe),
            "select": self._select,
        }
        return {call: 1e6 * _seconds(acts[call]) / len(self._members) for call in CALLS}

    def _change(self, call: Callable[[Member, str], bool]) -> None:
        for member, name in zip(self._members, self._topics, strict=True):
            call(member, name)

    def _select(self) -> None:
        """Select as a hub does, which copies the view."""
        for target in self._targets:
            list(self._index.select(target))


def _seconds(act: Callable[[], None]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun
