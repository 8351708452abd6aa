"""Who can be measured: ours and our peers, and what has to be installed for each.

A contender is a server program and how a client comes to hear it. Scenarios pick those that can do what they measure.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import attrs

from benchmarks.conversation import python

__all__ = ["BUN", "NODE", "PACKAGES", "Contender", "Opening", "find_program", "node_package"]

NODE = Path(__file__).parent / "node"
"""Servers in JavaScript, and the lock file of what they need: ``npm ci --ignore-scripts`` installs it there."""

PACKAGES = (
    "trio-hub",
    "trio",
    "trio-websocket",
    "websockets",
    "uvloop",
    "picows",
    "aiohttp",
    "python-socketio",
    "redis",
    "coredis",
)
"""Python packages whose versions matter to who compares two runs."""


@attrs.frozen
class Opening:
    """How a client comes to hear a server: `target` and `subprotocol` of the upgrade, and what is said behind it.

    The server's first `greetings` frames are swallowed; `said` is the text of one frame that goes out behind the first
    of them, or behind the upgrade where there are none. `extensions` are offered in the upgrade.
    """

    target: str = "/"
    subprotocol: str = "-"
    greetings: int = 0
    said: str = ""
    extensions: str = ""

    @property
    def word(self) -> str:
        """All of it as one word of a command line: see `benchmarks.load.raw.opening_from`."""
        return json.dumps(attrs.asdict(self))


@attrs.frozen
class Contender:
    """A server to be measured. `module` is a program of ours that runs it; `command` is said for any other.

    `needs` are what it cannot do without: Python modules, ``node:`` packages (or files in
    them), or ``program:`` commands.
    """

    name: str
    module: str = ""
    words: Sequence[object] = ()
    needs: Sequence[str] = ()
    opening: Opening = Opening()
    command: Sequence[str] = ()

    def missing(self) -> list[str]:
        """Return what it needs and is not installed here."""
        return [need for need in self.needs if not _is_here(need)]

    def program(self, *words: object, profile: Path | None = None) -> list[str]:
        """Return the command that runs it; `words` stand before its own. Only Python programs have profiles."""
        if self.command:
            return [*self.command, *map(str, words), *map(str, self.words)]
        return python(self.module, *words, *self.words, profile=profile)


def _is_here(need: str) -> bool:
    kind, _, name = need.rpartition(":")
    if kind == "node":
        return shutil.which("node") is not None and node_package(name).exists()
    if kind == "program":
        return bool(find_program(name))
    return find_spec(name) is not None


def find_program(name: str) -> str:
    """Return where a command is, also one for administrators; nothing where it is not installed."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or ""


def node_package(name: str) -> Path:
    """Return where an npm package, or a file in it, is when `NODE` has been installed."""
    return NODE / "node_modules" / name


def _bun() -> str:
    machine = {"x86_64": "x64", "AMD64": "x64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return f"@oven/bun-{platform.system().lower()}-{machine}/bin/bun"


BUN = _bun()
"""Bun's program among the npm packages: npm brings the one for this machine, and the package ``bun`` need not run."""
