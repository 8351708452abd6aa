"""How long others wait while a hub tells a crowd something: pings, sent all the time, and their round trips.

The crowd is one sink, cheap and in no hurry, so that it leaves a core to the one who pings. Its links and the server
are the same with and without publishes: what a round trip takes without them is the machine's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import attrs

from benchmarks.contenders import Contender, Opening
from benchmarks.conversation import Program, python
from benchmarks.report import quantile

__all__ = ["PINGER", "Waits", "measure", "waits_from"]

EVERY = 0.25  # s, between two publishes
SIZE = 200  # bytes of an event
PATIENCE = 120.0  # s, for a crowd to come
LATE = 20.0  # s, for the last replies and deliveries
PINGER = Opening("/ws", "trio-hub.v1.json", 1, '{"ack":0}')
"""How `benchmarks.load.pinger` comes to a hub."""


@attrs.frozen
class Waits:
    """Round trips in seconds, and to how many one event was `published` meanwhile, and how often."""

    count: int
    p50: float
    p99: float
    longest: float
    recipients: int
    published: int


def measure(server: Contender, crowd: int, seconds: float) -> tuple[Waits, Waits]:
    """Return the waits without publishes, and with them, over so many seconds each. Raises `Failed`."""
    with ExitStack() as stack:
        hub = stack.enter_context(Program(server.program(SIZE)))
        port, facts = hub.facts["port"], hub.facts
        words = port, server.opening.word, crowd, facts["unit"], facts["ack"]
        listeners = stack.enter_context(Program(python("benchmarks.load.sink", *words), within=PATIENCE))
        pinger = stack.enter_context(Program(python("benchmarks.load.pinger", port, PINGER.word)))
        pinger.ask("ping", 0.2, within=LATE)  # a trial
        quiet = pinger.ask("ping", seconds, within=seconds + LATE)["trips"]
        publishes = max(int(seconds / EVERY), 1)
        listeners.tell("take", publishes * crowd, seconds + LATE)
        pinger.tell("ping", publishes * EVERY)
        _publish(hub, publishes)
        trips = pinger.listen(seconds + LATE)["trips"]
        listeners.listen(seconds + LATE + 5)
        return waits_from(quiet, 0, 0), waits_from(trips, crowd, publishes)


def _publish(hub: Program, publishes: int) -> None:
    begun = time.monotonic()
    for number in range(publishes):
        time.sleep(max(begun + (number + 0.5) * EVERY - time.monotonic(), 0))
        hub.ask("publish", 1, 1)


def waits_from(trips: Sequence[float], recipients: int, published: int) -> Waits:
    """Return what matters of round trips."""
    ordered = sorted(trips)
    return Waits(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1], recipients, published)
