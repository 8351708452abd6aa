"""A topic with few listeners in a large crowd: what its size costs them, and how long others wait for the crowd.

Two servers run side by side: ten connections hear the topic, of a hundred on the one and of very many on the other,
where the rest hears something else. A publish should cost the same. Then one event goes to everybody, again and again,
while somebody else pings: nobody may wait for a crowd to be told. Last, the index by which a hub finds who hears a
topic, alone: microseconds for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import attrs

from benchmarks import fairness, index, rates
from benchmarks.contenders import Contender, Opening
from benchmarks.contest import Outcomes, compete, median_of, median_ratio
from benchmarks.conversation import Failed, Program, python
from benchmarks.fairness import Waits
from benchmarks.report import Bars, Owed, Report, Table, explanation_of, short
from benchmarks.scenarios.fan_out import Contest, Round
from benchmarks.settings import Settings

__all__ = ["run"]

LISTENERS, FEW = 10, 100
TRIAL = 5_000  # deliveries
SIZE = 200
FINER = 10  # times as many rounds, each a fifth as long: a noisy machine changes its pace every few seconds
MOST_RATIO, LONGEST_WAIT = 1.15, 0.050
PATIENCE = 120.0  # s, for a crowd to come
_HEARS = Opening("/ws?topics=bench", "trio-hub.v1.json", 1)
_HEARS_ELSE = Opening("/ws?topics=elsewhere", "trio-hub.v1.json", 1)


def run(settings: Settings) -> Report:
    """Measure what a crowd costs those who hear a topic, and others, and the index."""
    least = min(FEW, settings.crowd // 2)
    few, many = _server(least), _server(settings.crowd)
    crowds, finely = {few.name: least, many.name: settings.crowd}, attrs.evolve(settings, seconds=settings.seconds / 5)
    outcomes = compete([few, many], _enter(crowds, finely), FINER * settings.rounds)
    ratio = median_ratio(outcomes[few.name], outcomes[many.name], lambda each: each.cpu_rate)
    waits = _waits(settings)
    costs = index.measure(settings.rounds, (index.SMALL, index.LARGE))
    cpu_rates = {name: median_of(rounds, lambda each: each.cpu_rate) for name, rounds in outcomes.items()}
    per_publish = {name: 1e6 * LISTENERS / rate for name, rate in cpu_rates.items() if rate}
    return Report(
        "Topic in a crowd",
        explanation_of(__doc__),
        [_publish_table(outcomes, ratio), _waits_table(waits), _index_table(costs)],
        {
            "listeners": LISTENERS,
            "publish": {"servers": rates.figures_of("deliveries", outcomes), "cpu_us": per_publish, "ratio": ratio},
            "waits": waits if isinstance(waits, str) else {name: attrs.asdict(each) for name, each in waits.items()},
            "index_us": {str(size): calls for size, calls in costs.items()},
        },
        [Bars(f"Publish to a topic of {LISTENERS}", "CPU µs", per_publish)],
        [_owed_ratio(least, settings.crowd, ratio), _owed_wait(settings.crowd, waits)],
    )


def _server(connections: int) -> Contender:
    return Contender(f"trio_hub, {LISTENERS} of {connections}", "benchmarks.servers.hub", ["v1.json"], opening=_HEARS)


def _enter(crowds: dict[str, int], settings: Settings) -> Callable[[Contender, ExitStack], Contest]:
    def enter(contender: Contender, stack: ExitStack) -> Contest:
        contest = Contest(contender, SIZE, LISTENERS, 1, stack, settings, trial=TRIAL)
        rest = crowds[contender.name] - LISTENERS
        words = contest.server.facts["port"], _HEARS_ELSE.word, rest, 0, "-"
        stack.enter_context(Program(python("benchmarks.load.sink", *words), within=PATIENCE))
        return contest

    return enter


def _waits(settings: Settings) -> dict[str, Waits] | str:
    """Return the waits by what goes on meanwhile, or why there are none."""
    try:
        quiet, publishing = fairness.measure(_server(settings.crowd), settings.crowd, 10 * settings.seconds)
    except Failed as failure:
        return f"failed: {failure}"
    return {"nothing": quiet, f"an event to {settings.crowd} every {fairness.EVERY:g} s": publishing}


# -- what came of it


def _publish_table(outcomes: Outcomes[Round], ratio: float | None) -> Table:
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, "", "", ""])
            continue
        costs = [1e6 * LISTENERS / each.cpu_rate for each in rounds]
        rate = median(each.rate / LISTENERS for each in rounds)
        row = [name, f"{median(costs):.1f}", f"{min(costs):.1f} - {max(costs):.1f}", short(rate)]
        rows.append([*row, f"{ratio:.2f}" if rows and ratio is not None else ""])
    columns = ["connections", "CPU µs each", "range", "publishes/s", "x the first"]
    return Table(f"A publish to {LISTENERS} connections, {SIZE} B", columns, rows)


def _waits_table(waits: dict[str, Waits] | str) -> Table:
    columns = ["meanwhile", "pings", "p50 ms", "p99 ms", "longest ms"]
    if isinstance(waits, str):
        return Table("Waiting for a crowd to be told", columns, [[waits, "", "", "", ""]])
    rows = [
        [name, str(each.count), *(f"{1e3 * wait:.2f}" for wait in (each.p50, each.p99, each.longest))]
        for name, each in waits.items()
    ]
    return Table("Waiting for a crowd to be told", columns, rows)


def _index_table(costs: index.IndexCosts) -> Table:
    small, large = index.SMALL, index.LARGE
    rows = [
        [
            call,
            f"{costs[small][call]:.2f}",
            f"{costs[large][call]:.2f}",
            f"{costs[large][call] / costs[small][call]:.2f}",
        ]
        for call in index.CALLS
    ]
    columns = ["call", f"µs, {small} subscriptions", f"µs, {large} subscriptions", "ratio"]
    return Table("The index alone", columns, rows)


def _owed_ratio(few: int, many: int, ratio: float | None) -> Owed:
    work = f"publish to {LISTENERS} of {many}, CPU"
    measured = "" if ratio is None else f"{ratio:.2f}"
    return Owed(work, f"<= {MOST_RATIO:g} x of {few}", measured, None if ratio is None else ratio <= MOST_RATIO)


def _owed_wait(crowd: int, waits: dict[str, Waits] | str) -> Owed:
    work = f"ping while {crowd} are told, longest wait"
    owed = f"< {1e3 * LONGEST_WAIT:g} ms"
    if isinstance(waits, str):
        return Owed(work, owed, "", None)
    longest = list(waits.values())[-1].longest
    return Owed(work, owed, f"{1e3 * longest:.1f} ms", longest < LONGEST_WAIT)
