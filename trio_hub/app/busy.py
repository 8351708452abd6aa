"""Busy: what can wait is refused for a while, so that what cannot still goes on.

A flag that somebody sets for a time, or that is set by what is measured: how full the hub's inbox is, and how late the
loop comes to a task that should run now. It is taken back by itself: when its time is over, or when both have been at
half of their limit or less for a while.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import attrs
import trio
from attrs import validators

from trio_hub.hub.hub import Hub

__all__ = ["Busy", "BusyOptions"]

log = logging.getLogger("trio_hub.server")


@attrs.frozen(kw_only=True)
class BusyOptions:
    """When a server calls itself busy."""

    inbox: float = attrs.field(default=0.75, validator=[validators.gt(0), validators.le(1)])
    """How full the hub's inbox is, as a share of its capacity."""
    lag: float = attrs.field(default=0.5, validator=validators.gt(0))
    """Seconds by which a task runs later than it should."""
    calm: float = attrs.field(default=5.0, validator=validators.gt(0))
    """Seconds of at most half of that, after which it is busy no more."""
    every: float = attrs.field(default=0.25, validator=validators.gt(0))
    """Seconds between two looks."""


class Busy:
    """Whether a server is busy; true while it is. `on_change` is called whenever that changes; it must not wait.

    Without `options` nothing is measured, and it is busy only when somebody says so.
    """

    def __init__(self, hub: Hub, options: BusyOptions | None, on_change: Callable[[bool], None]) -> None:
        self._hub = hub
        self._measures = options is not None
        self._options = options or BusyOptions()
        self._on_change = on_change
        self._news = trio.Event()
        self._set_until = -math.inf
        self._measured = False
        self._calm_since = math.inf
        self._told = False

    def __bool__(self) -> bool:
        return self._told

    def set(self, seconds: float) -> None:
        """Be busy for so many seconds, whatever is measured."""
        self._set_until = trio.current_time() + seconds
        self._tell()

    def clear(self) -> None:
        """Be busy no more, until somebody says so again or it is measured again."""
        self._set_until = -math.inf
        self._measured = False
        self._tell()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the load, and at the clock, until cancelled."""
        task_status.started()
        while True:
            if not (self._measures or self._told):
                self._news = trio.Event()
                await self._news.wait()
            due = trio.current_time() + self._options.every
            await trio.sleep_until(due)
            if self._measures:
                self._look(trio.current_time(), lag=trio.current_time() - due)
            self._tell()

    def _look(self, now: float, *, lag: float) -> None:
        options = self._options
        load = max(lag / options.lag, self._hub.inbox_fullness / options.inbox)
        if load >= 1:
            self._measured = True
        if load > 0.5:
            self._calm_since = math.inf
        else:
            self._calm_since = min(self._calm_since, now)
            self._measured = self._measured and now - self._calm_since < options.calm

    def _tell(self) -> None:
        is_busy = self._measured or trio.current_time() < self._set_until
        if is_busy != self._told:
            self._told = is_busy
            log.warning("busy: what can wait is refused" if is_busy else "busy no more")
            self._on_change(is_busy)
            self._news.set()
