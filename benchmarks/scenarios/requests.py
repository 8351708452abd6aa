"""Requests with replies: a name that is routed, data as JSON, an answer of its own for each.

A client asks for sums, as the server's own protocol spells it; routers by hand spell it as ours does. A caller in a
process of its own keeps so many requests under way on each of its links. Time runs from just before the first until all
sums are there; CPU time is the server's over the same span, and a little around. What ours does besides, by hand
nobody does: data is validated, and in v1 a request that is repeated is not carried out again.
"""

from __future__ import annotations

from benchmarks.contest import Outcomes, median_of
from benchmarks.report import Owed, Report, short
from benchmarks.round_trips import Round, Shape, report_of
from benchmarks.servers import REQUESTS
from benchmarks.settings import Settings

__all__ = ["run"]

SHAPES = Shape("pipelined", links=20, window=32), Shape("ping-pong", links=100, window=1)
OURS, RATE = "trio_hub v1.json", 100_000
_REFERENCES = ("websockets/uvloop", "picows/uvloop", "ws/node")


def run(settings: Settings) -> Report:
    """Measure every contender that is here with every shape."""
    load = "benchmarks.load.asker"
    return report_of("Requests", __doc__, REQUESTS, SHAPES, load, _REFERENCES, _owed, settings)


def _owed(work: str, outcomes: Outcomes[Round]) -> Owed:
    rate = median_of(outcomes.get(OURS, ""), lambda each: each.rate)
    met = None if rate is None else rate >= RATE
    return Owed(work, f"{OURS} >= {short(RATE)}/s", short(rate), met)
