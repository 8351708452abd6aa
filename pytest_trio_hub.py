"""The pytest plugin of `trio_hub.testing`: its fixtures, in every test run where trio_hub is installed.

It stands beside the package because pytest imports its plugins at every start, and whoever imports a module of a
package imports the package. So runs that ask for nothing here do not pay for it, and coverage sees trio_hub begin.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trio_hub import Server
    from trio_hub.testing import World

pytest.register_assert_rewrite("trio_hub.testing.contracts")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trio_hub")
    group.addoption("--hub-seed", default="0", metavar="SEED", help="what hub_random begins with, beside the test")


@pytest.fixture
def hub_random(request: pytest.FixtureRequest) -> random.Random:
    """Chance that is the same in every run of the same test, and another in each test; see ``--hub-seed``."""
    return random.Random(f"{request.config.getoption('--hub-seed')} {request.node.nodeid}")


@pytest.fixture
def hub_server() -> Server:
    """The server that `hub_world` runs. Override it with a fixture that returns your own."""
    from trio_hub import Server, anybody

    return Server(may_publish=anybody)


@pytest.fixture
async def hub_world(_hub_trio: None, hub_server: Server) -> AsyncIterator[World]:
    """A `trio_hub.testing.World` in which `hub_server` runs for the length of the test."""
    from trio_hub.testing import open_world

    async with open_world(hub_server) as world:
        yield world


@pytest.fixture
def _hub_trio(request: pytest.FixtureRequest) -> None:
    """That the test runs on trio."""
    if not request.config.pluginmanager.has_plugin("trio"):
        pytest.fail("hub_world needs pytest-trio: pip install pytest-trio", pytrace=False)
    if request.node.get_closest_marker("trio") is None:
        pytest.fail(
            "hub_world is for tests that run on trio: write `async def`, and mark the test with `pytest.mark.trio`"
            " or set `trio_mode = true` in pytest's configuration",
            pytrace=False,
        )
