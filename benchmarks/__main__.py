"""The command: ``python -m benchmarks [SCENARIO ...] [--quick] [--json FILE] [--plot FILE]``."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks import plot
from benchmarks.contenders import PACKAGES
from benchmarks.load.raw import open_files
from benchmarks.report import Report, as_markdown, machine, owed_table
from benchmarks.scenarios import (
    cluster,
    compression,
    cuts,
    echo,
    fan_out,
    idle,
    large,
    latency,
    pool,
    presence,
    requests,
    storm,
    topic,
)
from benchmarks.settings import QUICK, Settings

SMALLEST_CROWD = 100

SCENARIOS: dict[str, Callable[[Settings], Report]] = {
    "fan_out": fan_out.run,
    "pool": pool.run,
    "echo": echo.run,
    "requests": requests.run,
    "topic": topic.run,
    "latency": latency.run,
    "idle": idle.run,
    "storm": storm.run,
    "presence": presence.run,
    "cluster": cluster.run,
    "cuts": cuts.run,
    "compression": compression.run,
    "large": large.run,
}


def main() -> None:
    """Run the scenarios that were asked for, or all; print their tables, and what of the owed is met."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure trio_hub beside its peers.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a first look, with few links and rounds")
    parser.add_argument("--links", type=_counts, help="numbers of links, as in 100,500")
    parser.add_argument("--sizes", type=_counts, help="sizes of messages in bytes, as in 200,2048")
    parser.add_argument("--crowd", type=_crowd, help="connections where very many are wanted")
    parser.add_argument("--rounds", type=_count, help="measurements of each, of which the median counts")
    parser.add_argument("--seconds", type=_seconds, help="what each should take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it there (SVG or PNG, by the file's ending)")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="keep cProfile statistics of the servers there")
    said = parser.parse_args()
    unknown = [name for name in said.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}")
    if said.plot is not None and not plot.is_possible():
        parser.error("--plot needs matplotlib")
    for file in (said.json, said.plot):
        if file is not None and not file.parent.is_dir():
            parser.error(f"there is no folder {file.parent}")  # better now than when everything is measured
    open_files()  # for all the programs that are started from here
    here = machine(PACKAGES)
    print(", ".join([f"{here['python']}, {here['system']}, {here['cores']} cores", *_versions(here["packages"])]))
    reports = {}
    for name in said.scenarios or SCENARIOS:
        reports[name] = SCENARIOS[name](_settings(said))
        print(f"\n{as_markdown(reports[name])}", flush=True)
    print(f"\n{owed_table(owed for report in reports.values() for owed in report.owed)}")
    if said.json is not None:
        said.json.write_text(json.dumps({"machine": here, "scenarios": _figures(reports)}, indent=2) + "\n")
    if said.plot is not None:
        plot.draw([bars for report in reports.values() for bars in report.bars], said.plot)


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not number:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, not {text!r}")
    return number


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


def _crowd(text: str) -> int:
    number = _count(text)
    if number < SMALLEST_CROWD:
        raise argparse.ArgumentTypeError(f"a crowd is {SMALLEST_CROWD} or more")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, not {text!r}")
    return seconds


def _settings(said: argparse.Namespace) -> Settings:
    given = {name: getattr(said, name) for name in ("links", "sizes", "crowd", "rounds", "seconds", "profile")}
    given["pooled"] = said.links
    chosen = QUICK if said.quick else Settings()
    return attrs.evolve(chosen, **{name: value for name, value in given.items() if value is not None})


def _figures(reports: dict[str, Report]) -> dict[str, object]:
    return {
        name: {"figures": report.figures, "owed": [attrs.asdict(owed) for owed in report.owed]}
        for name, report in reports.items()
    }


def _versions(packages: dict[str, str | None]) -> list[str]:
    return [f"{name} {version or 'missing'}" for name, version in packages.items()]


if __name__ == "__main__":
    main()
