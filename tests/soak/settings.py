"""What a soak is told; every process of it gets the same, and knows from it alone who must hear what."""

from __future__ import annotations

import json
import random
from typing import Self

import attrs

__all__ = ["Settings"]

_TOPICS_EACH = (2, 5)  # of one client: 3.5 on average, so that 300 clients hear each event of 100 topics ten times


@attrs.frozen(kw_only=True)
class Settings:
    """`rate` is events a second in all; `cuts` the shortest and the longest time between two cuts of one link."""

    clients: int = 300
    seconds: float = 60.0
    rate: float = 2000.0
    cuts: tuple[float, float] = attrs.field(default=(1.0, 3.0), converter=tuple)
    seed: int = 1
    topics: int = 100
    crowds: int = 2
    """Processes that the clients are spread over: one alone does not keep up with 20 000 deliveries a second."""

    @classmethod
    def parse(cls, word: str) -> Self:
        """Return the settings that `spelled` returned as one word."""
        return cls(**json.loads(word))

    def spelled(self) -> str:
        """Return them as one word of a command."""
        return json.dumps(attrs.asdict(self), separators=(",", ":"))

    def chance(self, client: int, purpose: str) -> random.Random:
        """Return this client's own source of chance for one purpose: nothing else that happens changes its draws."""
        return random.Random(f"{self.seed} {client} {purpose}")

    def topics_of(self, client: int) -> list[int]:
        """Return the topics that a client hears."""
        chance = self.chance(client, "topics")
        return chance.sample(range(self.topics), min(self.topics, chance.randint(*_TOPICS_EACH)))

    def topic_of(self, n: int) -> int:
        """Return the topic that event `n` is published to: each in turn."""
        return n % self.topics

    def heard_by(self, client: int, published: int) -> list[int]:
        """Return which of so many events a client must hear, in order."""
        return sorted(n for topic in self.topics_of(client) for n in range(topic, published, self.topics))

    def clients_of(self, crowd: int) -> range:
        """Return the clients that live in one of the crowds."""
        return range(crowd, self.clients, self.crowds)
