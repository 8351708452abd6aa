"""The scenario of two nodes, as small as can be: what is said at the one is all heard at the other."""

from __future__ import annotations

import json
import sys
from itertools import islice
from typing import Any

import pytest

from benchmarks.contenders import find_program
from benchmarks.scenarios import cluster
from benchmarks.servers.nodes import shares_of, topics_of
from benchmarks.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loads need epoll")

TINY = Settings(rounds=1, seconds=0.02)


def test_clients_share_topics_and_all_hear_a_single_one() -> None:
    topics = topics_of(5)
    assert len({len(name) for name in topics}) == 1
    shares = list(islice(shares_of(topics, 2), 2))
    assert sorted(name for share in shares for name in share) == topics
    assert list(islice(shares_of(topics, 1), 1)) == [topics]
    assert list(islice(shares_of(topics[:1], 3), 3)) == [topics[:1]] * 3


def test_what_crosses_between_two_nodes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    if not find_program("redis-server"):
        pytest.skip("needs redis-server")
    monkeypatch.setattr(cluster, "SHAPES", (cluster.Shape(1, 2, 1), cluster.Shape(6, 3, 16)))
    monkeypatch.setattr(cluster, "TRIAL", 2 * cluster.PORTION)
    report = cluster.run(TINY)
    figures: Any = json.loads(json.dumps(report.figures))
    assert len(figures["throughput"]) == 2
    for shape in figures["throughput"]:
        [round] = shape["servers"][cluster.OURS]["rounds"]
        assert round["messages"] % cluster.PORTION == 0
        assert round["first_cpu"] > 0
        assert round["second_cpu"] > 0
        assert round["delivered_wall"] > 0
    assert figures["latency"][cluster.OURS]["deliveries"] == cluster.RATE
    assert all(owed.met is not None for owed in report.owed)


def test_without_redis_it_is_named_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("benchmarks.contenders.find_program", lambda _: "")
    report = cluster.run(TINY)
    figures: Any = json.loads(json.dumps(report.figures))
    for shape in figures["throughput"]:
        assert "program:redis-server" in shape["servers"][cluster.OURS]["missing"]
    assert all(owed.met is None for owed in report.owed)
