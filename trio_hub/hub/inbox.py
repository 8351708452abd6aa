"""Publishes on their way to the hub task: a bounded queue whose fullness is the publishers' backpressure."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
import trio

from trio_hub.delivery import MUST
from trio_hub.errors import Closed
from trio_hub.hub.editing import Editing
from trio_hub.hub.receipts import Receipt
from trio_hub.targets import Target
from trio_hub.wire.bodies import Body, Tally

__all__ = ["Inbox", "Publication"]


@attrs.define(eq=False)
class Publication:
    """A publish of an event of this name. `receipt` is there only where somebody waits for what becomes of it, `cause`
    only where it is traced."""

    name: str
    body: Body
    target: Target
    editing: Editing | None = None
    receipt: Receipt | None = None
    offered: int = 0
    cause: Any = None

    @property
    def is_plain(self) -> bool:
        """Whether everybody gets the same event, it must be delivered, and nobody follows it."""
        follows = self.receipt is not None and self.receipt.follows
        return self.editing is None and self.body.delivery is MUST and not follows


class Inbox:
    """At most `capacity` publishes, whose bytes count in `tally` from now on. Many put, one takes."""

    def __init__(self, capacity: int, tally: Tally) -> None:
        self._capacity = capacity
        self._tally = tally
        self._queue: deque[Publication] = deque()
        self._news = trio.lowlevel.ParkingLot()  # where the one who takes waits
        self._room = trio.lowlevel.ParkingLot()  # where those who put wait
        self._rest = trio.lowlevel.ParkingLot()  # where those wait who want everything to be done
        self._at_rest = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def size(self) -> int:
        """Bytes of the events in it."""
        return sum([publication.body.size for publication in self._queue])

    # -- putting

    async def put(self, publication: Publication) -> None:
        """Put a publish into it, waiting for room; if cancelled, it was not put. Raises `Closed` after the end.

        Others get a turn only where there is no room: to give them one is up to whoever does not wait for more.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._queue) >= self._capacity and not self._closed:
            await self._room.park()
        self._take(publication)

    def put_nowait(self, publication: Publication) -> None:
        """Put a publish into it. Raises `trio.WouldBlock` where there is no room, and `Closed` after the end."""
        if len(self._queue) >= self._capacity:
            raise trio.WouldBlock
        self._take(publication)

    def _take(self, publication: Publication) -> None:
        if self._closed:
            raise Closed("the hub has ended")
        publication.body.count_in(self._tally)
        self._queue.append(publication)
        self._news.unpark()

    async def wait_done(self) -> None:
        """Wait until everything in it was taken and done, or the end has come."""
        while (self._queue or not self._at_rest) and not self._closed:
            await self._rest.park()

    # -- taking

    async def wait(self) -> None:
        """Wait until there is something. Being here says that everything that was taken is done."""
        while not self._queue:
            self._at_rest = True
            self._rest.unpark_all()
            await self._news.park()
        self._at_rest = False

    def next_burst(self, most: int) -> list[Publication]:
        """Take what can be offered in one go: publishes to one target, or one that is edited."""
        queue = self._queue
        burst = [queue.popleft()]
        if burst[0].editing is None:
            while len(burst) < most and queue[0].target == burst[0].target and queue[0].editing is None:
                burst.append(queue.popleft())
        return burst

    def admit(self) -> None:
        """Let those who wait for room look again."""
        self._room.unpark_all()

    def close(self) -> None:
        """Take no more, and forget what is there; nobody waits in vain."""
        self._closed = True
        for publication in self._queue:
            if publication.receipt is not None:
                publication.receipt.complete.set()
        self._queue.clear()
        self._rest.unpark_all()
        self._room.unpark_all()
