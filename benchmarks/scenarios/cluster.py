"""Two nodes over one Redis: what is published at the one, and heard at the other by way of it.

Nodes, Redis and clients are processes of their own on this machine. Publishes are made in the first node's process, in
bursts of 16 or one at a time, as fast as it takes them, but no more than 8,000 ahead of what the second one has heard.
A publish has crossed when the second node has it; time runs from just before the first publish until the last has
crossed, and for deliveries until a sink has its last byte on all links. With many topics every client hears its share
of them. CPU time is of both nodes. Nothing may be lost: a hole that is told ends a round. Latency is of one publish at
a time, 50 a second, to one client of the other node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from statistics import median

import attrs

from benchmarks import rates
from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, alone, compete, median_of
from benchmarks.conversation import Failed, Program, python
from benchmarks.report import Bars, Owed, Report, Table, explanation_of, short
from benchmarks.scenarios.latency import RATE, Delays, delays_of
from benchmarks.servers import NODES
from benchmarks.settings import Settings

__all__ = ["run"]

SIZE = 200
TRIAL = 2_000  # publishes, to warm up and to find out how many make a round
PORTION, AHEAD = 400, 20  # publishes that are told to the first node at once; portions that the second may be behind
PATIENCE = 60.0  # s, for anything
LEAST_RATE, LONGEST = 20_000, 0.005
OURS, SOCKETIO = NODES[0].name, "python-socketio/uvloop"
_SHARES = {"p50": "p50 ms", "p90": "p90 ms", "p99": "p99 ms", "longest": "longest ms"}


@attrs.frozen
class Shape:
    """So many topics, clients of the second node, and publishes in one go."""

    topics: int
    clients: int
    burst: int

    def __str__(self) -> str:
        topics = "1 topic" if self.topics == 1 else f"{self.topics} topics"
        clients = "1 client" if self.clients == 1 else f"{self.clients} clients"
        return f"{topics}, {clients}, " + ("one at a time" if self.burst == 1 else f"bursts of {self.burst}")


OWED = Shape(1, 1, 16)
SHAPES = (OWED, Shape(1000, 1, 16), Shape(1, 100, 16), Shape(1000, 100, 16), Shape(1, 1, 1))


@attrs.frozen(kw_only=True)
class Round(rates.Round):
    """`first_cpu`, `second_cpu` and `redis_cpu` are seconds; `delivered_wall` those until all clients had all."""

    messages: int
    first_cpu: float
    second_cpu: float
    redis_cpu: float
    delivered_wall: float

    @property
    def done(self) -> int:
        return self.messages

    @property
    def node_rate(self) -> float:
        """How many a second of CPU time of the node that needs more of it: a node can use one core."""
        return self.messages / max(self.first_cpu, self.second_cpu)


class Pair:
    """Two nodes of one contender, that hear each other, and a Redis of their own."""

    def __init__(self, contender: Contender, shape: Shape, stack: ExitStack, settings: Settings) -> None:
        self._contender = contender
        self.redis = stack.enter_context(Program(python("benchmarks.servers.redis")))
        url = f"redis://127.0.0.1:{self.redis.facts['port']}/0"
        self.first, self.second = (
            stack.enter_context(
                Program(
                    contender.program(
                        SIZE, url, shape.topics, shape.clients, profile=settings.profile_of(contender.name, shape, node)
                    )
                )
            )
            for node in ("first", "second")
        )

    def load(self, module: str, clients: int, stack: ExitStack) -> Program:
        """Return so many clients of the second node, who hear what is said at the first."""
        facts = self.second.facts
        words = facts["port"], self._contender.opening.word, clients, facts["unit"], facts.get("ack", "-")
        load = stack.enter_context(Program(python(module, *words), within=PATIENCE))
        for node in (self.first, self.second):
            node.ask("ready")
        return load


class Contest:
    """A pair with all its clients, ready for rounds."""

    def __init__(self, shape: Shape, settings: Settings, contender: Contender, stack: ExitStack) -> None:
        self._shape = shape
        self._seconds = settings.seconds
        self._portions = TRIAL // PORTION
        self._heard = 0
        self._pair = Pair(contender, shape, stack, settings)
        self._sink = self._pair.load("benchmarks.load.sink", shape.clients, stack)

    def play(self) -> Round:
        """Have messages published at the first node, and wait until the second, and all its clients, have the last."""
        pair, portions, before = self._pair, self._portions, self._heard
        messages = portions * PORTION
        each = self._shape.clients if self._shape.topics == 1 else 1
        redis, second = pair.redis.ask("cpu")["cpu"], pair.second.ask("heard", before)["cpu"]
        self._sink.tell("take", messages * each, PATIENCE)
        for number in range(portions):
            pair.first.tell("publish", PORTION, self._shape.burst)
            if number >= AHEAD:
                self._wait_heard(before + (number - AHEAD) * PORTION)
        heard = self._wait_heard(before + messages)
        begun, *_ = [pair.first.listen(PATIENCE) for _ in range(portions)]
        delivered = self._sink.listen(PATIENCE + 5)["ended"]
        round = Round(
            messages=messages,
            wall=heard["ended"] - begun["begun"],
            cpu=0,
            first_cpu=pair.first.ask("heard", 0)["cpu"] - begun["cpu"],
            second_cpu=pair.second.ask("heard", 0)["cpu"] - second,
            redis_cpu=pair.redis.ask("cpu")["cpu"] - redis,
            delivered_wall=delivered - begun["begun"],
        )
        if not before:
            self._portions = math.ceil(round.rate * self._seconds / PORTION)
        self._heard += messages
        return attrs.evolve(round, cpu=round.first_cpu + round.second_cpu)

    def _wait_heard(self, count: int) -> dict[str, float]:
        heard = self._pair.second.ask("heard", count, within=PATIENCE)
        if heard["lost"]:
            raise Failed(f"{heard['lost']} holes were told")
        return heard


def run(settings: Settings) -> Report:
    """Measure every contender that is here in each shape, then how long one publish takes to get there."""
    tables, figures, bars, owed = [], [], [], []
    for shape in SHAPES:
        outcomes = compete(NODES, _enter(shape, settings), settings.rounds)
        tables.append(rates.table_of(str(shape), _UNIT, outcomes, _COLUMNS, [SOCKETIO]))
        figures.append({**attrs.asdict(shape), "servers": rates.figures_of("publishes", outcomes)})
        bars.append(rates.bars_of(f"Two nodes, {shape}", _UNIT, outcomes))
        if shape == OWED:
            owed.append(_owed_rate(f"two nodes, {shape}", outcomes))
    messages = int(RATE * max(settings.seconds * settings.rounds * 3, 1.0))
    delays = {each.name: alone(each.missing(), partial(_measure, each, messages, settings)) for each in NODES}
    p50 = {name: 1e3 * each.delays["p50"] for name, each in delays.items() if isinstance(each, Delays)}
    return Report(
        "Cluster",
        explanation_of(__doc__),
        [*tables, _latency_table(messages, delays)],
        {
            "throughput": figures,
            "latency": {name: each if isinstance(each, str) else attrs.asdict(each) for name, each in delays.items()},
        },
        [*bars, Bars("From node to node, p50", "ms", p50)],
        [*owed, _owed_latency(delays[OURS])],
    )


def _enter(shape: Shape, settings: Settings) -> Callable[[Contender, ExitStack], Contest]:
    return lambda contender, stack: Contest(shape, settings, contender, stack)


def _measure(contender: Contender, messages: int, settings: Settings) -> Delays:
    with ExitStack() as stack:
        pair = Pair(contender, Shape(1, 1, 1), stack, settings)
        listener = pair.load("benchmarks.load.listener", 1, stack)
        delays_of(pair.first, listener, RATE // 5)  # a trial
        return delays_of(pair.first, listener, messages)


# -- what came of it

_UNIT = "publishes/s"


def _delivered(rounds: Sequence[Round]) -> str:
    return short(median(each.messages / each.delivered_wall for each in rounds))


def _cpu_each(title: str, figure: str) -> rates.Column[Round]:
    return title, lambda rounds: f"{median(1e6 * getattr(each, figure) / each.messages for each in rounds):.1f}"


_COLUMNS: Sequence[rates.Column[Round]] = (
    ("till delivered", _delivered),
    _cpu_each("first's", "first_cpu"),
    _cpu_each("second's", "second_cpu"),
    _cpu_each("Redis'", "redis_cpu"),
    ("of a node's CPU time", lambda rounds: short(median(each.node_rate for each in rounds))),
)


def _latency_table(messages: int, outcomes: dict[str, Delays | str]) -> Table:
    rows = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            rows.append([name, outcome, *[""] * len(_SHARES)])
        else:
            rows.append([name, *(f"{1e3 * outcome.delays[each]:.2f}" for each in _SHARES), str(outcome.late)])
    title = f"{RATE} publishes a second from node to node, {messages} in all"
    return Table(title, ["server", *_SHARES.values(), "late publishes"], rows)


def _owed_rate(work: str, outcomes: Outcomes[Round]) -> Owed:
    """Hold what crossed by the clock against what is owed, and tell what a node's CPU time would allow beside it."""
    rounds = outcomes.get(OURS, "")
    rate, all_told = median_of(rounds, lambda each: each.node_rate), median_of(rounds, lambda each: each.rate)
    if rate is None or all_told is None:
        return Owed(work, f">= {short(LEAST_RATE)}/s cross", "", None)
    measured = f"{short(all_told)} ({short(rate)} a second of a node's CPU time)"
    return Owed(work, f">= {short(LEAST_RATE)}/s cross", measured, all_told >= LEAST_RATE)


def _owed_latency(delays: Delays | str) -> Owed:
    work, owed = "a publish from node to node, p50", f"< {1e3 * LONGEST:g} ms"
    if isinstance(delays, str):
        return Owed(work, owed, "", None)
    p50 = delays.delays["p50"]
    return Owed(work, owed, f"{1e3 * p50:.2f} ms", p50 < LONGEST)
