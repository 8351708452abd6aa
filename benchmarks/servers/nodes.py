"""What nodes do as they are told, whoever's they are: each is one of two that share a Redis.

    python -m benchmarks.servers.node_hub SIZE URL TOPICS CLIENTS

An event takes SIZE bytes, its envelope included; those that are published go to TOPICS topics, one after the other. Of
CLIENTS each hears its share of them, and where there is one topic all hear that.

``ready`` answers when what is said at the other node comes here. ``publish MESSAGES BURST`` answers with when it began,
and the CPU time until then. ``heard COUNT`` waits until so many in all have come from the other node, and answers with
when that was, ``cpu``, and how many are ``lost``, as far as this node knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

__all__ = ["LOOK", "shares_of", "topics_of"]

LOOK = 0.001  # s, between two looks at what was heard


def topics_of(number: int) -> list[str]:
    """Return the names of so many topics, all as long as each other."""
    return [f"t{each:04}" for each in range(number)]


def shares_of(topics: Sequence[str], clients: int) -> Iterator[list[str]]:
    """Return what each client hears, in the order in which they come."""
    step = min(clients, len(topics))
    return (list(topics[number % step :: step]) for number in count())
