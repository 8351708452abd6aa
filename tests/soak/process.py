"""What the system says of this process."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import attrs

__all__ = ["Effort", "peak", "resident"]


@attrs.frozen
class Effort:
    """Seconds that a process ran, and that it would have run had another not been running there."""

    ran: float = 0.0
    waited: float = 0.0

    @classmethod
    def so_far(cls) -> Effort:
        """Return this process's own."""
        waited = int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
        return cls(time.process_time(), waited)

    def __add__(self, other: Effort) -> Effort:
        return Effort(self.ran + other.ran, self.waited + other.waited)


def resident() -> float:
    """Return the MiB of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak() -> float:
    """Return the most MiB of this process that ever were."""
    return max(resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # which is not always up to date
