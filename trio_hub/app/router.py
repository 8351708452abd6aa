"""Requests by action: typed with attrs classes, validated before a handler sees them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import msgspec

from trio_hub.errors import Misuse, RequestFailed
from trio_hub.messages import Request

__all__ = ["Router"]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class _Action:
    handle: Callable[[Any, Any], Any]
    type: Any
    ordered: bool
    critical: bool


class Router:
    """An application's actions::

        router = Router()

        @attrs.frozen
        class Move:
            x: int
            y: int

        @router.action("move")
        async def move(connection: Connection, data: Move) -> dict:
            ...
            return {"moved": True}

    A handler takes the connection that asks (without a hub, the `Calls`) and the request's data as the annotated type:
    an attrs class, or anything else msgspec can validate; data of another form is answered with FAIL 400 that names the
    place. What the handler returns is the reply's data. Raise `RequestFailed` to answer FAIL; anything else that is
    raised is logged and answered with 500.

    An ``async def`` handler runs in a task of its own, so it may wait; a plain ``def`` handler is answered at once and
    must not block. One that yields (an async generator), or returns an async iterator, streams its reply: each item is
    made when there is room for it, and the generator is closed whatever happens: when the client cancels or leaves,
    after the deadline, and when the connection is gone.
    """

    def __init__(self) -> None:
        self._actions: dict[str, _Action] = {}
        self.is_busy = False

    def action(self, name: str, *, ordered: bool = False, critical: bool = True) -> Callable[[F], F]:
        """Register the decorated function for requests of action `name`.

        `ordered` requests of one connection are carried out one after the other, in the order they were asked;
        others at the same time. Those that are not `critical` are refused with 503 while the server is busy. Raises
        `Misuse` for a name that is taken, or a function that takes no data.
        """

        def register(handle: F) -> F:
            if name in self._actions:
                raise Misuse(f"action {name!r} has a handler already")
            self._actions[name] = _Action(handle, _type_of_data(handle), ordered, critical)
            return handle

        return register

    def ordered(self, action: str) -> bool:
        """Whether requests of this action wait for earlier ordered ones of the same connection."""
        found = self._actions.get(action)
        return found is not None and found.ordered

    def knows(self, action: str) -> bool:
        """Whether there is a handler for this action."""
        return action in self._actions

    def __call__(self, connection: Any, request: Request) -> Any:
        """Validate and handle a request; return the reply's data, or a coroutine that will, or an async iterator."""
        action = self._actions.get(request.action)
        if action is None:
            raise RequestFailed(404, "unknown_action", f"no action {request.action[:100]!r}")
        if self.is_busy and not action.critical:
            raise RequestFailed(503, "busy", "the server is busy; this can wait")
        try:
            data = msgspec.convert({} if request.data is None else request.data, action.type)
        except msgspec.ValidationError as error:
            raise RequestFailed(400, "bad_request", str(error)) from error
        return action.handle(connection, data)


def _type_of_data(handle: Callable[..., Any]) -> Any:
    """Return what the second parameter is annotated with."""
    parameters = list(inspect.signature(handle).parameters.values())
    if len(parameters) != 2:
        raise Misuse(f"a handler takes the connection and the data; {handle!r} takes {len(parameters)} parameters")
    return typing.get_type_hints(handle).get(parameters[1].name, Any)
