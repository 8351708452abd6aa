"""Clients that lose their links all the time: how much of what was said reaches them.

Numbered messages go to everybody, 50 a second. A proxy of ours resets every client's link every two seconds, each at
its own moment, half of the times in the midst of a message. Clients are what each library has, with its usual options,
but come back within half a second. Behind the last message they have 10 s to come back, and to hear that it was the
last. Counted is what each client heard of each number: never, more than once, behind a later one; and how often a
client was told that something is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import attrs

from benchmarks.contenders import NODE, Contender
from benchmarks.contest import alone
from benchmarks.conversation import Failed, Program
from benchmarks.report import Bars, Owed, Report, Table, explanation_of
from benchmarks.settings import Settings

__all__ = ["Cut", "play", "run"]

RATE = 50  # messages a second
EVERY = 2.0  # s, between two cuts of one client
COME_BACK = 10.0  # s
OURS = "trio_hub v1.json"


@attrs.frozen
class Pair:
    """A server and the clients that belong to it."""

    server: Contender
    clients: Contender

    @property
    def name(self) -> str:
        return self.server.name

    def missing(self) -> list[str]:
        """Return what either needs and is not installed here."""
        return self.server.missing() + self.clients.missing()


def _python(name: str, server: str, clients: str, needs: Sequence[str] = ()) -> Pair:
    return Pair(
        Contender(name, f"benchmarks.servers.{server}", needs=needs), Contender(name, f"benchmarks.load.{clients}")
    )


_NODE = "socket.io/node, recovery"
PAIRS = (
    _python(OURS, "ticks_hub", "hear_hub"),
    _python("websockets", "ticks_websockets", "hear_websockets", ["websockets"]),
    _python("python-socketio", "ticks_socketio", "hear_socketio", ["socketio", "aiohttp"]),
    Pair(
        Contender(_NODE, needs=["node:socket.io"], command=["node", str(NODE / "socketio_ticks.mjs")]),
        Contender(_NODE, needs=["node:socket.io-client"], command=["node", str(NODE / "socketio_hear.mjs")]),
    ),
)


@attrs.frozen
class Cut:
    """What came of it: of `expected` pairs of a client and a message, how many were `received`, and what else.

    `gaps` are clients' notices of a loss, `unfinished` clients did not come back in time. There were `cuts`, of which
    `midst` were in the midst of what the server said.
    """

    expected: int
    received: int
    duplicates: int
    disorder: int
    gaps: int
    unfinished: int
    cuts: int
    midst: int

    @property
    def delivered(self) -> float:
        """The fraction of what was expected."""
        return self.received / self.expected


def play(pair: Pair, clients: int, messages: int, every: float) -> Cut:
    """Have so many messages said to clients that are cut. Raises `Failed`."""
    with ExitStack() as stack:
        server = stack.enter_context(Program(pair.server.program()))
        cutter = stack.enter_context(
            Program(Contender("cutter", "benchmarks.load.cutter").program(server.facts["port"], clients))
        )
        ports = ",".join(map(str, cutter.facts["ports"]))
        hearers = stack.enter_context(Program(pair.clients.program(ports)))
        cutter.tell("cut", every)
        server.ask("publish", messages, RATE, within=2 * messages / RATE + 10)
        done = cutter.ask("stop")
        heard = hearers.ask("finish", messages, COME_BACK, within=COME_BACK + 10)
    cut = Cut(expected=clients * messages, **heard, **done)
    if not cut.cuts:
        raise Failed("nobody was cut")
    if cut.received > cut.expected:
        raise Failed("more was heard than was said")
    return cut


def run(settings: Settings) -> Report:
    """Measure every contender that is here, one after the other."""
    clients = min(settings.crowd, 100)
    messages = max(round(8 * settings.rounds * settings.seconds * RATE), RATE)
    outcomes = {pair.name: alone(pair.missing(), partial(play, pair, clients, messages, EVERY)) for pair in PAIRS}
    delivered = {name: cut.delivered for name, cut in outcomes.items() if isinstance(cut, Cut)}
    figures = {name: {"missing": cut} if isinstance(cut, str) else _figures(cut) for name, cut in outcomes.items()}
    return Report(
        "Cuts",
        explanation_of(__doc__),
        [_table(f"{clients} clients, {messages} messages, each client cut every {EVERY:g} s", outcomes)],
        {"clients": clients, "messages": messages, "every": EVERY, "servers": figures},
        [Bars("Delivered while clients are cut", "%", {name: 100 * part for name, part in delivered.items()})],
        [_owed(outcomes[OURS])],
    )


# -- what came of it


def _figures(cut: Cut) -> dict[str, float]:
    return {"delivered": cut.delivered, **attrs.asdict(cut)}


_COUNTS = "duplicates", "disorder", "gaps", "unfinished", "cuts", "midst"


def _table(title: str, outcomes: dict[str, Cut | str]) -> Table:
    rows = []
    for name, cut in outcomes.items():
        if isinstance(cut, str):
            rows.append([name, cut, *[""] * (len(_COUNTS) + 1)])
        else:
            lost = cut.expected - cut.received
            counts = [str(getattr(cut, count)) for count in _COUNTS]
            rows.append([name, f"{100 * cut.delivered:.2f} %", str(lost), *counts])
    columns = ["server and client", "delivered", "lost", "duplicates", "disorder", "gap notices", "not back"]
    return Table(title, [*columns, "cuts", "in the midst"], rows)


def _owed(cut: Cut | str) -> Owed:
    work, owed = f"{OURS}, clients cut every {EVERY:g} s", "0 lost, 0 gap notices"
    if isinstance(cut, str):
        return Owed(work, owed, "", None)
    lost = cut.expected - cut.received
    return Owed(work, owed, f"{lost} of {cut.expected} lost, {cut.gaps} gap notices", not (lost or cut.gaps))
