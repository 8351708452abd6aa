"""What the Autobahn suite thought of us, read from its report, and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["SECTIONS", "Verdicts", "as_table", "failures", "verdicts_of"]

# 8 was never written, and 11 is about nothing we have.
SECTIONS: Final = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "closing",
    "9": "limits",
    "10": "miscellany",
    "12": "compression",
    "13": "its parameters",
}
FAILED: Final = "FAILED"
ACCEPTED: Final = ("OK", "INFORMATIONAL", "NON-STRICT")  # from the best; the suite has several words for the rest

Verdicts = Mapping[str, str]
"""One of `ACCEPTED`, or `FAILED`, by case."""


def verdicts_of(report: Mapping[str, Mapping[str, Any]]) -> Verdicts:
    """Return the verdict on each case: the worse of those on what was said and on how it was closed."""
    verdicts = {}
    for case in sorted(report, key=_place):
        words = {report[case]["behavior"], report[case]["behaviorClose"]}
        verdicts[case] = max(words, key=ACCEPTED.index) if words <= {*ACCEPTED} else FAILED
    return verdicts


def failures(verdicts: Verdicts) -> list[str]:
    """Return the cases that failed."""
    return [case for case, verdict in verdicts.items() if verdict == FAILED]


def as_table(verdicts: Verdicts) -> str:
    """Return how many cases of each section got which verdict, and which failed."""
    counts = {section: Counter[str]() for section in SECTIONS}
    for case, verdict in verdicts.items():
        counts[case.partition(".")[0]][verdict] += 1
    columns = (*ACCEPTED, FAILED)
    lines = [f"{'section':20}" + "".join(f"{column:>15}" for column in columns)]
    for section, name in SECTIONS.items():
        lines.append(f"{section:>2} {name:17}" + "".join(f"{counts[section][column]:15}" for column in columns))
    return "\n".join([*lines, *(f"failed: {case}" for case in failures(verdicts))])


def _place(case: str) -> list[int]:
    return [int(number) for number in case.split(".")]
