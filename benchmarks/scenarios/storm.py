"""Everybody loses the link at once, and everybody comes back at once.

Half a crowd of v1 links is reset by their peer, which then dials again with 200 dials under way, each with the number
of the next event it expects. Events are published while all are away: every client must hear that it is resumed, and
then exactly those. The owed figure is by the server's CPU time; the dialer, in a process of its own, has the other
core. Somebody on another link pings every 5 ms, and those pings count that are under way while the others come back:
that is how long the hub keeps others waiting.

Beside it, plain handshakes, up to the first greeting, for ours and for others, by the same dialer, with fewer dials
under way than anybody's listener keeps waiting.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

import attrs

from benchmarks import rates
from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, compete, median_ratio
from benchmarks.conversation import Failed, Program, python
from benchmarks.fairness import PINGER, Waits, waits_from
from benchmarks.report import Owed, Report, Table, explanation_of, short
from benchmarks.servers import FAN_OUT
from benchmarks.settings import Settings

__all__ = ["meanwhile", "run"]

FLIGHT = 200
HANDSHAKE_FLIGHT = 64  # below asyncio's backlog of 100, the least: what is beyond is dropped, and comes again after 1 s
MISSED = 3  # events published while everybody is away
SIZE = 200
PATIENCE = 120.0  # s
UVLOOP = "websockets/uvloop"
_OURS = "trio_hub v1.json"
_DIALED = (_OURS, "websockets/asyncio", UVLOOP, "picows/uvloop", "aiohttp/uvloop", "ws/node", "Bun")


@attrs.frozen(kw_only=True)
class Round(rates.Round):
    """So many links came (or came back); it `begun` by the machine's clock."""

    links: int
    begun: float

    @property
    def done(self) -> int:
        return self.links


class Dials:
    """A server, and who dials it. Each round begins and ends with no links."""

    def __init__(self, contender: Contender, links: int, flight: int, stack: ExitStack) -> None:
        self._links = links
        self.server = stack.enter_context(Program(contender.program(SIZE)))
        self.port = self.server.facts["port"]
        words = self.port, contender.opening.word, links, flight
        self._dialer = stack.enter_context(Program(python("benchmarks.load.dialer", *words)))

    def play(self) -> Round:
        """Open every link."""
        round = self._time("open", PATIENCE)
        self._dialer.ask("reset")
        time.sleep(0.2)  # the server sees to its end of them, not on the next one's account
        return round

    def come_back(self) -> tuple[Round, list[float]]:
        """Open every link, lose all, and come back; return that, and how long the pings took meanwhile."""
        with Program(python("benchmarks.load.pinger", self.port, PINGER.word)) as pinger:
            self._time("open", PATIENCE)
            self._dialer.ask("reset")
            time.sleep(0.5)  # so that all of them are known to be away
            self.server.ask("publish", MISSED, 1)
            pinger.tell("ping")
            round = self._time("resume", MISSED, PATIENCE)
            pings = pinger.ask("stop", within=PATIENCE)
            self._dialer.ask("check", MISSED)
            self._dialer.ask("reset")
            time.sleep(0.5)
        return round, meanwhile(pings["begun"], pings["trips"], round.begun, round.begun + round.wall)

    def _time(self, *words: object) -> Round:
        cpu = self.server.ask("cpu")["cpu"]
        took = self._dialer.ask(*words, within=PATIENCE + 5)
        cost = self.server.ask("cpu")["cpu"] - cpu
        return Round(links=self._links, begun=took["begun"], wall=took["ended"] - took["begun"], cpu=cost)


def meanwhile(begun: Sequence[float], trips: Sequence[float], since: float, until: float) -> list[float]:
    """Return the round trips that were under way at any time between these two."""
    return [trip for begin, trip in zip(begun, trips, strict=True) if begin <= until and begin + trip >= since]


def run(settings: Settings) -> Report:
    """Measure storms and handshakes."""
    links = settings.crowd // 2
    contenders = [contender for contender in FAN_OUT if contender.name in _DIALED]
    dials = min(links, 1000)
    opened = compete(contenders, lambda each, stack: Dials(each, dials, HANDSHAKE_FLIGHT, stack), settings.rounds)
    storms, waits, failure = _storms(links, settings.rounds)
    tables = [_storm_table(links, storms, waits, failure), _handshake_table(dials, opened)]
    figures = {
        "storms": [attrs.asdict(storm) for storm in storms],
        "waits": None if waits is None else attrs.asdict(waits),
        "failure": failure,
        "handshakes": {
            name: rounds if isinstance(rounds, str) else [attrs.asdict(each) for each in rounds]
            for name, rounds in opened.items()
        },
    }
    bars = [rates.bars_of("Handshakes", "a second of the server's CPU time", opened, lambda each: each.cpu_rate)]
    return Report("Reconnect storm", explanation_of(__doc__), tables, figures, bars, _owed(links, storms, waits))


def _storms(links: int, rounds: int) -> tuple[list[Round], Waits | None, str | None]:
    """Return every storm, how long others waited during all of them, and what went wrong."""
    (ours,) = [contender for contender in FAN_OUT if contender.name == _OURS]
    storms: list[Round] = []
    trips: list[float] = []
    try:
        with ExitStack() as stack:
            dials = Dials(ours, links, FLIGHT, stack)
            for _ in range(rounds):
                storm, more = dials.come_back()
                storms.append(storm)
                trips += more
    except Failed as failure:
        return storms, None, str(failure)
    if not trips:
        return storms, None, "no ping was under way"
    return storms, waits_from(trips, 0, 0), None


def _owed(links: int, storms: list[Round], waits: Waits | None) -> list[Owed]:
    if waits is None:
        return [Owed(f"reconnect storm, {links} resumes", ">= 3 k/s of CPU time", "", None)]
    rate = median(storm.cpu_rate for storm in storms)
    return [
        Owed(f"reconnect storm, {links} resumes", ">= 3 k/s of CPU time", f"{rate:.0f}", rate >= 3000),
        Owed("the hub's latency meanwhile, p99", "< 100 ms", f"{1000 * waits.p99:.1f} ms", waits.p99 < 0.1),
    ]


def _storm_table(links: int, storms: list[Round], waits: Waits | None, failure: str | None) -> Table:
    columns = ["", "resumes/s", "CPU µs each", "others wait, p50 ms", "p99 ms", "longest ms"]
    if waits is None:
        return Table(f"{links} come back", columns, [[_OURS, f"failed: {failure}", "", "", "", ""]])
    waited = [f"{1000 * wait:.1f}" for wait in (waits.p50, waits.p99, waits.longest)]
    cost = f"{1e6 / median(storm.cpu_rate for storm in storms):.0f}"
    return Table(f"{links} come back", columns, [[_OURS, short(median(storm.rate for storm in storms)), cost, *waited]])


def _handshake_table(links: int, outcomes: Outcomes[Round]) -> Table:
    columns = ["server", "handshakes/s", "CPU µs each", f"per CPU x {UVLOOP}"]
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, "", ""])
            continue
        ratio = median_ratio(rounds, outcomes.get(UVLOOP, ""), lambda each: each.cpu_rate)
        cost = f"{1e6 / median(each.cpu_rate for each in rounds):.0f}"
        rows.append([name, short(median(each.rate for each in rounds)), cost, "" if ratio is None else f"{ratio:.2f}"])
    return Table(f"{links} plain handshakes", columns, rows)
