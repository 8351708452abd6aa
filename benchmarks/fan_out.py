"""One publisher, many listeners: how many deliveries a second, and what each costs.

Every server is a process of its own and all of them stay up; each round measures one after the other, so that a noisy
neighbour meets all alike. A message is 200 bytes (ours: its JSON envelope included), published one at a time or in
bursts of 16 with a turn of the server's loop behind each. Time runs from just before the first publish until one sink,
in a process of its own, has the last byte on all links; CPU time is the server's over the same span. A ratio is the
median over the rounds of what was measured in the same round.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import attrs

from benchmarks.conversation import Failed, Program
from benchmarks.report import Report, Table, short
from benchmarks.settings import Settings

__all__ = ["PACKAGES", "run"]

PACKAGES = ("trio-hub", "trio", "websockets", "uvloop", "picows")
SIZE = 200
BURSTS = {1: "one at a time", 16: "bursts of 16"}
TRIAL = 30_000  # deliveries, to warm up and to find out how many make a round
PATIENCE = 60.0  # s, for anything

_REFERENCES = ("websockets/asyncio", "websockets/uvloop")


@attrs.frozen
class Contender:
    """A server to be measured, and how a sink comes to hear it. `needs` are modules without which it is missing."""

    name: str
    module: str
    words: Sequence[object] = ()
    needs: Sequence[str] = ()
    target: str = "/"
    subprotocol: str = "-"
    greetings: int = 0
    ack_size: int = 0


_OURS = Contender("trio_hub", "benchmarks.servers.hub", target="/ws?topics=bench", greetings=1)
CONTENDERS = (
    attrs.evolve(_OURS, name="trio_hub compat", words=("compat",)),
    attrs.evolve(_OURS, name="trio_hub v1", words=("v1",), subprotocol="trio-hub.v1.json", ack_size=SIZE + 4),
    Contender("websockets/asyncio", "benchmarks.servers.websockets_broadcast", ["asyncio"], ["websockets"]),
    Contender("websockets/uvloop", "benchmarks.servers.websockets_broadcast", ["uvloop"], ["websockets", "uvloop"]),
    Contender("picows/uvloop", "benchmarks.servers.picows_loop", (), ["picows", "uvloop"]),
)


@attrs.frozen
class Round:
    """One measurement. Seconds throughout; `cpu` is the server's, `sink_cpu` the sink's."""

    deliveries: int
    wall: float
    cpu: float
    sink_cpu: float

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.wall

    @property
    def cpu_rate(self) -> float:
        """Deliveries a second of the server's CPU time."""
        return self.deliveries / self.cpu


class Contest:
    """A server with all its links, ready for rounds."""

    def __init__(self, contender: Contender, links: int, stack: ExitStack, profile: Path | None) -> None:
        kept = (
            None if profile is None else str(profile / f"{contender.name.replace('/', '-').replace(' ', '-')}-{links}")
        )
        self._links = links
        self._server = stack.enter_context(Program(contender.module, SIZE, *contender.words, profile=kept))
        port = self._server.facts["port"]
        words = port, contender.target, contender.subprotocol, links, contender.greetings, contender.ack_size
        self._sink = stack.enter_context(Program("benchmarks.sink", *words, within=PATIENCE))

    def play(self, messages: int, burst: int) -> Round:
        """Have so many messages published, and wait for the last byte of the last."""
        wanted = self._server.ask("size", messages)["bytes"] * self._links
        self._sink.tell("take", wanted, PATIENCE)
        begun = self._server.ask("publish", messages, burst)
        ended = self._sink.listen(PATIENCE + 5)
        cpu = self._server.ask("cpu")["cpu"] - begun["cpu"]
        return Round(messages * self._links, ended["ended"] - begun["begun"], cpu, ended["cpu"])


def run(settings: Settings) -> Report:
    """Measure every contender that is here with every number of links, one at a time and in bursts."""
    tables, figures = [], []
    for links in settings.links:
        outcomes = _measure(links, settings)
        for burst, title in BURSTS.items():
            rounds = {
                name: outcome if isinstance(outcome, str) else outcome[burst] for name, outcome in outcomes.items()
            }
            tables.append(_table(f"{links} links, {title}", rounds))
            figures.append({"links": links, "burst": burst, "size": SIZE, "servers": _figures(rounds)})
    return Report("Fan-out", (__doc__ or "").partition("\n\n")[2].strip(), tables, figures)


def _measure(links: int, settings: Settings) -> dict[str, dict[int, list[Round]] | str]:
    """Return the rounds of every contender by burst, or the reason why it has none."""
    outcomes: dict[str, dict[int, list[Round]] | str] = {}
    with ExitStack() as stack:
        contests = {}
        for contender in CONTENDERS:
            missing = [name for name in contender.needs if find_spec(name) is None]
            if missing:
                outcomes[contender.name] = f"missing: {', '.join(missing)} not installed"
                continue
            try:
                contests[contender.name] = Contest(contender, links, stack, settings.profile)
                outcomes[contender.name] = {}
            except Failed as failure:
                outcomes[contender.name] = f"failed: {failure}"
        for burst in BURSTS:
            _measure_bursts(contests, burst, links, settings, outcomes)
    return outcomes


def _measure_bursts(
    contests: dict[str, Contest],
    burst: int,
    links: int,
    settings: Settings,
    outcomes: dict[str, dict[int, list[Round]] | str],
) -> None:
    messages: dict[str, int] = {}
    for number in range(settings.rounds + 1):
        for name, contest in list(contests.items()):
            outcome = outcomes[name]
            assert not isinstance(outcome, str)
            try:
                round = contest.play(messages.get(name) or _whole_bursts(TRIAL / links, burst), burst)
            except Failed as failure:
                outcomes[name] = f"failed: {failure}"
                del contests[name]
                continue
            if number:
                outcome.setdefault(burst, []).append(round)
            else:
                messages[name] = _whole_bursts(round.rate * settings.seconds / links, burst)


def _whole_bursts(messages: float, burst: int) -> int:
    return max(round(messages / burst), 4) * burst


# -- what came of it


def _ratio(rounds: Sequence[Round], reference: Sequence[Round] | str, figure: str) -> float | None:
    if isinstance(reference, str):
        return None
    ratios: list[float] = [getattr(a, figure) / getattr(b, figure) for a, b in zip(rounds, reference, strict=True)]
    return median(ratios)


def _table(title: str, outcomes: dict[str, list[Round] | str]) -> Table:
    columns = ["server", "deliveries/s", "range", "CPU µs each", "CPU/wall", "sink CPU/wall"]
    columns += [f"{what} x {name.replace('websockets', 'ws')}" for what in ("rate", "per CPU") for name in _REFERENCES]
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, *[""] * (len(columns) - 2)])
            continue
        rates = [each.rate for each in rounds]
        row = [name, short(median(rates)), f"{short(min(rates))} - {short(max(rates))}"]
        row.append(f"{1e6 / median(each.cpu_rate for each in rounds):.2f}")
        row += [f"{median(getattr(each, cpu) / each.wall for each in rounds):.0%}" for cpu in ("cpu", "sink_cpu")]
        for figure in ("rate", "cpu_rate"):
            for reference in _REFERENCES:
                ratio = _ratio(rounds, outcomes[reference], figure)
                row.append("" if ratio is None else f"{ratio:.2f}")
        rows.append(row)
    return Table(title, columns, rows)


def _figures(outcomes: dict[str, list[Round] | str]) -> dict[str, object]:
    return {
        name: {"missing": rounds}
        if isinstance(rounds, str)
        else {
            "deliveries_per_second": median(each.rate for each in rounds),
            "deliveries_per_cpu_second": median(each.cpu_rate for each in rounds),
            "ratios": {
                reference: {figure: _ratio(rounds, outcomes[reference], figure) for figure in ("rate", "cpu_rate")}
                for reference in _REFERENCES
            },
            "rounds": [attrs.asdict(each) for each in rounds],
        }
        for name, rounds in outcomes.items()
    }
