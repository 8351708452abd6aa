"""What an idle connection costs in memory: many links are opened, and nothing happens on them.

Resident memory of the server (RSS) before and after, divided by the links. Links are opened one after another, and the
server has had a few when it is measured first. The kernel's own memory stands apart: what TCP's buffers and all slabs
grew by, halved, since both ends of every link are on this machine. No compression anywhere.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs

from benchmarks.contenders import Contender
from benchmarks.contest import alone
from benchmarks.conversation import Program, python
from benchmarks.report import Bars, Owed, Report, Table, explanation_of
from benchmarks.servers import FAN_OUT
from benchmarks.settings import Settings

__all__ = ["run"]

FEW = 50  # links, so that everything that comes with the first ones is there
QUIET = 2.0  # s, until whatever the last ones caused is over; less where they are few
LINKS_A_SECOND = 1000  # whose causes are over
PATIENCE = 120.0  # s
OWED = 20.0  # KiB
PAGE = os.sysconf("SC_PAGE_SIZE")


@attrs.frozen
class Idle:
    """KiB for each of so many links, the server's and the kernel's."""

    links: int
    server: float
    kernel: float


def run(settings: Settings) -> Report:
    """Measure every contender that is here, one after the other."""
    links = settings.crowd // 2
    outcomes = {each.name: alone(each.missing(), partial(_measure, each, links)) for each in FAN_OUT}
    found = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Idle)}
    rows = [
        [name, f"{outcome.server:.1f}", f"{outcome.kernel:.1f}"] if isinstance(outcome, Idle) else [name, outcome, ""]
        for name, outcome in outcomes.items()
    ]
    table = Table(f"{links} idle connections", ["server", "KiB each", "kernel's KiB each"], rows)
    figures = {
        name: outcome if isinstance(outcome, str) else attrs.asdict(outcome) for name, outcome in outcomes.items()
    }
    bars = Bars("An idle connection", "KiB", {name: outcome.server for name, outcome in found.items()})
    return Report("Idle memory", explanation_of(__doc__), [table], figures, [bars], _owed(found))


def _owed(found: dict[str, Idle]) -> list[Owed]:
    ours = {name: idle.server for name, idle in found.items() if name.startswith("trio_hub")}
    measured = ", ".join(f"{name.removeprefix('trio_hub ')} {size:.1f}" for name, size in ours.items())
    return [Owed("an idle connection, RSS", f"<= {OWED:g} KiB", measured, max(ours.values()) <= OWED if ours else None)]


def _measure(contender: Contender, links: int) -> Idle:
    with ExitStack() as stack:
        server = stack.enter_context(Program(contender.program(200)))
        pid = server.facts.get("pid", server.pid)
        words = server.facts["port"], contender.opening.word
        _open(stack, *words, FEW)
        before, kernel_before = rss(pid), kernel()
        _open(stack, *words, links)
        return Idle(links, (rss(pid) - before) / links / 1024, (kernel() - kernel_before) / links / 2 / 1024)


def _open(stack: ExitStack, port: int, opening: str, links: int) -> None:
    stack.enter_context(Program(python("benchmarks.load.sink", port, opening, links, 0, "-"), within=PATIENCE))
    time.sleep(min(QUIET, max(links / LINKS_A_SECOND, 0.2)))


def rss(pid: int) -> int:
    """Return the bytes of memory that a process has at this moment."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def kernel() -> int:
    """Return the bytes that TCP's buffers and the kernel's slabs take at this moment."""
    pages = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    slab = re.search(r"^Slab:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert pages is not None
    assert slab is not None
    return int(pages[1]) * PAGE + int(slab[1]) * 1024
