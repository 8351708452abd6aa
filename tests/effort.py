"""How hard property tests try: bounded where every change is checked, longer where there is time."""

from __future__ import annotations

import os

__all__ = ["examples"]

_EFFORT = float(os.environ.get("TRIO_HUB_EFFORT", "1"))


def examples(usual: int) -> int:
    """Return how many examples to try where `usual` are tried each time: with ``TRIO_HUB_EFFORT=50`` 50 times that."""
    return round(usual * _EFFORT)
