"""A streamed reply, at both of its ends: how the one who asked takes its items, and how the one who answers sends them.

How a slow asker stops a quick handler. Whoever asks says how many items it takes in all (`Request.items`), and when
half of those were taken by its program it says `More`. The handler is not asked for an item that nobody takes. So each
stream is held up by its own reader, and by nothing else: not by what else came and was not read, nor are other streams,
replies and events by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, Protocol, Self

import trio

from trio_hub.errors import Closed, Misuse, PeerFault, RequestFailed, again
from trio_hub.messages import CloseCode, End, Item, Request

__all__ = ["PLAIN", "Allowance", "Items", "Outlet", "is_stream", "send_items"]

PLAIN = frozenset({dict, list, str, int, float, bool, bytes, type(None)})
"""What most replies are: to be told from a stream at a glance."""


class Items(AsyncIterator[Any]):
    """The items of a streamed reply: ``async for item in items`` yields their data, in order and each once.

    The iteration ends when the handler's does. It raises `RequestFailed` where that failed, was not begun, or ran out
    of time, after all items that were sent before. For one reading task at a time; nothing is lost when cancelled.

    Items that came and were not asked for wait here, as many as the request allowed at most; then the handler waits.
    """

    def __init__(self, request: Request, message: str | bytes, say_more: Callable[[int, int], None]) -> None:
        self.message = message
        self.sent = False
        self._request = request
        self._say_more = say_more
        self._window = request.items or 1
        self._came: deque[Any] = deque()
        self._count = 0  # that came, in all
        self._has_ended = False
        self._failure: Exception | None = None
        self._is_read = False
        self._news = trio.lowlevel.ParkingLot()
        self.allowed = self._window

    @property
    def seq(self) -> int:
        """The request's number."""
        return self._request.seq

    @property
    def has_more(self) -> bool:
        """Whether the other side has to know that more than the request allowed are taken."""
        return self.allowed > self._window

    def put(self, data: Any) -> None:
        """Take in what came. Raises `PeerFault` for more than was allowed."""
        self._count += 1
        if self._count > self.allowed:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, f"more items for request {self.seq} than were asked for")
        self._came.append(data)
        self._news.unpark_all()

    def answer(self, failure: Exception | None) -> None:
        """Heed a plain reply: it says why there is no stream."""
        self.end(failure or RequestFailed(406, "not_streamed", "this action answers with one reply: use `request`"))

    def end(self, failure: Exception | None) -> None:
        """Nothing more will come."""
        if not self._has_ended:
            self._has_ended, self._failure = True, failure
            self._news.unpark_all()

    def leave(self) -> None:
        """Take nothing any more."""
        self._came.clear()
        self._has_ended, self._failure = True, Closed("these items were left")
        self._news.unpark_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        """Return the next item. Raises as the class says, `StopAsyncIteration` at the end, and so again and again."""
        await trio.lowlevel.checkpoint()
        if self._is_read:
            raise Misuse("another task waits for these items already")
        self._is_read = True
        try:
            while not (self._came or self._has_ended):
                await self._news.park()
        finally:
            self._is_read = False
        if not self._came:
            raise StopAsyncIteration if self._failure is None else again(self._failure)
        data = self._came.popleft()
        self._ask_for_more()
        return data

    def _ask_for_more(self) -> None:
        taken = self._count - len(self._came)
        if not self._has_ended and 2 * (self.allowed - taken) <= self._window:
            self.allowed = taken + self._window
            self._say_more(self.seq, self.allowed)


# -- the answering end


class Outlet(Protocol):
    """Where the items of streamed replies go."""

    async def wait_for_room(self) -> None:
        """Wait until more may be put in without holding too much."""
        ...

    def put(self, said: Item | End) -> None:
        """Have this said, after what was put in before. Never waits. Raises `Misuse` where it cannot be encoded."""
        ...


class Allowance:
    """How many items of one streamed reply its asker takes, and whether there are more to send."""

    def __init__(self, items: int) -> None:
        self._left = items
        self._total = items
        self._room = trio.lowlevel.ParkingLot()

    def extend(self, items: int) -> None:
        """The asker takes so many in all by now; what it said before may be repeated."""
        if items > self._total:
            self._left += items - self._total
            self._total = items
            self._room.unpark_all()

    async def use_one(self) -> None:
        """Wait until one more item is taken, and count it as sent. Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while not self._left:
            await self._room.park()
        self._left -= 1


def is_stream(result: Any) -> bool:
    """Whether what a handler returned is an async iterator: a streamed reply."""
    return hasattr(type(result), "__anext__")


async def send_items(items: AsyncIterator[Any], seq: int, allowance: Allowance, outlet: Outlet) -> None:
    """Send all items of the reply to request `seq`, at the pace at which they are taken. Always closes `items`.

    Raises what `items` raise, and `Misuse` for one that cannot be encoded. When cancelled, the items sent so far are.
    """
    async with closing(items):
        while True:
            await allowance.use_one()
            await outlet.wait_for_room()  # so the handler rests, too
            try:
                data = await anext(items)
            except StopAsyncIteration:
                return
            await outlet.wait_for_room()
            outlet.put(Item(seq, data))


def closing(items: AsyncIterator[Any]) -> AbstractAsyncContextManager[Any]:
    """Return what closes an iterator in the end, where it can be closed, as generators can."""
    return aclosing(items) if hasattr(items, "aclose") else nullcontext()
