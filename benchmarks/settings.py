"""How much to measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["Settings"]


@attrs.frozen(kw_only=True)
class Settings:
    """What a scenario is told. `seconds` is about what one round of one server should take.

    `profile` is a folder for cProfile's statistics of every server; what is measured then is of no worth.
    """

    links: Sequence[int] = (100, 500)
    rounds: int = 5
    seconds: float = 1.0
    profile: Path | None = None
