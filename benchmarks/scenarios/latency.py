"""How long a message takes to everybody, while the server is not busy: 50 publishes a second to a tenth of a crowd.

From just before the publish, by the server's word, until the last system call of the listener that read it: both
processes have the same clock. The listener, in a process of its own, is woken for every message, and reads them one
after the other: that is a part of what is measured, the same for all. One contender at a time is there at all.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

import attrs

from benchmarks.contenders import Contender
from benchmarks.contest import alone
from benchmarks.conversation import Program, python
from benchmarks.report import Bars, Report, Table, explanation_of, quantile
from benchmarks.servers import FAN_OUT
from benchmarks.settings import Settings

__all__ = ["RATE", "Delays", "delays_of", "percentiles", "run"]

RATE = 50  # publishes a second
SIZE = 200
PATIENCE = 60.0  # s
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "longest": 1.0}


@attrs.frozen
class Delays:
    """Seconds from publish to arrival, by share of the deliveries; `late` publishes began later than they should."""

    deliveries: int
    delays: dict[str, float]
    late: int


def run(settings: Settings) -> Report:
    """Measure every contender that is here, one after the other."""
    links = settings.crowd // 10
    messages = int(RATE * max(settings.seconds * settings.rounds * 3, 1.0))
    outcomes = {each.name: alone(each.missing(), partial(_measure, each, links, messages)) for each in FAN_OUT}
    rows = []
    for name, outcome in outcomes.items():
        if isinstance(outcome, str):
            rows.append([name, outcome, *[""] * len(SHARES)])
        else:
            rows.append([name, *[f"{1000 * delay:.2f}" for delay in outcome.delays.values()], str(outcome.late)])
    table = Table(
        f"{RATE} publishes a second to {links} links, {messages} in all",
        ["server", *[f"{share} ms" for share in SHARES], "late publishes"],
        rows,
    )
    figures = {
        name: outcome if isinstance(outcome, str) else attrs.asdict(outcome) for name, outcome in outcomes.items()
    }
    p99 = {name: 1000 * outcome.delays["p99"] for name, outcome in outcomes.items() if isinstance(outcome, Delays)}
    bars = [Bars(f"Latency to {links} links, p99", "ms", p99)]
    return Report("Latency", explanation_of(__doc__), [table], figures, bars)


def _measure(contender: Contender, links: int, messages: int) -> Delays:
    with ExitStack() as stack:
        server = stack.enter_context(Program(contender.program(SIZE)))
        facts = server.facts
        words = facts["port"], contender.opening.word, links, facts.get("unit") or SIZE, facts.get("ack", "-")
        listener = stack.enter_context(Program(python("benchmarks.load.listener", *words), within=PATIENCE))
        return delays_of(server, listener, messages)


def delays_of(server: Program, listener: Program, messages: int) -> Delays:
    """Have so many published, and return how long each took to the listener. Raises `Failed`."""
    listener.tell("hear", messages, PATIENCE)
    begun, late, due = [], 0, time.monotonic()
    for _ in range(messages):
        due += 1 / RATE
        wait = due - time.monotonic()
        late += wait < 0
        time.sleep(max(wait, 0))
        begun.append(server.ask("publish", 1, 1)["begun"])
    came = listener.listen(PATIENCE)["came"]
    delays = [arrival - begin for begin, arrivals in zip(begun, came, strict=True) for arrival in arrivals]
    return Delays(len(delays), percentiles(delays), late)


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the value below which each share of all values is."""
    ordered = sorted(values)
    return {name: quantile(ordered, share) for name, share in SHARES.items()}
