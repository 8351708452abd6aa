"""Tasks that live as long as a hub does: they begin before it tells anybody anything, and end with it."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import trio

__all__ = ["Companion", "accompany"]

log = logging.getLogger("trio_hub.hub")


class Companion(Protocol):
    """What runs beside a hub. It says when it is ready, and runs until it is cancelled, or has nothing more to do."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None: ...


class _Ready:
    """Passes on that a companion is ready, and knows it."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self.said = False

    def started(self, value: Any = None) -> None:
        self.said = True
        self._task_status.started()


async def accompany(companion: Companion, *, task_status: trio.TaskStatus[None]) -> None:
    """Run a companion. What it raises before it is ready is the hub's failure; later it is logged, and the hub goes on
    without it.
    """
    ready = _Ready(task_status)
    try:
        await companion(task_status=ready)
    except Exception:
        if not ready.said:
            raise
        log.exception("%r has failed; the hub goes on without it", companion)
