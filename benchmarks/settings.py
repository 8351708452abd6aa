"""How much to measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["QUICK", "Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """What a scenario is told. `seconds` is about what one round of one contender should take.

    `links` and `sizes` (bytes) are for the fan-outs, `pooled` are the links of a pool; `crowd` is how many come for
    what is measured with very many connections. `profile` is a folder for cProfile's statistics of servers; what is
    measured then is of no worth.
    """

    links: Sequence[int] = (100, 500, 2000)
    pooled: Sequence[int] = (1000,)
    sizes: Sequence[int] = (200, 2048)
    crowd: int = 10_000
    rounds: int = 5
    seconds: float = 0.5
    profile: Path | None = None

    def profile_of(self, *words: object) -> Path | None:
        """Return the file for the statistics of what these words name; None where none are wanted."""
        name = "-".join(map(str, words)).translate(str.maketrans("/ ,", "---"))
        return None if self.profile is None else self.profile / name


QUICK = Settings(links=(100,), pooled=(100,), sizes=(200,), crowd=1000, rounds=3, seconds=0.25)
