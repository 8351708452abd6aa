"""What a scenario hands back: titled tables, as Markdown for people and as plain values for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs

__all__ = [
    "Bars",
    "Owed",
    "Report",
    "Table",
    "as_markdown",
    "explanation_of",
    "machine",
    "owed_table",
    "quantile",
    "short",
]


@attrs.frozen
class Table:
    """Rows of text under a heading. An empty cell is printed as a dash."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@attrs.frozen
class Bars:
    """What is drawn: a value for each contender, in `unit`; `ours` are drawn in another colour."""

    title: str
    unit: str
    values: Mapping[str, float]


@attrs.frozen
class Owed:
    """One thing that is owed, in words, what was measured, and whether that is enough; None where nobody can say."""

    work: str
    owed: str
    measured: str
    met: bool | None


@attrs.frozen
class Report:
    """What came of a scenario. `figures` is everything that was measured, as JSON can hold it."""

    title: str
    explanation: str
    tables: Sequence[Table]
    figures: Any
    bars: Sequence[Bars] = ()
    owed: Sequence[Owed] = ()


def explanation_of(doc: str | None) -> str:
    """Return what a scenario's docstring says below its first line."""
    return (doc or "").partition("\n\n")[2].strip()


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which this share of all is."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def as_markdown(report: Report) -> str:
    """Return the whole report as Markdown, its columns aligned so that a terminal does as well."""
    return "\n\n".join([f"## {report.title}", report.explanation, *map(_table, report.tables)])


def owed_table(owed: Iterable[Owed]) -> str:
    """Return as Markdown what is owed, what was measured, and what of it is met."""
    said = {True: "yes", False: "**no**", None: "not measured"}
    rows = [[each.work, each.owed, each.measured, said[each.met]] for each in owed]
    return _table(Table("What is owed", ["work", "owed", "measured", "met"], rows))


def _table(table: Table) -> str:
    rows = [table.columns, *([cell or "-" for cell in row] for row in table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        _line(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = _line("-" * width if at == 0 else "-" * (width - 1) + ":" for at, width in enumerate(widths))
    return "\n".join([f"### {table.title}", "", lines[0], rule, *lines[1:]])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def short(value: float | None) -> str:
    """Return a count as people say it: 987, 31 k, 1.24 M; nothing for None."""
    if value is None:
        return ""
    if value >= 999_500:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.0f} k" if value >= 10_000 else f"{value:.0f}"


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Return what of this machine and its packages matters to whoever compares two runs."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "packages": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
