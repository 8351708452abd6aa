"""The fixtures, in test runs of their own, as an application's tests use them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

pytest_plugins = ["pytester"]

STORY = """
import pytest
from trio_hub import Event, everyone

{marker}
async def test_what_was_said_while_away_arrives(hub_world, autojump_clock):
    async with hub_world.open_client() as client:
        client.weather.cut()
        await hub_world.server.publish(Event("tick", 1), to=everyone())
        client.weather.mend()
        assert (await client.receive()).data == 1
"""
GUIDE = Path(__file__).parents[2] / "docs" / "testing.rst"
TRIO_MODE = "[pytest]\ntrio_mode = true\n"


@pytest.fixture
def run(pytester):
    """Run pytest on these lines, in this process."""

    def run_lines(lines, *arguments, ini="[pytest]\n"):
        pytester.makeini(ini)
        pytester.makepyfile(lines)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    return run_lines


def test_a_world_in_trio_mode(run):
    run(STORY.format(marker=""), ini=TRIO_MODE).assert_outcomes(passed=1)


def test_a_world_by_marker(run):
    run(STORY.format(marker="@pytest.mark.trio")).assert_outcomes(passed=1)


def test_a_world_runs_the_server_of_the_application(run):
    lines = """
    import pytest
    from trio_hub import Router, Server

    router = Router()

    @router.action("double")
    def double(connection, data: int) -> int:
        return data * 2

    @pytest.fixture
    def hub_server():
        return Server(router)

    async def test_it(hub_world, hub_server):
        assert hub_world.server is hub_server
        async with hub_world.open_client() as client:
            assert await client.request("double", 21) == 42
    """
    run(lines, ini=TRIO_MODE).assert_outcomes(passed=1)


def test_without_pytest_trio_it_says_what_is_missing(run):
    result = run(STORY.format(marker="").replace(", autojump_clock", ""), "-p", "no:trio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*hub_world needs pytest-trio: pip install pytest-trio*"])


@pytest.mark.parametrize("way", ["async def", "def"])
def test_a_test_that_is_not_run_by_trio_is_told_how(run, way):
    result = run(f"{way} test_it(hub_world): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mark the test with `pytest.mark.trio`*"])


CHANCE = """
import pytest

@pytest.mark.parametrize("which", [1, 2])
def test_chance(hub_random, which):
    with open("drawn", "a") as file:
        print(hub_random.random(), file=file)
"""


def test_chance_is_the_same_in_every_run_and_another_in_each_test(run, pytester):
    for arguments in ((), (), ("--hub-seed=7",)):
        run(CHANCE, *arguments).assert_outcomes(passed=2)
    drawn = (pytester.path / "drawn").read_text().split()
    assert drawn[0:2] == drawn[2:4]
    assert len(set(drawn)) == 4


def test_what_a_contract_asserts_is_explained(run):
    lines = """
    from trio_hub.testing.contracts import CodecContract
    from trio_hub.wire.codecs import V1_JSON

    class Wrong(type(V1_JSON)):
        def frames(self, bodies, first):
            return b"\\x81\\x00"

    class TestWrong(CodecContract):
        codec = Wrong()
    """
    result = run(lines, "-k", "no_events")
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*assert b'?x81?x00' == b''*"])


def test_a_run_that_asks_for_nothing_does_not_import_the_package(tmp_path):
    check = "import sys, pytest; pytest.main(['--fixtures', '-q']); print('trio_hub' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "hub_world" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "False"


IMPORTS_AND_A_TEST = r"(?:    from .*\n)+\n\n    async def test.*\n(?:    .*\n)+"


@pytest.mark.parametrize("story", re.findall(IMPORTS_AND_A_TEST, GUIDE.read_text()))
def test_the_stories_of_the_guide_are_true(run, story):
    run(dedent(story), ini=TRIO_MODE).assert_outcomes(passed=1)
