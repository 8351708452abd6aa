"""What is made of a load's figures, at a desk."""

import attrs
import pytest

from trio_hub.cli.bench.findings import Findings
from trio_hub.cli.bench.measures import Histogram, Verdict
from trio_hub.cli.bench.members import Plan
from trio_hub.cli.bench.report import _plain_rows, percentage

PLAN = Plan(
    url="ws://hub",
    token="secret",
    connections=2,
    topics=1,
    publishers=1,
    rate=10,
    size=200,
    seconds=1,
    cbor=False,
    patience=1,
)
FINE = Findings(
    plan=PLAN,
    interrupted=False,
    waited=True,
    connections=3,
    coming_seconds=0.5,
    published=10,
    accepted=10,
    accepted_seconds=1,
    delivered_seconds=2,
    verdict=Verdict(due=20, delivered=20),
    latencies=Histogram(),
    links_lost=0,
    dials_failed=0,
    resumes=0,
    gaps=0,
    ended=0,
    failures={},
    reasons=[],
    cpu_share=0.5,
    busy_share=0.5,
)


def test_a_load_of_which_everything_came_is_sound():
    assert FINE.is_sound
    assert (FINE.connections_per_second, FINE.accepted_per_second, FINE.delivered_per_second) == (6, 10, 10)
    assert FINE.remarks == []


def test_links_that_were_lost_and_gaps_that_were_told_are_sound():
    assert attrs.evolve(FINE, links_lost=2, resumes=1, gaps=1, verdict=Verdict(due=20, delivered=15, told=5)).is_sound


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": Verdict(due=20, delivered=19, silent=1)},
        {"verdict": Verdict(due=20, delivered=20, duplicates=1)},
        {"verdict": Verdict(due=20, delivered=20, out_of_order=1)},
        {"failures": {"busy": 1}},
        {"ended": 1},
        {"verdict": Verdict(), "accepted": 0},
    ],
)
def test_anything_else_is_not(change):
    assert not attrs.evolve(FINE, **change).is_sound


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu_share": 0.95}, "no time to spare"),
        ({"busy_share": 0.95}, "no time to spare"),
        ({"accepted": 9}, "rate of 10 publishes a second was not reached"),
        ({"interrupted": True, "accepted": 3}, "ended before its time"),
        ({"waited": False}, "not waited for"),
        ({"reasons": ["401: the token is not known"]}, "The hub said: 401"),
    ],
)
def test_what_has_to_be_borne_in_mind_is_said(change, words):
    (remark,) = attrs.evolve(FINE, **change).remarks
    assert words in remark


def test_where_nothing_came_there_is_no_latency():
    assert set(FINE.as_json()["latency_ms"].values()) == {None}
    assert "-" in [value for _, value, _ in _plain_rows(FINE)]


def test_json_holds_no_secret():
    assert "secret" not in str(FINE.as_json())


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 0, ""), (5, 5, "100 %"), (1, 3, "33.33 %"), (999_999, 1_000_000, "99.99990 %"), (0, 5, "0.00 %")],
)
def test_only_all_of_it_is_a_hundred_per_cent(part, whole, words):
    assert percentage(part, whole) == words
