"""A little of what `chaos` does at length: real processes, a real Redis, and trouble of every kind."""

import os
from pathlib import Path

import pytest

from tests.cluster.chaos import Plan, Run


@pytest.mark.skipif("CI" in os.environ, reason="takes half a minute; nox -s chaos takes three")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
async def test_everybody_hears_everything_once_or_of_a_gap():
    plan = Plan(
        clients=12, publishers=2, lasts=14, kill_every=5, freeze_every=6, redis_away_at=4, redis_away_for=3,
        noticed_within=30,
    )  # fmt: skip
    run = Run(plan)
    await run.run()
    report = run.report()
    assert report["missing without a word"] == 0, report
    assert report["delivered twice"] == 0, report
    assert report["workers killed"], report
    assert report["delivered"] > report["deliveries owed"] / 4, report
