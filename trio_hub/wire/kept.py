"""The written events of one connection that may be asked for again. Pure; a part of the outbox.

They are held in runs: those that were written in one go. A burst that many connections get is one run for all of them,
so that to keep it, and to let go of it, costs each of them the same as a single event does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain

from trio_hub.wire.bodies import Body

__all__ = ["Kept", "Run"]


class Run:
    """Events written in one go, never to be changed: how many they are, and their `size` together."""

    __slots__ = ("bodies", "count", "size")

    def __init__(self, bodies: Sequence[Body], size: int | None = None) -> None:
        self.bodies = bodies
        self.count = len(bodies)
        self.size = sum([body.size for body in bodies]) if size is None else size


class Kept:
    """Runs in the order of their events' numbers. `count` and `size` are those of all events in them."""

    __slots__ = ("_runs", "count", "size")

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self.count = 0
        self.size = 0

    def __iter__(self) -> Iterator[Body]:
        # Not through a list of all runs: where a bound in bytes is met, this is begun for each event that is written.
        return chain.from_iterable(run.bodies for run in self._runs)

    def append(self, run: Run) -> None:
        """Keep these, too."""
        self._runs.append(run)
        self.count += run.count
        self.size += run.size

    def surplus(self, most_count: int, most_size: int) -> int:
        """Return how many of the oldest have to go to keep within these bounds. The latest stays, whatever its size."""
        gone, size = max(self.count - most_count, 0), self.size
        if size > most_size:
            for number, body in enumerate(self):
                if number >= gone and (size <= most_size or number == self.count - 1):
                    return number
                size -= body.size
        return gone

    def forget(self, count: int) -> None:
        """Forget so many of the oldest."""
        runs = self._runs
        self.count -= count
        while count:
            run = runs.popleft()
            self.size -= run.size
            if run.count > count:  # what stays of it is a run of its own, so that what goes is held by nobody
                gone = sum([body.size for body in run.bodies[:count]])  # those few: this may be for each event
                rest = Run(run.bodies[count:], run.size - gone)
                runs.appendleft(rest)
                self.size += rest.size
                return
            count -= run.count

    def take_back(self, count: int) -> list[Body]:
        """Return so many of the latest, in their order, and keep them no more."""
        runs, back = self._runs, []
        self.count -= count
        while count:
            run = runs.pop()
            self.size -= run.size
            if run.count > count:
                rest = Run(run.bodies[:-count])
                runs.append(rest)
                self.size += rest.size
            back.append(run.bodies[-count:])
            count -= min(run.count, count)
        return list(chain.from_iterable(reversed(back)))
