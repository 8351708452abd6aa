"""How long we wait for something to be done, by looking at it now and then: no timer of its own for any of it."""

from __future__ import annotations

__all__ = ["Patience"]


class Patience:
    """Whether what is due at some moment is done `within` so many seconds; found out one look later at most."""

    __slots__ = ("_due", "_since", "_within")

    def __init__(self, within: float) -> None:
        self._within = within
        self._due = 0
        self._since = 0.0

    def has_run_out(self, now: float, *, done: int, due: int) -> bool:
        """Look: `done` of something are done by `now`, and `due` are to be done. Both count from the same beginning.

        Fewer may be due than before, where something was dropped.
        """
        if done >= min(self._due, due):  # what we waited for is done; wait for what is due by now
            self._due, self._since = due, now
            return False
        return now - self._since > self._within
