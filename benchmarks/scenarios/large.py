"""Messages too large for memory, in every dialect: how fast they pass, and how much memory both ends ever take.

One message of 2 GiB first, which is made block by block, sent as it is made and had as it comes; then one of 100 MB in
each dialect, plain and deflated. Each end is a process of its own, fresh for each dialect. A checksum says that what
was had is what was sent. Memory is the largest resident set (RSS) that the process ever had, the interpreter included.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.contest import alone
from benchmarks.conversation import Failed, Program, python
from benchmarks.dialects import DIALECTS
from benchmarks.report import Bars, Owed, Report, Table, explanation_of
from benchmarks.settings import Settings

__all__ = ["run"]

HUGE, LARGE = 1 << 31, 100_000_000  # bytes, where a round may take half a second and more
FULL_ROUND = 0.5  # s
PATIENCE = 600.0  # s
MOST_MEMORY = 100.0  # MiB
MIB = 1 << 20
COLUMNS = ["dialect", "MB/s", "MB/s deflated", "server's MiB", "client's MiB"]


def run(settings: Settings) -> Report:
    """Measure one huge message, then a large one in each dialect."""
    share = min(settings.seconds / FULL_ROUND, 1.0)
    huge = alone([], partial(_pour, "standard", "plain", int(HUGE * share)))
    figures: dict[str, Any] = {"huge": huge, "large": {}}
    rows = []
    for name in DIALECTS:
        plain, deflated = (
            alone([], partial(_pour, name, compression, int(LARGE * share))) for compression in ("plain", "deflated")
        )
        figures["large"][name] = {"plain": plain, "deflated": deflated}
        rows.append([name, _speed(plain), _speed(deflated), _memory(plain, "server"), _memory(plain, "client")])
    tables = [
        Table(f"{HUGE * share / MIB:.0f} MiB", COLUMNS, [["standard", _speed(huge), "", *_memories(huge)]]),
        Table(f"{LARGE * share / 1e6:.0f} MB in each dialect", COLUMNS, rows),
    ]
    found = {name: each["plain"]["rate"] / 1e6 for name, each in figures["large"].items() if "rate" in each["plain"]}
    bars = Bars("A large message", "MB/s", found)
    return Report("Large messages", explanation_of(__doc__), tables, figures, [bars], [_owed(huge), _all_came(figures)])


def _pour(dialect: str, compression: str, size: int) -> dict[str, Any]:
    """Send one message of so many bytes. Raises `Failed` where it did not come as it was sent."""
    with ExitStack() as stack:
        server = stack.enter_context(Program(python("benchmarks.servers.swallow", dialect, compression)))
        words = server.facts["port"], dialect, compression
        client = stack.enter_context(Program(python("benchmarks.load.pourer", *words)))
        said = client.ask(size, within=PATIENCE)
        if not said["whole"]:
            raise Failed(f"what came in the dialect {dialect!r} is not what was sent")
        peak = server.ask("memory")["peak"]
        return {"bytes": size, "rate": size / said["seconds"], "server": peak, "client": said["peak"]}


def _speed(outcome: dict[str, Any] | str) -> str:
    return outcome if isinstance(outcome, str) else f"{outcome['rate'] / 1e6:.0f}"


def _memory(outcome: dict[str, Any] | str, end: str) -> str:
    return "" if isinstance(outcome, str) else f"{outcome[end] / MIB:.0f}"


def _memories(outcome: dict[str, Any] | str) -> list[str]:
    return [_memory(outcome, end) for end in ("server", "client")]


def _owed(huge: dict[str, Any] | str) -> Owed:
    most = None if isinstance(huge, str) else max(huge["server"], huge["client"]) / MIB
    measured = "" if most is None else f"{most:.0f} MiB"
    return Owed(
        "memory of a 2 GiB message", f"<= {MOST_MEMORY:g} MiB", measured, None if most is None else most <= MOST_MEMORY
    )


def _all_came(figures: dict[str, Any]) -> Owed:
    outcomes = [outcome for each in figures["large"].values() for outcome in each.values()]
    came = sum(not isinstance(outcome, str) for outcome in outcomes)
    return Owed("a large message in each dialect", "comes whole", f"{came} of {len(outcomes)}", came == len(outcomes))
