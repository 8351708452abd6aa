"""Rounds in which all take part, one after the other, so that a noisy neighbour meets all alike.

Every contender is entered once, with all it needs (its links, say), and stays. The first round is a trial. A ratio is
the median over the rounds of what was measured in the same round. Who cannot take part, or fails, is said so and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Generic, Protocol, TypeVar

from benchmarks.contenders import Contender
from benchmarks.conversation import Failed

__all__ = ["Entry", "Outcomes", "alone", "compete", "median_of", "median_ratio"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Outcomes = Mapping[str, Sequence[R] | str]
"""By contender: the rounds, or why there are none."""


class Entry(Protocol, Generic[R_co]):
    """A contender that has been entered."""

    def play(self) -> R_co:
        """Play one round. Raises `Failed` where that is not possible."""
        ...


def compete(
    contenders: Sequence[Contender], enter: Callable[[Contender, ExitStack], Entry[R]], rounds: int
) -> dict[str, list[R] | str]:
    """Return every contender's rounds, or the reason why it has none. What `enter` puts on its stack ends with us."""
    outcomes: dict[str, list[R] | str] = {}
    with ExitStack() as stack:
        entries: dict[str, Entry[R]] = {}
        for contender in contenders:
            if missing := contender.missing():
                outcomes[contender.name] = f"missing: {', '.join(missing)}"
                continue
            try:
                entries[contender.name] = enter(contender, stack)
                outcomes[contender.name] = []
            except Failed as failure:
                outcomes[contender.name] = f"failed: {failure}"
        for number in range(rounds + 1):
            for name, entry in list(entries.items()):
                played = outcomes[name]
                assert not isinstance(played, str)
                try:
                    round = entry.play()
                except Failed as failure:
                    outcomes[name] = f"failed: {failure}"
                    del entries[name]
                    continue
                if number:
                    played.append(round)
    return outcomes


def alone(missing: Sequence[str], measure: Callable[[], R]) -> R | str:
    """Return what it comes to where one is measured by itself, or why it comes to nothing."""
    if missing:
        return f"missing: {', '.join(missing)}"
    try:
        return measure()
    except Failed as failure:
        return f"failed: {failure}"


def median_of(rounds: Sequence[R] | str, figure: Callable[[R], float]) -> float | None:
    """Return the median of a figure, None where there are no rounds."""
    return None if isinstance(rounds, str) or not rounds else median(map(figure, rounds))


def median_ratio(rounds: Sequence[R] | str, reference: Sequence[R] | str, figure: Callable[[R], float]) -> float | None:
    """Return the median over the rounds of the ratio of two contenders' figures; None where one has no rounds."""
    if isinstance(rounds, str) or isinstance(reference, str) or not rounds or len(rounds) != len(reference):
        return None
    return median(figure(ours) / figure(theirs) for ours, theirs in zip(rounds, reference, strict=True))
