"""What presence costs: a crowd comes into a topic and goes, while one looks on.

Each is a user of their own; 200 dials are under way. When all are there, half of them lose their links at once, then
the others. They are gone for good a second later. Measured is the server's CPU time for each that has come and gone,
from the first dial until nobody is left, by a server with presence and by one without it, which take turns: the
difference is what presence costs. The one with presence has a watcher, who keeps a list from what is told. When all
are there, when half are, and when nobody is, that list must be exactly right, and so must the one that the hub gives
when it is asked, which is not part of the time.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median

import attrs

from benchmarks import rates
from benchmarks.contenders import Contender, Opening
from benchmarks.contest import Outcomes, compete, median_of, median_ratio
from benchmarks.conversation import Failed, Program, python
from benchmarks.report import Bars, Owed, Report, Table, explanation_of
from benchmarks.settings import Settings

__all__ = ["WITH", "WITHOUT", "Round", "owed_of", "run"]

TOPIC = "town"
FLIGHT = 200
PATIENCE = 120.0  # s, for a crowd to come, or to be gone
SETTLED = 1.0  # s: two looks of presence, after which there is nothing more to tell
MOST_RATIO, MOST_EACH = 1.25, 100e-6
_COME = Opening(f"/ws?topics={TOPIC}&user=user-{{number}}", "trio-hub.v1.json", 1)
WITHOUT = Contender("without presence", "benchmarks.servers.presence_hub", ["without"], opening=_COME)
WITH = Contender("with presence", "benchmarks.servers.presence_hub", ["with"], opening=_COME)


@attrs.frozen(kw_only=True)
class Round(rates.Round):
    """So many users have come and gone, of which a watcher was told in so many `events`."""

    users: int
    events: int

    @property
    def done(self) -> int:
        return self.users

    @property
    def cost(self) -> float:
        """The server's CPU time for each, in seconds."""
        return self.cpu / self.users


class Crowd:
    """A server, those who come and go, and one who looks on where there is something to see."""

    def __init__(self, contender: Contender, users: int, settings: Settings, stack: ExitStack) -> None:
        self._users = users
        profile = settings.profile_of("presence", contender.name)
        self._server = stack.enter_context(Program(contender.program(profile=profile)))
        port = self._server.facts["port"]
        dialer = python("benchmarks.load.dialer", port, contender.opening.word, users, FLIGHT)
        self._dialer = stack.enter_context(Program(dialer))
        self._aside = 0.0  # CPU time of this round that is nobody's coming or going
        self._watcher: Program | None = None
        if contender is WITH:
            self._watcher = stack.enter_context(Program(python("benchmarks.load.watcher", port, TOPIC)))

    def play(self) -> Round:
        """Have all come and go. Raises `Failed` where the watcher's list is not right."""
        begun, before, self._aside = time.monotonic(), self._server.ask("cpu"), 0.0
        self._dialer.ask("open", PATIENCE, within=PATIENCE + 5)
        events = self._seen(self._users)
        self._dialer.ask("reset", self._users // 2)
        events += self._seen(self._users // 2)
        self._dialer.ask("reset")
        events += self._seen(0)
        self._wait_for(before["connections"])
        wall = time.monotonic() - begun
        time.sleep(SETTLED)
        cpu = self._server.ask("cpu")["cpu"] - before["cpu"] - self._aside
        return Round(users=self._users, events=events, wall=wall, cpu=cpu)

    def _seen(self, users: int) -> int:
        """Return by how many events the watcher was told that exactly these are there."""
        if self._watcher is None:
            return 0
        events: int = self._watcher.ask("until", users, PATIENCE, within=PATIENCE + 5)["events"]
        cpu = self._server.ask("cpu")["cpu"]
        self._watcher.ask("check", users)
        self._aside += self._server.ask("cpu")["cpu"] - cpu
        return events

    def _wait_for(self, connections: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._server.ask("cpu")["connections"] > connections:
            if time.monotonic() > deadline:
                raise Failed("the server still has connections of those who have gone")
            time.sleep(0.1)


def run(settings: Settings) -> Report:
    """Measure both, round after round."""
    users = settings.crowd
    outcomes = compete(
        [WITHOUT, WITH], lambda contender, stack: Crowd(contender, users, settings, stack), settings.rounds
    )
    ratio = median_ratio(outcomes[WITH.name], outcomes[WITHOUT.name], lambda each: each.cost)
    differences = _differences(outcomes)
    more = median(differences) if differences else None
    costs = {name: median_of(rounds, lambda each: each.cost) for name, rounds in outcomes.items()}
    return Report(
        "Presence",
        explanation_of(__doc__),
        [_table(users, outcomes, ratio, differences)],
        {
            "users": users,
            "servers": rates.figures_of("users", outcomes),
            "ratio": ratio,
            "more_us": [1e6 * each for each in differences],
        },
        [Bars("Coming and going", "CPU µs", {name: 1e6 * cost for name, cost in costs.items() if cost})],
        owed_of(users, outcomes, ratio, more),
    )


def _differences(outcomes: Outcomes[Round]) -> list[float]:
    """Return what presence cost for each user, round by round, in seconds; nothing where one of both has no rounds."""
    with_it, without = outcomes[WITH.name], outcomes[WITHOUT.name]
    if isinstance(with_it, str) or isinstance(without, str):
        return []
    return [one.cost - other.cost for one, other in zip(with_it, without, strict=True)]


# -- what came of it


def _table(users: int, outcomes: Outcomes[Round], ratio: float | None, differences: list[float]) -> Table:
    columns = ["", "CPU µs each", "range", "more, CPU µs", "range", f"x {WITHOUT.name}", "events to a watcher"]
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, *[""] * (len(columns) - 2)])
            continue
        row = [name, *_in_us([each.cost for each in rounds])]
        if name == WITH.name and differences and ratio is not None:
            told = median(each.events for each in rounds)
            row += [*_in_us(differences), f"{ratio:.2f}", f"{told:.0f}"]
        rows.append(row + [""] * (len(columns) - len(row)))
    return Table(f"{users} users come and go", columns, rows)


def _in_us(seconds: list[float]) -> tuple[str, str]:
    """Return the median of these, and their range."""
    return f"{1e6 * median(seconds):.0f}", f"{1e6 * min(seconds):.0f} to {1e6 * max(seconds):.0f}"


def owed_of(users: int, outcomes: Outcomes[Round], ratio: float | None, more: float | None) -> list[Owed]:
    """Return what is owed of presence: its cost, and a list that is right, without which there is no cost."""
    work = f"presence of {users} users that come and go"
    owed = f"<= {MOST_RATIO:g} x the CPU time without, <= {1e6 * MOST_EACH:.0f} us more each"
    played = outcomes[WITH.name]
    is_right = not isinstance(played, str)
    right = Owed(f"{work}, a watcher's list", "exactly who is there", "right" if is_right else str(played), is_right)
    if ratio is None or more is None:
        return [Owed(work, owed, "", None), right]
    measured = f"{ratio:.2f} x, {1e6 * more:.0f} us"
    return [Owed(work, owed, measured, ratio <= MOST_RATIO and more <= MOST_EACH), right]
