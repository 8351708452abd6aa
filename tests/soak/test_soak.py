"""A soak that is over in a few seconds, and the proof that no fault would be overlooked."""

from collections import Counter
from pathlib import Path

import attrs
import pytest

from tests.soak.__main__ import soak
from tests.soak.findings import Faults, Heard, Look, Published, Soak, as_table, compare, rows
from tests.soak.process import Effort
from tests.soak.settings import Settings


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="its processes look themselves up in Linux's /proc"
)
def test_links_that_are_lost_all_the_time_cost_nothing():
    table = rows(soak(Settings(clients=20, seconds=3, rate=200, cuts=(0.3, 1.0))))
    assert [row for row in table if not row.holds] == [], as_table(table)
    lost = {row.name for row in table if row.name.startswith("links ")}
    assert lost == {"links reset", "links closed", "links abandoned", "links stalled"}


# -- what is compared

SETTINGS = Settings(clients=2, seconds=1, rate=10, topics=1)
QUIET = Look(**{**{each.name: 0 for each in attrs.fields(Look)}, "effort": Effort()})
BUSY = attrs.evolve(QUIET, connections=2, attached=2, tasks=10)
HEARD = Heard(faults=Faults(delivered=20), asked=["0-0", "1-1"], answered=2, delays=Counter({"1": 20}))
WELL = Soak(
    SETTINGS,
    wall=1.0,
    start=BUSY,
    end=attrs.evolve(BUSY, takeovers=1),
    left=QUIET,
    published=Published(10, 1.0),
    heard=HEARD,
    carried_out=Counter({"0-0": 1, "1-1": 1}),
)


def broken(seen):
    return [row.name for row in rows(seen) if not row.holds]


def heard(**changes):
    return attrs.evolve(WELL, heard=attrs.evolve(HEARD, **changes))


def at_the_end(**changes):
    return attrs.evolve(WELL, end=attrs.evolve(WELL.end, **changes))


def test_what_is_as_promised_holds():
    assert broken(WELL) == []


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (heard(faults=Faults(delivered=19, missing=1)), ["delivered", "missing"]),
        (heard(faults=Faults(delivered=20, duplicates=1)), ["duplicates"]),
        (heard(faults=Faults(delivered=20, out_of_order=1)), ["out of order"]),
        (heard(faults=Faults(delivered=20, uninvited=1)), ["of topics not subscribed to"]),
        (heard(gaps=1), ["gaps heard of"]),
        (heard(answered=1), ["answered"]),
        (heard(answered=1, unknown=1), ["answered", "outcome unknown"]),
        (heard(answered=1, refused=1), ["answered", "refused"]),
        (attrs.evolve(WELL, carried_out=Counter({"0-0": 1})), ["carried out once", "carried out in all"]),
        (attrs.evolve(WELL, carried_out=Counter({"0-0": 2, "1-1": 1})), ["carried out once", "carried out in all"]),
        (at_the_end(gaps=1), ["gaps told of"]),
        (at_the_end(connections=3), ["connections, at the end"]),
        (at_the_end(attached=1), ["attached, at the end"]),
        (at_the_end(running_requests=1), ["running requests, at the end"]),
        (at_the_end(inbox=1), ["inbox, at the end"]),
        (at_the_end(owed=1), ["owed, at the end"]),
        (at_the_end(kept=1), ["kept, at the end"]),
        (at_the_end(held=1), ["held, at the end"]),
        (at_the_end(tasks=11), ["tasks, at the end"]),
        (at_the_end(objects=10_000), ["objects, grown by"]),
        (at_the_end(blocks=10_000), ["blocks, grown by"]),
        (at_the_end(resident=100.0), ["at the end, grown by"]),
        (attrs.evolve(WELL, left=attrs.evolve(QUIET, connections=1)), ["connections, after goodbye"]),
    ],
)
def test_every_fault_is_named(seen, names):
    assert broken(seen) == names


@pytest.mark.parametrize(
    ("came", "faults"),
    [
        ([0, 2, 4], Faults(delivered=3)),
        ([0, 4], Faults(delivered=2, missing=1)),
        ([0, 2, 2, 4], Faults(delivered=3, duplicates=1)),
        ([0, 4, 2], Faults(delivered=3, out_of_order=1)),
        ([0, 1, 2, 4], Faults(delivered=3, uninvited=1)),
        ([], Faults(missing=3)),
    ],
)
def test_what_came_is_compared_with_what_had_to(came, faults):
    assert compare(came, [0, 2, 4]) == faults


def test_two_crowds_are_added_up():
    both = HEARD + Heard.parse(attrs.asdict(HEARD))
    assert (both.faults.delivered, both.asked, both.delays["1"]) == (40, ["0-0", "1-1"] * 2, 40)


def test_a_client_must_hear_its_topics_and_nothing_else():
    settings = Settings(topics=10)
    for client in range(20):
        mine = settings.topics_of(client)
        assert settings.heard_by(client, 50) == [n for n in range(50) if settings.topic_of(n) in mine]


def test_all_processes_agree_on_the_settings():
    assert Settings.parse(SETTINGS.spelled()) == SETTINGS
    assert sorted([*SETTINGS.clients_of(0), *SETTINGS.clients_of(1)]) == [0, 1]
