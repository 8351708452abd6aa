"""A nursery whose lone failure comes out bare; what is in the groups of other nurseries, and whose doing that is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from trio_hub.errors import LinkLost, PeerFault, StreamReset

__all__ = ["failures_in", "is_of_the_link", "open_tasks"]

E = TypeVar("E", bound=BaseException)


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
        failures = failures_in(group)
        if len(failures) != 1:
            raise
        raise failures[0] from failures[0].__cause__


def failures_in(error: E) -> list[E]:
    """Return every failure in an exception group, cancellations apart, which are none; of any other error, just that.

    Whoever hears of what a caller's code raised looks through this: it may have had a nursery of its own.
    """
    return list(_leaves(error))


def is_of_the_link(error: Exception, *, has_ended: bool) -> bool:
    """Whether all that is in an error that code of a link's has raised is the peer's doing, or the world's.

    That a link is lost is neither unless this one `has_ended`: it must have been another.
    """
    return all(
        isinstance(each, PeerFault | StreamReset) or (has_ended and isinstance(each, LinkLost))
        for each in failures_in(error)
    )


def _leaves(error: Any) -> Iterator[Any]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    elif not isinstance(error, trio.Cancelled):
        yield error
