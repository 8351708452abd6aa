"""A nursery whose lone failure comes out bare."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio

__all__ = ["open_tasks"]


@asynccontextmanager
async def open_tasks() -> AsyncIterator[trio.Nursery]:
    """Open a nursery; when one thing in it fails, raise that, not an exception group around it.

    Our own background tasks report failures as values, so what comes out is what the caller's own code raised.
    Several failures at once still come as a group: hiding one of them would be worse.
    """
    try:
        async with trio.open_nursery() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        failures = list(_failures(group))
        if len(failures) != 1:
            raise
        raise failures[0] from failures[0].__cause__


def _failures(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Every leaf of the group that is not a mere cancellation."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _failures(error)
        elif not isinstance(error, trio.Cancelled):
            yield error
