"""A message to a pool of links, and the same through a hub: what numbers, kept events and targets cost, or are worth.

A message is as large as an event with its envelope (a frame of compat's has its number on top). The rest is as in the
fan-out. A pool owes its members no more than they take in time; a hub can have them back when they were away.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import rates
from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, compete, median_ratio
from benchmarks.report import Owed, Report, explanation_of
from benchmarks.scenarios.fan_out import BURSTS, SHARES, UNIT, Contest, Round
from benchmarks.servers import POOL
from benchmarks.settings import Settings

__all__ = ["OURS", "run"]

OURS = POOL[0].name
FACTOR = 1.0
_REFERENCES = [each.name for each in POOL[1:]]


def run(settings: Settings) -> Report:
    """Measure the pool and every hub with every size and number of links, one at a time and in bursts."""
    tables, figures, bars, owed = [], [], [], []
    for size in settings.sizes:
        for links in settings.pooled:
            for burst, title in BURSTS.items():
                outcomes = compete(POOL, _enter(size, links, burst, settings), settings.rounds)
                what = f"{links} links, {size} B, {title}"
                tables.append(rates.table_of(what, UNIT, outcomes, SHARES, _REFERENCES))
                servers = rates.figures_of("deliveries", outcomes)
                figures.append({"links": links, "burst": burst, "size": size, "servers": servers})
                owed.append(_owed(f"pool, {what}", outcomes))
                bars.append(rates.bars_of(f"Pool, {what}", UNIT, outcomes))
    return Report("Pool", explanation_of(__doc__), tables, figures, bars, owed)


def _enter(size: int, links: int, burst: int, settings: Settings) -> Callable[[Contender, ExitStack], Contest]:
    return lambda contender, stack: Contest(contender, size, links, burst, stack, settings)


def _owed(work: str, outcomes: Outcomes[Round]) -> Owed:
    """Hold the pool against the quickest of the hubs."""
    ratios = [
        ratio
        for name in _REFERENCES
        if (ratio := median_ratio(outcomes[OURS], outcomes[name], lambda each: each.rate)) is not None
    ]
    measured = f"{min(ratios):.2f}" if ratios else ""
    return Owed(work, f">= {FACTOR:g} x the quickest hub", measured, min(ratios) >= FACTOR if ratios else None)
