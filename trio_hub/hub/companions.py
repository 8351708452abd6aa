"""Tasks that live as long as a hub does: they begin before it tells anybody anything, and end with it."""

from __future__ import annotations

import logging
from typing import Protocol

import trio

from trio_hub.link.tasks import open_tasks

__all__ = ["Companion", "accompany"]

log = logging.getLogger("trio_hub.hub")


class Companion(Protocol):
    """What runs beside a hub. It says when it is ready, and runs until it is cancelled, or has nothing more to do."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None: ...


async def accompany(companion: Companion, *, task_status: trio.TaskStatus[None]) -> None:
    """Run a companion. What it raises before it is ready is the hub's failure; later it is logged, and the hub goes on
    without it.
    """
    is_ready = False
    try:
        async with open_tasks() as tasks:
            await tasks.start(companion)
            is_ready = True
            task_status.started()
    except Exception:
        if not is_ready:
            raise
        log.exception("%r has failed; the hub goes on without it", companion)
