"""What scenarios of questions and answers share: a server and a caller with its links, their rounds, and a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median

import attrs

from benchmarks import rates
from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, compete
from benchmarks.conversation import Program, python
from benchmarks.report import Owed, Report, explanation_of
from benchmarks.settings import Settings

__all__ = ["Round", "RoundTrips", "Shape", "report_of"]

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


@attrs.frozen(kw_only=True)
class Round(rates.Round):
    """`caller_cpu` are the caller's seconds. Trips are timed where a link has one at a time."""

    messages: int
    caller_cpu: float
    p50: float | None
    p99: float | None

    @property
    def done(self) -> int:
        return self.messages


class RoundTrips:
    """A server with a caller's links, ready for rounds. `load` is the caller's module."""

    def __init__(self, contender: Contender, shape: Shape, load: str, stack: ExitStack, settings: Settings) -> None:
        kept = settings.profile_of(contender.name, shape)
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
        round = Round(
            messages=messages,
            wall=said["ended"] - said["begun"],
            cpu=cpu,
            caller_cpu=said["cpu"],
            p50=said.get("p50"),
            p99=said.get("p99"),
        )
        if not self._played:
            self._share = max(int(round.rate * self._seconds / self._links), 10)
        self._played += 1
        return round


def report_of(
    title: str,
    doc: str | None,
    contenders: Sequence[Contender],
    shapes: Sequence[Shape],
    load: str,
    references: Sequence[str],
    owed: Callable[[str, Outcomes[Round]], Owed],
    settings: Settings,
) -> Report:
    """Measure all contenders in each of these shapes, with `load` as their caller; `owed` is said of the first."""
    tables, figures, bars, all_owed = [], [], [], []
    for shape in shapes:
        outcomes = compete(contenders, _enter(shape, load, settings), settings.rounds)
        tables.append(rates.table_of(str(shape), _UNIT, outcomes, _COLUMNS, references))
        figures.append({**attrs.asdict(shape), "servers": rates.figures_of("round_trips", outcomes)})
        bars.append(rates.bars_of(f"{title}, {shape}", _UNIT, outcomes))
        if shape is shapes[0]:
            all_owed.append(owed(f"{title.lower()}, {shape}", outcomes))
    return Report(title, explanation_of(doc), tables, figures, bars, all_owed)


def _enter(shape: Shape, load: str, settings: Settings) -> Callable[[Contender, ExitStack], RoundTrips]:
    return lambda contender, stack: RoundTrips(contender, shape, load, stack, settings)


def _trips(title: str, quantile: str) -> rates.Column[Round]:
    return title, lambda rounds: _milliseconds([getattr(each, quantile) for each in rounds])


def _milliseconds(seconds: Sequence[float | None]) -> str:
    timed = [each for each in seconds if each is not None]
    return f"{1e3 * median(timed):.2f}" if timed else ""


_UNIT = "round trips/s"
_COLUMNS: Sequence[rates.Column[Round]] = (
    rates.share_of_wall("CPU/wall", "cpu"),
    rates.share_of_wall("caller CPU/wall", "caller_cpu"),
    _trips("p50 ms", "p50"),
    _trips("p99 ms", "p99"),
)
