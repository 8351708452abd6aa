"""Rounds whose figure is a rate, and what they come to: a table, bars, and everything as JSON can hold it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import TypeVar

import attrs

from benchmarks.contest import Outcomes, median_of, median_ratio
from benchmarks.report import Bars, Table, short

__all__ = ["Round", "bars_of", "figures_of", "share_of_wall", "table_of"]


@attrs.frozen(kw_only=True)
class Round:
    """One measurement: what was `done` within `wall` seconds, for `cpu` seconds of the server's CPU time."""

    wall: float
    cpu: float

    @property
    def done(self) -> int:
        """How many there were, of whatever is measured."""
        raise NotImplementedError

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.done / self.wall

    @property
    def cpu_rate(self) -> float:
        """How many a second of the server's CPU time."""
        return self.done / self.cpu


R = TypeVar("R", bound=Round)

Column = tuple[str, Callable[[Sequence[R]], str]]
"""A column's title, and the cell of somebody's rounds."""


def share_of_wall(title: str, figure: str) -> Column[R]:
    """Return the column of a figure in seconds, as a share of the time that a round took."""
    return title, lambda rounds: f"{median(getattr(each, figure) / each.wall for each in rounds):.0%}"


def table_of(
    title: str, unit: str, outcomes: Outcomes[R], columns: Sequence[Column[R]], references: Sequence[str]
) -> Table:
    """Return rates and what each costs, `columns` of a scenario's own, and the ratios to the rates of `references`."""
    titles = ["server", unit, "range", "CPU µs each"]
    titles += [*(name for name, _ in columns), *(f"x {name}" for name in references)]
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, *[""] * (len(titles) - 2)])
            continue
        rates = [each.rate for each in rounds]
        row = [name, short(median(rates)), f"{short(min(rates))} - {short(max(rates))}"]
        row.append(f"{1e6 / median(each.cpu_rate for each in rounds):.2f}")
        row += [cell(rounds) for _, cell in columns]
        for reference in references:
            ratio = median_ratio(rounds, outcomes.get(reference, ""), lambda each: each.rate)
            row.append("" if ratio is None else f"{ratio:.2f}")
        rows.append(row)
    return Table(title, titles, rows)


def bars_of(
    title: str, unit: str, outcomes: Outcomes[R], figure: Callable[[R], float] = lambda each: each.rate
) -> Bars:
    """Return what is drawn: the median of a figure, the rate unless told."""
    rates = {name: median_of(rounds, figure) for name, rounds in outcomes.items()}
    return Bars(title, unit, {name: rate for name, rate in rates.items() if rate})


def figures_of(things: str, outcomes: Outcomes[R]) -> dict[str, object]:
    """Return everything that was measured of `things`, which name the rates."""
    return {
        name: {"missing": rounds}
        if isinstance(rounds, str)
        else {
            f"{things}_per_second": median_of(rounds, lambda each: each.rate),
            f"{things}_per_cpu_second": median_of(rounds, lambda each: each.cpu_rate),
            "rounds": [attrs.asdict(each) for each in rounds],
        }
        for name, rounds in outcomes.items()
    }
