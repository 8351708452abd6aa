"""How a load looks at the terminal: while it lasts on stderr, and in the end as a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from trio_hub.cli.bench.findings import Findings, Reading
from trio_hub.cli.terminal import say

__all__ = ["as_line", "as_table", "open_display", "percentage", "print_table"]


@contextmanager
def open_display() -> Iterator[Callable[[Reading], None]]:
    """Yield what shows a reading: in one place where stderr is a terminal, else in a line of its own.

    It may block for as long as stderr does. A terminal is as it was before when the block is left.
    """
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield lambda reading: say(as_line(reading))
        return
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    with live:
        yield lambda reading: live.update(_as_panel(reading), refresh=True)


def as_line(reading: Reading) -> str:
    """Return a reading in one line."""
    return ", ".join(f"{name} {value}" for name, value in _fields(reading).items())


def _fields(reading: Reading) -> dict[str, str]:
    return {
        "stage": reading.stage,
        "links": f"{reading.links} of {reading.wanted}",
        "published/s": f"{reading.published_per_second:.0f}",
        "delivered/s": f"{reading.delivered_per_second:.0f}",
        "p50": _ms(reading.p50, places=1),
        "p99": _ms(reading.p99, places=1),
        "links lost": str(reading.links_lost),
        "resumes": str(reading.resumes),
        "gaps": str(reading.gaps),
    }


def _ms(value: float | None, *, places: int) -> str:
    return "-" if value is None else f"{value:,.{places}f} ms"


def _as_panel(reading: Reading) -> Table:
    panel = Table(box=box.ROUNDED, show_header=False)
    panel.add_column(style="dim")
    panel.add_column(justify="right", min_width=22)
    for name, value in _fields(reading).items():
        panel.add_row(name, value)
    return panel


def print_table(findings: Findings) -> None:
    """Print the table, and the remarks beneath it, on stdout."""
    console = Console()
    console.print(as_table(findings))
    for remark in findings.remarks:
        console.print(remark, highlight=False)


def as_table(findings: Findings) -> Table:
    """Return what came of it. A row that should be nought and is not stands out."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for name, value, remark in _plain_rows(findings):
        table.add_row(name, value, remark)
    table.add_section()
    for name, count in _bad_rows(findings):
        table.add_row(name, f"{count:,}", style="bold red" if count else None)
    return table


def _plain_rows(findings: Findings) -> Iterator[tuple[str, str, str]]:
    verdict = findings.verdict
    yield "connections", f"{findings.connections:,}", ""
    yield "  opened in", f"{findings.coming_seconds:.2f} s", f"{findings.connections_per_second:,.0f}/s"
    yield "published", f"{findings.published:,}", ""
    yield "accepted", f"{findings.accepted:,}", f"{findings.accepted_per_second:,.0f}/s"
    yield "delivered", f"{verdict.delivered:,}", f"{findings.delivered_per_second:,.0f}/s"
    yield "  of those due", f"{verdict.due:,}", percentage(verdict.delivered, verdict.due)
    for name, value in findings.latency_ms.items():
        yield f"latency {name}", _ms(value, places=2), ""
    yield "this program: CPU", f"{100 * findings.cpu_share:.0f} %", "of one core"
    yield "  busy", f"{100 * findings.busy_share:.0f} %", "of the time"
    yield "links lost", f"{findings.links_lost:,}", ""
    yield "  dials failed", f"{findings.dials_failed:,}", ""
    yield "  resumes", f"{findings.resumes:,}", ""
    yield "gaps", f"{findings.gaps:,}", ""
    yield "  events missing there", f"{verdict.told:,}", "or on the way in the end"


def _bad_rows(findings: Findings) -> Iterator[tuple[str, int]]:
    verdict = findings.verdict
    yield "missing silently", verdict.silent
    yield "duplicates", verdict.duplicates
    yield "out of order", verdict.out_of_order
    yield "connections ended by the hub", findings.ended
    yield "publishes failed", sum(findings.failures.values())
    for id, count in sorted(findings.failures.items()):
        yield f"  {id}", count
    if verdict.extra:
        yield "  delivered all the same", verdict.extra


def percentage(part: int, whole: int) -> str:
    """Return the share in per cent, to as many places as it takes: 100 % is all of it."""
    if not whole:
        return ""
    if part == whole:
        return "100 %"
    places = max(2, len(str(whole)) - 2)
    return f"{100 * part / whole:.{places}f} %"
