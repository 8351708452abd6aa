"""What came of a soak, and whether it is as promised. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import attrs

from tests.soak.process import Effort
from tests.soak.settings import Settings

__all__ = ["Faults", "Heard", "Look", "Published", "Row", "Soak", "as_table", "compare", "rows"]

# Above what was seen, and below one that is left by every link of a client: two dozen of them in a minute.
_OBJECTS = 10  # for each client, by which what the server holds for it differs from one moment to another
_BLOCKS = 30  # the same
_CACHES = 500  # for all together: what Python and its libraries remember of what they did
_ARENAS = 64  # MiB, see `_memory`


@attrs.frozen
class Look:
    """What the server held at one moment, and had counted by then.

    Memory in MiB, `held` in bytes; `blocks` are all that Python's allocator has given out, `objects` those of them that
    its garbage collector follows.
    """

    resident: float
    peak: float
    blocks: int
    objects: int
    tasks: int
    connections: int
    attached: int
    running_requests: int
    inbox: int
    owed: int
    kept: int
    held: int
    resumed: int
    gaps: int
    takeovers: int
    effort: Effort

    @classmethod
    def parse(cls, facts: dict[str, Any]) -> Look:
        """Return what the server said in JSON."""
        return cls(**{**facts, "effort": Effort(**facts["effort"])})

    @property
    def is_quiet(self) -> bool:
        """Whether everybody is here, and is owed nothing."""
        return self.attached == self.connections and not (self.inbox or self.owed or self.kept or self.held)


@attrs.frozen
class Published:
    """How many events were published, within how many seconds."""

    count: int
    seconds: float


@attrs.frozen
class Faults:
    """What was wrong with the events that came, compared with those that had to."""

    delivered: int = 0
    missing: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    uninvited: int = 0

    def __add__(self, other: Faults) -> Faults:
        return Faults(*(mine + its for mine, its in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


def compare(came: Sequence[int], wanted: Sequence[int]) -> Faults:
    """Compare the numbers that came with those that had to, which are in order."""
    once, invited = set(came), set(wanted)
    return Faults(
        delivered=len(once & invited),
        missing=len(invited - once),
        duplicates=len(came) - len(once),
        out_of_order=sum(after < before for before, after in pairwise(came)),
        uninvited=len(once - invited),
    )


@attrs.define
class Heard:
    """What a crowd heard, all its clients together. `delays` counts deliveries by the milliseconds that they took."""

    faults: Faults = Faults()
    gaps: int = 0
    resumes: int = 0
    asked: list[str] = attrs.field(factory=list)
    answered: int = 0
    unknown: int = 0
    refused: int = 0
    delays: Counter[str] = attrs.field(factory=Counter)
    spoilt: Counter[str] = attrs.field(factory=Counter)
    effort: Effort = attrs.field(factory=Effort)

    @classmethod
    def parse(cls, facts: dict[str, Any]) -> Heard:
        """Return what a crowd said in JSON."""
        own = {
            "faults": Faults(**facts["faults"]),
            "effort": Effort(**facts["effort"]),
            "delays": Counter(facts["delays"]),
        }
        return cls(**{**facts, **own, "spoilt": Counter(facts["spoilt"])})

    def __add__(self, other: Heard) -> Heard:
        return Heard(*(getattr(self, each.name) + getattr(other, each.name) for each in attrs.fields(Heard)))


@attrs.frozen
class Soak:
    """Everything that is known of one soak. `left` is the server when it has said goodbye to everybody."""

    settings: Settings
    wall: float
    start: Look
    end: Look
    left: Look
    published: Published
    heard: Heard
    carried_out: Counter[str]


@attrs.frozen
class Row:
    """A line of the table. `promised` is empty where nothing is."""

    name: str
    seen: str
    promised: str = ""
    holds: bool = True


def rows(soak: Soak) -> list[Row]:
    """Return the whole table."""
    return [*_deliveries(soak), *_links(soak), *_requests(soak), *_left_behind(soak), *_memory(soak), *_pace(soak)]


def _exactly(name: str, seen: float, promised: float) -> Row:
    return Row(name, f"{seen:,}", f"{promised:,}", seen == promised)


def _at_most(name: str, seen: float, most: float, unit: str = "") -> Row:
    return Row(name, f"{seen:,}{unit}", f"at most {most:,}{unit}", seen <= most)


def _plain(name: str, seen: float, unit: str = "") -> Row:
    return Row(name, f"{seen:,.0f}{unit}" if seen == round(seen) else f"{seen:,.1f}{unit}")


def _deliveries(soak: Soak) -> Iterable[Row]:
    settings, faults = soak.settings, soak.heard.faults
    yield _plain("published", soak.published.count)
    expected = sum(len(settings.heard_by(client, soak.published.count)) for client in range(settings.clients))
    yield _exactly("delivered", faults.delivered, expected)
    yield _exactly("missing", faults.missing, 0)
    yield _exactly("duplicates", faults.duplicates, 0)
    yield _exactly("out of order", faults.out_of_order, 0)
    yield _exactly("of topics not subscribed to", faults.uninvited, 0)
    yield _exactly("gaps heard of", soak.heard.gaps, 0)
    yield _exactly("gaps told of", soak.end.gaps, 0)


def _links(soak: Soak) -> Iterable[Row]:
    for how, count in sorted(soak.heard.spoilt.items()):
        yield _plain(f"links {how}", count)
    yield _plain("resumes", soak.heard.resumes)
    yield _plain("takeovers", soak.end.takeovers)


def _requests(soak: Soak) -> Iterable[Row]:
    asked = len(soak.heard.asked)
    yield _plain("requests asked", asked)
    yield _exactly("answered", soak.heard.answered, asked)
    yield _exactly("carried out once", sum(soak.carried_out[name] == 1 for name in soak.heard.asked), asked)
    yield _exactly("carried out in all", soak.carried_out.total(), asked)
    yield _exactly("refused", soak.heard.refused, 0)
    yield _exactly("outcome unknown", soak.heard.unknown, 0)


def _left_behind(soak: Soak) -> Iterable[Row]:
    for name in ("connections", "attached", "running_requests", "inbox", "owed", "kept", "held", "tasks"):
        yield _exactly(f"{name.replace('_', ' ')}, at the end", getattr(soak.end, name), getattr(soak.start, name))
    for name in ("connections", "running_requests", "inbox", "owed", "kept", "held"):
        yield _exactly(f"{name.replace('_', ' ')}, after goodbye", getattr(soak.left, name), 0)


def _memory(soak: Soak) -> Iterable[Row]:
    """What lives is counted, exactly but for a few objects of each client, and for the requests, whose names are kept.

    What the process takes is another matter. Python gives an arena of 1 MiB back when nothing in it lives; those in
    which the events were that were owed at the worst moment stay, nearly empty: some seconds' worth of events.
    """
    start, end, clients = soak.start, soak.end, soak.settings.clients
    yield _at_most("objects, grown by", end.objects - start.objects, _OBJECTS * clients + _CACHES)
    blocks = _BLOCKS * clients + 2 * len(soak.carried_out) + 4 * _CACHES
    yield _at_most("blocks, grown by", end.blocks - start.blocks, blocks)
    yield _plain("resident at the start", start.resident, " MiB")
    yield _plain("at its peak", end.peak, " MiB")
    yield _at_most("at the end, grown by", round(end.resident - start.resident, 1), _ARENAS, " MiB")


def _pace(soak: Soak) -> Iterable[Row]:
    settings, published = soak.settings, soak.published
    rate = published.count / published.seconds
    behind = " (the load fell behind)" if rate < 0.95 * settings.rate else ""
    yield Row("published a second", f"{rate:,.0f}{behind}")
    yield _plain("delivered a second", round(soak.heard.faults.delivered / published.seconds))
    for name, part in (("median", 0.5), ("99 %", 0.99), ("longest", 1.0)):
        yield Row(f"delay, {name}", f"{_delay(soak.heard.delays, part) / 1000:.3f} s")
    yield _plain("wall time", soak.wall, " s")
    for name, effort in (("server", soak.end.effort), ("crowds", soak.heard.effort)):
        yield _plain(f"CPU time of the {name}", round(effort.ran, 1), " s")
        yield _plain("waited for a core", round(effort.waited, 1), " s")


def _delay(delays: Counter[str], part: float) -> float:
    """Return the milliseconds within which this part of the deliveries were made."""
    left = math.ceil(delays.total() * part)
    for delay in sorted(map(int, delays)):
        left -= delays[str(delay)]
        if left <= 0:
            return delay
    return math.nan


def as_table(table: Sequence[Row]) -> str:
    """Return the rows with their columns aligned; those that do not hold are marked."""
    name, seen = (max(len(getattr(row, column)) for row in table) for column in ("name", "seen"))
    return "\n".join(
        f"{row.name:{name}}  {row.seen:>{seen}}  {row.promised}{'' if row.holds else '  NOT AS PROMISED'}".rstrip()
        for row in table
    )
