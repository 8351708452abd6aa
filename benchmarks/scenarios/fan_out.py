"""One publisher, many listeners: how many deliveries a second, and what each costs.

A message has so many bytes (its envelope included where there is one, compat's number on top), published one at a time
or in bursts of 16 with a turn of the server's loop behind each. Time runs from just before the first publish until one
sink, in a process of its own, has the last byte on all links; CPU time is the server's over the same span. No server
may run ahead of its readers: each looks now and then at what it owes them, and pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import attrs

from benchmarks import rates
from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, compete, median_ratio
from benchmarks.conversation import Program, python
from benchmarks.report import Owed, Report, explanation_of
from benchmarks.servers import FAN_OUT
from benchmarks.settings import Settings

__all__ = ["BURSTS", "SHARES", "UNIT", "Contest", "Round", "run"]

BURSTS = {1: "one at a time", 16: "bursts of 16"}
TRIAL = 30_000  # deliveries, to warm up and to find out how many make a round
PATIENCE = 60.0  # s, for anything
UNIT = "deliveries/s"
SHARES: Sequence[rates.Column[Round]] = (
    rates.share_of_wall("CPU/wall", "cpu"),
    rates.share_of_wall("sink CPU/wall", "sink_cpu"),
)

UVLOOP, PICOWS, NATS, BUN = "websockets/uvloop", "picows/uvloop", "nats-server", "Bun"
_REFERENCES = (UVLOOP, PICOWS, NATS, BUN)


@attrs.frozen(kw_only=True)
class Round(rates.Round):
    """`sink_cpu` are the sink's seconds, `bytes` came to all."""

    deliveries: int
    sink_cpu: float
    bytes: int

    @property
    def done(self) -> int:
        return self.deliveries


class Contest:
    """A `server` with all its links, ready for rounds. `burst` is how many messages are published in one go.

    The first round has about `trial` deliveries.
    """

    def __init__(
        self,
        contender: Contender,
        size: int,
        links: int,
        burst: int,
        stack: ExitStack,
        settings: Settings,
        *,
        trial: int = TRIAL,
    ) -> None:
        kept = settings.profile_of(contender.name, links, size, burst)
        self._links = links
        self._burst = burst
        self._seconds = settings.seconds
        self._messages = _whole_bursts(trial / links, burst)
        self._played = 0
        self.server = stack.enter_context(Program(contender.program(size, profile=kept)))
        facts = self.server.facts
        words = facts["port"], contender.opening.word, links
        count = facts.get("unit", 0), facts.get("ack", "-")
        self._sink = stack.enter_context(Program(python("benchmarks.load.sink", *words, *count), within=PATIENCE))

    def play(self) -> Round:
        """Have messages published, and wait for the last byte of the last."""
        messages = self._messages
        wanted = self.server.ask("size", messages)["units"] * self._links
        self._sink.tell("take", wanted, PATIENCE)
        begun = self.server.ask("publish", messages, self._burst)
        ended = self._sink.listen(PATIENCE + 5)
        cpu = self.server.ask("cpu")["cpu"] - begun["cpu"]
        round = Round(
            deliveries=messages * self._links,
            wall=ended["ended"] - begun["begun"],
            cpu=cpu,
            sink_cpu=ended["cpu"],
            bytes=ended["bytes"],
        )
        if not self._played:
            self._messages = _whole_bursts(round.rate * self._seconds / self._links, self._burst)
        self._played += 1
        return round


def _whole_bursts(messages: float, burst: int) -> int:
    return max(round(messages / burst), 4) * burst


def run(settings: Settings) -> Report:
    """Measure every contender that is here with every size and number of links, one at a time and in bursts."""
    tables, figures, bars, owed = [], [], [], []
    for size in settings.sizes:
        for links in settings.links:
            for burst, title in BURSTS.items():
                outcomes = compete(FAN_OUT, _enter(size, links, burst, settings), settings.rounds)
                what = f"{links} links, {size} B, {title}"
                tables.append(rates.table_of(what, UNIT, outcomes, SHARES, _REFERENCES))
                servers = rates.figures_of("deliveries", outcomes)
                figures.append({"links": links, "burst": burst, "size": size, "servers": servers})
                owed += _owed(f"fan-out, {what}", burst, outcomes)
                bars.append(rates.bars_of(f"Fan-out, {what}", UNIT, outcomes))
    return Report("Fan-out", explanation_of(__doc__), tables, figures, bars, owed)


def _enter(size: int, links: int, burst: int, settings: Settings) -> Callable[[Contender, ExitStack], Contest]:
    return lambda contender, stack: Contest(contender, size, links, burst, stack, settings)


# -- what came of it

_OWED: dict[int, Sequence[tuple[str, float]]] = {
    1: ((UVLOOP, 1.3), (PICOWS, 0.9)),
    16: ((UVLOOP, 10), (NATS, 1), (BUN, 0.6)),
}
"""By burst: how many times the rate of whom."""


def _owed(work: str, burst: int, outcomes: Outcomes[Round]) -> list[Owed]:
    """Hold the best of ours against what is owed."""
    ours = {name: rounds for name, rounds in outcomes.items() if name.startswith("trio_hub")}
    owed = []
    for reference, factor in _OWED[burst]:
        ratios = {
            name: ratio
            for name, rounds in ours.items()
            if (ratio := median_ratio(rounds, outcomes.get(reference, ""), lambda each: each.rate)) is not None
        }
        measured = ", ".join(f"{name.removeprefix('trio_hub ')} {ratio:.2f}" for name, ratio in ratios.items())
        met = max(ratios.values()) >= factor if ratios else None
        owed.append(Owed(work, f">= {factor:g} x {reference}", measured, met))
    return owed
