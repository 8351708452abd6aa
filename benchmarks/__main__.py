"""The command: ``python -m benchmarks [SCENARIO ...] [--quick] [--json FILE]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import fan_out
from benchmarks.report import Report, as_markdown, machine
from benchmarks.settings import Settings

SCENARIOS: dict[str, Callable[[Settings], Report]] = {"fan_out": fan_out.run}
QUICK = Settings(links=(100,), rounds=3, seconds=0.25)


def main() -> None:
    """Run the scenarios that were asked for, or all; print their tables."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure trio_hub beside its peers.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a first look, in less than 20 s")
    parser.add_argument("--links", type=_counts, help="numbers of links, as in 100,500")
    parser.add_argument("--rounds", type=int, help="measurements of each, of which the median counts")
    parser.add_argument("--seconds", type=float, help="what each should take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="keep cProfile statistics of the servers there")
    said = parser.parse_args()
    unknown = [name for name in said.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}")
    settings = _settings(said)
    here = machine(fan_out.PACKAGES)
    print(", ".join([f"{here['python']}, {here['system']}, {here['cores']} cores", *_versions(here["packages"])]))
    reports = {}
    for name in said.scenarios or SCENARIOS:
        reports[name] = SCENARIOS[name](settings)
        print(f"\n{as_markdown(reports[name])}", flush=True)
    if said.json is not None:
        figures = {name: report.figures for name, report in reports.items()}
        said.json.write_text(json.dumps({"machine": here, "scenarios": figures}, indent=2) + "\n")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _settings(said: argparse.Namespace) -> Settings:
    chosen = QUICK if said.quick else Settings()
    given = {name: getattr(said, name) for name in ("links", "rounds", "seconds", "profile")}
    return Settings(**{name: getattr(chosen, name) if value is None else value for name, value in given.items()})


def _versions(packages: dict[str, str | None]) -> list[str]:
    return [f"{name} {version or 'missing'}" for name, version in packages.items()]


if __name__ == "__main__":
    main()
