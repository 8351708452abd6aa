"""What plugins do beside watching connections: they answer requests of their own, and run beside the hub.

``async def answer(self, connection, request)`` is asked about actions that begin with ``custom_`` and that the router
does not know: it returns the reply's data, or `NotImplemented` where the next plugin may know better.
``async def run(self, server, *, task_status)`` begins before the hub tells anybody anything, and is cancelled when it
ends; until it has called ``task_status.started()`` nobody is served. What it raises later ends it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from trio_hub.app.router import Router
from trio_hub.errors import RequestFailed
from trio_hub.hub.companions import Companion
from trio_hub.messages import Request
from trio_hub.peer.connection import Connection
from trio_hub.peer.hooks import Plugin

__all__ = ["Answering", "companions_of"]

_CUSTOM = "custom_"


def companions_of(plugins: Sequence[Plugin], server: Any) -> list[Companion]:
    """Return what of these plugins runs beside the hub of this server."""
    return [partial(run, server) for run in _methods(plugins, "run")]


def _methods(plugins: Sequence[Plugin], name: str) -> list[Callable[..., Any]]:
    return [method for plugin in plugins if (method := getattr(plugin, name, None)) is not None]


class Answering:
    """Has requests carried out by `router`, or else by the first of `plugins` that can."""

    def __init__(self, router: Router, plugins: Sequence[Plugin]) -> None:
        self._router = router
        self._answers = _methods(plugins, "answer")

    def ordered(self, action: str) -> bool:
        """Whether requests of this action wait for earlier ordered ones of the same connection."""
        return self._router.ordered(action)

    def __call__(self, connection: Connection, request: Request) -> Any:
        """Return the reply's data, or a coroutine that will."""
        if self._answers and request.action.startswith(_CUSTOM) and not self._router.knows(request.action):
            return self._ask(connection, request)
        return self._router(connection, request)

    async def _ask(self, connection: Connection, request: Request) -> Any:
        for answer in self._answers:
            data = await answer(connection, request)
            if data is not NotImplemented:
                return data
        raise RequestFailed(404, "unknown_action", f"no action {request.action[:100]!r}")
