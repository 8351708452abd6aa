"""Links alone, without a hub: how fast messages come back, small ones, single ones, and large ones.

Every server says back every text, with what its library offers, and no compression. A caller in a process of its own
keeps so many messages under way on each of its links, and says as many again as came back with a read. Time runs from
just before the first message until the last is back; CPU time is the server's over the same span, and a little around.
"""

from __future__ import annotations

from benchmarks.contest import Outcomes, median_ratio
from benchmarks.report import Owed, Report
from benchmarks.round_trips import Round, Shape, report_of
from benchmarks.servers import ECHO
from benchmarks.settings import Settings

__all__ = ["run"]

SHAPES = (
    Shape("64 B pipelined", links=20, window=32, size=64),
    Shape("64 B ping-pong", links=100, window=1, size=64),
    Shape("64 KiB", links=10, window=4, size=64 * 1024),
)
PICOWS, FACTOR = "picows/uvloop", 2
_REFERENCES = ("websockets/uvloop", PICOWS, "Bun")


def run(settings: Settings) -> Report:
    """Measure every contender that is here with every shape."""
    load = "benchmarks.load.caller"
    return report_of("Echo", __doc__, ECHO, SHAPES, load, _REFERENCES, _owed, settings)


def _owed(work: str, outcomes: Outcomes[Round]) -> Owed:
    """Hold our links against those of picows."""
    ratio = median_ratio(outcomes.get("trio_hub", ""), outcomes.get(PICOWS, ""), lambda each: each.rate)
    met = None if ratio is None else ratio >= FACTOR
    return Owed(work, f">= {FACTOR} x {PICOWS}", "" if ratio is None else f"{ratio:.2f}", met)
