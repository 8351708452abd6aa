"""The hook task of one connection: plugins hear of its moments, in order, without being able to delay it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import trio

from trio_hub.messages import Event, Request

__all__ = ["Hooks", "Plugin"]

log = logging.getLogger("trio_hub.peer")

_LAST_MOMENTS = 8  # the one that was too many, and what follows on it until `expired`: five at most

Plugin = object
"""Any object with some of these async methods, each called with the connection first:

``connected(connection)``, ``resumed(connection)``, ``gap(connection, reason)``, ``taken_over(connection)``,
``disconnected(connection, close)``, ``expired(connection)``, ``request(connection, request)`` and
``event(connection, event)``.

A server also knows ``answer(connection, request)`` and ``run(server, *, task_status)``: see `trio_hub.app.plugins`.
"""


class Hooks:
    """Moments of `connection`, told to `plugins` one after the other by the task that runs `run`.

    What a plugin raises is logged, and the next one is told all the same. Every moment is told, once: so when
    `capacity` of them wait, the connection has to be ended, for whose last moments there is room.
    """

    def __init__(self, connection: Any, plugins: Sequence[Plugin], capacity: int) -> None:
        self._connection = connection
        self._plugins = plugins
        self._capacity = capacity
        self._tell, self._heard = trio.open_memory_channel[tuple[str, tuple[Any, ...]]](capacity + _LAST_MOMENTS)
        self._scope = trio.CancelScope()
        self._has_ended = False
        self.dropped = 0

    def tell(self, moment: str, *details: Any) -> bool:
        """Note a moment. Never waits; False when it is one too many, after which only the last ones may come."""
        self._tell.send_nowait((moment, details))
        return self._tell.statistics().current_buffer_used <= self._capacity

    def copy(self, moment: str, said: Request | Event) -> None:
        """Note a request or an event, unless half the room is taken: moments of the connection's life go first.

        Passed over once `end` was called.
        """
        if self._has_ended:
            return
        if self._tell.statistics().current_buffer_used * 2 < self._capacity:
            self._tell.send_nowait((moment, (said,)))
        else:
            self.dropped += 1

    async def run(self) -> None:
        """The hook task: tell the plugins until `end` was called and everything was told."""
        with self._scope:
            async for moment, details in self._heard:
                for plugin in self._plugins:
                    await self._tell_one(plugin, moment, details)
        if self._scope.cancelled_caught:
            log.error("plugins did not come to an end with connection %s", self._connection.id)

    async def _tell_one(self, plugin: Plugin, moment: str, details: tuple[Any, ...]) -> None:
        try:
            method = getattr(plugin, moment, None)
            if method is not None:
                await method(self._connection, *details)
        except Exception:
            log.exception("plugin %r failed at %r", plugin, moment)

    def end(self, within: float) -> None:
        """Nothing more will come; what was told has so many seconds to come to an end."""
        self._has_ended = True
        self._tell.close()
        self._scope.deadline = trio.current_time() + within
