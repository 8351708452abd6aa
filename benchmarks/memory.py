"""How much memory this process has taken at most."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["peak"]


def peak() -> int:
    """Return the largest resident set so far, in bytes.

    Not `getrusage`'s, which begins with that of the program that started this one.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
