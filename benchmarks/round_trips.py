"""What scenarios of questions and answers share: a server and a caller with its links, their rounds, and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median

import attrs

from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, median_of, median_ratio
from benchmarks.conversation import Program, python
from benchmarks.report import Bars, Table, short
from benchmarks.settings import Settings

__all__ = ["Round", "RoundTrips", "Shape", "bars_of", "enter", "figures_of", "table_of"]

TRIAL = 200  # messages on each link, to warm up and to find out how many make a round
PATIENCE = 60.0  # s, for anything


@attrs.frozen
class Shape:
    """How much is under way: so many messages of so many bytes (None: they have a size of their own) on each link."""

    title: str
    links: int
    window: int
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.title}, {self.links} links, {self.window} under way on each"


@attrs.frozen
class Round:
    """One measurement. Seconds throughout; `cpu` is the server's. Trips are timed where a link has one at a time."""

    messages: int
    wall: float
    cpu: float
    caller_cpu: float
    p50: float | None
    p99: float | None

    @property
    def rate(self) -> float:
        """Round trips a second."""
        return self.messages / self.wall

    @property
    def cpu_rate(self) -> float:
        """Round trips a second of the server's CPU time."""
        return self.messages / self.cpu


class RoundTrips:
    """A server with a caller's links, ready for rounds. `load` is the caller's module."""

    def __init__(self, contender: Contender, shape: Shape, load: str, stack: ExitStack, settings: Settings) -> None:
        kept = None
        if settings.profile is not None:
            kept = settings.profile / f"{contender.name}-{shape}".translate(str.maketrans("/ ,", "---"))
        self._links = shape.links
        self._seconds = settings.seconds
        self._share = TRIAL
        self._played = 0
        self._server = stack.enter_context(Program(contender.program(profile=kept)))
        facts = self._server.facts
        words = facts["port"], contender.opening.word, shape.links, shape.window
        last = facts.get("spelling", "json") if shape.size is None else shape.size
        self._caller = stack.enter_context(Program(python(load, *words, last), within=PATIENCE))

    def play(self) -> Round:
        """Have messages said, and wait for the last reply."""
        messages = self._share * self._links
        before = self._server.ask("cpu")["cpu"]
        said = self._caller.ask("call", messages, PATIENCE, within=PATIENCE + 5)
        cpu = self._server.ask("cpu")["cpu"] - before
        times = said["ended"] - said["begun"], cpu, said["cpu"], said.get("p50"), said.get("p99")
        round = Round(messages, *times)
        if not self._played:
            self._share = max(int(round.rate * self._seconds / self._links), 10)
        self._played += 1
        return round


def enter(shape: Shape, load: str, settings: Settings) -> Callable[[Contender, ExitStack], RoundTrips]:
    """Return what enters a contender for `benchmarks.contest.compete`."""
    return lambda contender, stack: RoundTrips(contender, shape, load, stack, settings)


# -- what came of it


def table_of(title: str, outcomes: Outcomes[Round], references: Sequence[str]) -> Table:
    """Return rates, what they cost, and their ratios to those of `references`."""
    columns = ["server", "round trips/s", "range", "CPU µs each", "CPU/wall", "caller CPU/wall", "p50 ms", "p99 ms"]
    columns += [f"x {name}" for name in references]
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, *[""] * (len(columns) - 2)])
            continue
        rates = [each.rate for each in rounds]
        row = [name, short(median(rates)), f"{short(min(rates))} - {short(max(rates))}"]
        row.append(f"{1e6 / median(each.cpu_rate for each in rounds):.2f}")
        row += [f"{median(getattr(each, cpu) / each.wall for each in rounds):.0%}" for cpu in ("cpu", "caller_cpu")]
        row += [_milliseconds([getattr(each, quantile) for each in rounds]) for quantile in ("p50", "p99")]
        for reference in references:
            ratio = median_ratio(rounds, outcomes.get(reference, ""), lambda each: each.rate)
            row.append("" if ratio is None else f"{ratio:.2f}")
        rows.append(row)
    return Table(title, columns, rows)


def _milliseconds(seconds: Sequence[float | None]) -> str:
    timed = [each for each in seconds if each is not None]
    return f"{1e3 * median(timed):.2f}" if timed else ""


def bars_of(title: str, outcomes: Outcomes[Round]) -> Bars:
    """Return what is drawn."""
    rates = {name: median_of(rounds, lambda each: each.rate) for name, rounds in outcomes.items()}
    return Bars(title, "round trips/s", {name: rate for name, rate in rates.items() if rate})


def figures_of(shape: Shape, outcomes: Outcomes[Round]) -> dict[str, object]:
    """Return everything that was measured, as JSON can hold it."""
    servers = {
        name: {"missing": rounds}
        if isinstance(rounds, str)
        else {
            "round_trips_per_second": median_of(rounds, lambda each: each.rate),
            "round_trips_per_cpu_second": median_of(rounds, lambda each: each.cpu_rate),
            "rounds": [attrs.asdict(each) for each in rounds],
        }
        for name, rounds in outcomes.items()
    }
    return {**attrs.asdict(shape), "servers": servers}
