"""Named sets of handlers, to be applied to a link or to a whole pool.

Two kinds of handler take messages. An async function is given an `Incoming`, and reads it by chunks or whole. A plain
function cannot wait, so it is given a `WholeMessage`, whose `data` is all there.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from trio_hub.errors import Misuse
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.messages import LinkStatus

__all__ = ["HandlerSets", "Handlers", "MessageHandler", "StatusHandler", "WholeMessage", "takes_chunks"]


class WholeMessage(Incoming):
    """A message that is all there: `data` is what was said, `str` where its `kind` is text, else `bytes`.

    It can be read and iterated like any other, too.
    """

    __slots__ = ("_unread", "data")

    def __init__(self, kind: int, data: str | bytes, *, stream: int | None = None) -> None:
        super().__init__(kind, self._only_chunk, max_message=len(data), stream=stream)
        self.data = data
        self._unread = bool(data)

    async def _only_chunk(self) -> str | bytes | None:
        await trio.lowlevel.checkpoint()
        unread, self._unread = self._unread, False
        return self.data if unread else None


MessageHandler = Callable[[Incoming, Link], Awaitable[None]] | Callable[[WholeMessage, Link], None]
"""Is given a message and its link; async, or plain."""
StatusHandler = Callable[[LinkStatus, LinkStatus, Link], Awaitable[None] | None]
"""Is given the previous status, the new one, and the link; async, or plain."""
M = TypeVar("M", bound=MessageHandler)
S = TypeVar("S", bound=StatusHandler)


class Handlers:
    """A set of handlers with a name, by which it can be revoked.

    Handlers may be added while the set is applied: they take part from the next message, or change of status, on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._of_messages: list[tuple[int | None, MessageHandler]] = []
        self._of_status: list[StatusHandler] = []

    def on_message(self, kind: int | None = None) -> Callable[[M], M]:
        """Register the decorated function, of message and link, for messages of this kind; for all, if none is said.

        `kind` is `Kind.TEXT`, `Kind.BINARY`, or another opcode where a private dialect has them.
        """
        if callable(kind):
            raise Misuse("write `@handlers.on_message()`, with the kind of messages, or nothing, between the brackets")

        def register(handler: M) -> M:
            self._of_messages.append((kind, handler))
            return handler

        return register

    def on_status(self, handler: S) -> S:
        """Register the decorated function, of previous status, new status and link, for every change."""
        self._of_status.append(handler)
        return handler

    def takers(self, kind: int) -> list[MessageHandler]:
        """Return those who take messages of this kind, in the order in which they were registered."""
        return [handler for wanted, handler in self._of_messages if wanted is None or wanted == kind]

    def observers(self) -> list[StatusHandler]:
        """Return those who are told of changes of status, in the order in which they were registered."""
        return list(self._of_status)


class HandlerSets:
    """Sets that are applied to something, and handlers of its own. `beneath` are others that apply as well, first."""

    def __init__(self, beneath: HandlerSets | None = None) -> None:
        self._beneath = beneath
        self._own = Handlers("")
        self._applied: dict[str, Handlers] = {}

    def apply(self, handlers: Handlers) -> None:
        """Have these take part from the next message, and the next change of status, on; behind those applied before.

        Raises `Misuse` where a set of that name is applied already.
        """
        if handlers.name in self._applied:
            raise Misuse(f"handlers named {handlers.name!r} are applied already")
        self._applied[handlers.name] = handlers

    def revoke(self, handlers: Handlers | str) -> bool:
        """Have this set, or the one of this name, take part no longer; return whether it was applied.

        A handler that has been called already is not interrupted.
        """
        name = handlers if isinstance(handlers, str) else handlers.name
        applied = self._applied.get(name)
        if applied is None or not (applied is handlers or isinstance(handlers, str)):
            return False
        del self._applied[name]
        return True

    def on_message(self, kind: int | None = None) -> Callable[[M], M]:
        """Register the decorated function as `Handlers.on_message` does, in a set that cannot be revoked."""
        return self._own.on_message(kind)

    def on_status(self, handler: S) -> S:
        """Register the decorated function as `Handlers.on_status` does, in a set that cannot be revoked."""
        return self._own.on_status(handler)

    def takers(self, kind: int) -> list[MessageHandler]:
        """Return everybody who takes messages of this kind, in order."""
        return [handler for each in self._all() for handler in each.takers(kind)]

    def observers(self) -> list[StatusHandler]:
        """Return everybody who is told of changes of status, in order."""
        return [handler for each in self._all() for handler in each.observers()]

    def _all(self) -> list[Handlers]:
        beneath = self._beneath._all() if self._beneath is not None else []
        return [*beneath, self._own, *self._applied.values()]


def takes_chunks(handler: MessageHandler) -> bool:
    """Whether it can wait for the chunks of a message: whether it is an async function, or behaves like one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
