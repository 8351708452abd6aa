"""The scenarios of crowds, presence, cuts and compression, as small as can be: figures are complete, counts exact."""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs
import pytest

from benchmarks import index
from benchmarks.load.raw import Trouble
from benchmarks.load.watcher import check_users
from benchmarks.scenarios import compression, cuts, large, pool, presence, topic
from benchmarks.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loads need epoll")

TINY = Settings(links=(3,), crowd=40, rounds=1, seconds=0.05)


def test_a_topic_in_a_crowd_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LARGE", 2000)
    report = topic.run(TINY)
    figures: Any = json.loads(json.dumps(report.figures))
    servers = figures["publish"]["servers"]
    assert list(servers) == ["trio_hub, 10 of 20", "trio_hub, 10 of 40"]
    assert all(len(each["rounds"]) == topic.FINER for each in servers.values())
    assert figures["publish"]["ratio"] > 0
    quiet, publishing = figures["waits"].values()
    assert quiet["count"] == publishing["count"] == 100
    assert (publishing["recipients"], publishing["published"]) == (40, 2)
    assert len(figures["index_us"]) == 2
    assert len(report.tables) == 3
    assert all(owed.met is not None for owed in report.owed)


def test_a_pool_is_measured_beside_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    report = pool.run(attrs.evolve(TINY, pooled=(3,), sizes=(200,)))
    figures: Any = json.loads(json.dumps(report.figures))
    assert [each["burst"] for each in figures] == [1, 16]
    for each in figures:
        assert next(iter(each["servers"])) == pool.OURS
        assert len(each["servers"]) == 4
        for name, server in each["servers"].items():
            [round] = server["rounds"]
            assert round["deliveries"] % (3 * each["burst"]) == 0, name
    assert round["bytes"] > 0
    assert all(owed.met is not None for owed in report.owed)


def test_presence_is_measured_and_the_list_is_right() -> None:
    report = presence.run(TINY)
    figures: Any = json.loads(json.dumps(report.figures))
    assert figures["users"] == 40
    without, with_it = (figures["servers"][name]["rounds"] for name in ("without presence", "with presence"))
    assert [(each["users"], each["events"]) for each in without] == [(40, 0)]
    [round] = with_it
    assert round["users"] == 40
    assert 3 <= round["events"] <= 12, "all come, half go, all are gone: each is told at once, or in a few looks"
    assert figures["ratio"] > 0
    costs, right = report.owed
    assert costs.met is not None
    assert (right.measured, right.met) == ("right", True)


def users_to(count: int) -> dict[str, str]:
    return {f"user-{number}": "online" for number in range(count)}


def test_a_list_is_right_when_it_is_exactly_who_is_there() -> None:
    check_users(users_to(3), 3)
    check_users({}, 0)
    for wrong in (users_to(2), users_to(4), {}, users_to(2) | {"watcher": "online"}, users_to(3) | {"user-1": "away"}):
        with pytest.raises(Trouble, match="list"):
            check_users(wrong, 3)


def test_a_wrong_list_is_a_scenario_that_fails() -> None:
    cost, right = presence.owed_of(40, {presence.WITHOUT.name: [], presence.WITH.name: "failed: 1 missing"}, None, None)
    assert (cost.met, right.met) == (None, False)
    assert right.measured == "failed: 1 missing"


def test_nothing_is_lost_by_our_clients_when_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "PAIRS", cuts.PAIRS[:1])
    monkeypatch.setattr(cuts, "EVERY", 0.4)
    report = cuts.run(TINY)
    figures: Any = json.loads(json.dumps(report.figures))
    ours = figures["servers"][cuts.OURS]
    assert (figures["clients"], figures["messages"]) == (40, 50)
    assert ours["received"] == ours["expected"] == 2000
    assert (ours["duplicates"], ours["disorder"], ours["gaps"], ours["unfinished"]) == (0, 0, 0, 0)
    assert ours["cuts"] >= 40
    assert ours["midst"] > 0
    assert [owed.met for owed in report.owed] == [True]


@pytest.mark.parametrize("pair", cuts.PAIRS[1:], ids=lambda pair: pair.name)
def test_peers_come_back_when_they_are_cut(pair: cuts.Pair) -> None:
    if missing := pair.server.missing() + pair.clients.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    cut = cuts.play(pair, 6, 25, 0.4)
    assert 0 < cut.received <= cut.expected == 150
    assert cut.unfinished == 0
    assert cut.cuts > 0


def test_compressed_messages_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "BURSTS", {16: "bursts of 16"})
    monkeypatch.setattr(compression, "TRIAL", 300)
    [figures] = json.loads(json.dumps(compression.run(TINY).figures))
    outcomes, sizes = figures["servers"], figures["bytes_per_delivery"]
    assert len(outcomes) == 7
    for name, outcome in outcomes.items():
        if "missing" in outcome:
            assert outcome["missing"].startswith("missing: ")
            assert not name.startswith("trio_hub")
            continue
        [round] = outcome["rounds"]
        assert round["deliveries"] % (3 * 16) == 0
        assert (sizes[name] > 2048) == name.endswith("plain")


def test_large_messages_come_whole_in_every_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "DIALECTS", ["sealed", "webson, streams"])
    report = large.run(attrs.evolve(TINY, seconds=0.005))
    figures: Any = json.loads(json.dumps(report.figures))
    assert figures["huge"]["bytes"] == large.HUGE // 100
    assert list(figures["large"]) == ["sealed", "webson, streams"]
    assert all(outcome["rate"] > 0 for each in figures["large"].values() for outcome in each.values())
    memory, all_came = report.owed
    assert memory.met
    assert all_came.met
