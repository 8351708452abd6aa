"""What came for a client and was not handled yet, in order; and how far it was handled.

An event counts as handled when the next one is asked for: the program that took it had its chance. So an event that
was taken and not handled, because the program died, is not acknowledged, and comes again after a resume from
`position`. Gaps stand in the same queue as the events, exactly where they are.

A program that is told of a gap fetches the state anew, and must miss nothing after that. So a gap is held while a
client subscribes to its topics again. Where that takes too long, or as much has come behind it as may wait, it is told,
and one more when the client hears its topics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from trio_hub.errors import Gap, again
from trio_hub.messages import Event

__all__ = ["Mailbox", "Position"]


@attrs.frozen
class Position:
    """Where a client stands: everything of this connection id below number `next` is handled."""

    connection_id: str
    next: int


@attrs.frozen
class _Entry:
    """An event or a gap, where the client stands once that is handled, and how many events of how many bytes that are:
    what came right behind it for others (see `pass_by`) is counted with it.
    """

    content: Event | Gap
    after: Position
    size: int
    count: int = 1


class Mailbox:
    """Events and gaps for one reader. `limit` is where a full one asks the link to stop reading.

    `handled` events, of `handled_size` bytes, have been by now.
    """

    def __init__(self, limit: int, position: Position | None) -> None:
        self._limit = limit
        self._entries: deque[_Entry] = deque()
        self._taken: Position | None = None  # where the client stands when what it took is handled
        self._taken_count = 0
        self._taken_size = 0
        self._end: Exception | None = None
        self._holds = 0
        self._holds_no_longer = False
        self._told_early: Gap | None = None  # the last one that was told though gaps are held
        self._news = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self.position = position
        self.handled = 0
        self.handled_size = 0

    def put(self, content: Event | Gap, after: Position, size: int = 0) -> None:
        """Put something in, whatever the limit. `size` is about how many bytes it took on the wire."""
        self._entries.append(_Entry(content, after, size))
        self._news.unpark()

    def pass_by(self, after: Position, size: int) -> None:
        """Count something as handled that came and is not for this reader, as soon as all before it is."""
        if self._entries:
            last = self._entries[-1]
            self._entries[-1] = _Entry(last.content, after, last.size + size, last.count + 1)
            return
        all_is_handled = self._taken is None
        self._note_taken(after, size, 1)
        if all_is_handled:
            self.settle()

    @property
    def holds_events(self) -> bool:
        """Whether there is an event that is not handled. A gap is none: whoever dies before it is told of it again."""
        return self._taken is not None or any(isinstance(entry.content, Event) for entry in self._entries)

    def end(self, error: Exception) -> None:
        """Nothing more will come: when all is taken, `take` raises `error`."""
        self._end = error
        self._news.unpark_all()
        self._room.unpark_all()

    @contextmanager
    def holding_gaps(self) -> Iterator[None]:
        """Tell of no gap within the block, nor of what is behind it; of one that had to be told, again after it."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._holds_no_longer = False
                self._tell_again()
            self._news.unpark_all()

    def hold_no_longer(self) -> None:
        """Tell of gaps that are held."""
        self._holds_no_longer = True
        self._news.unpark_all()

    def _tell_again(self) -> None:
        gap, self._told_early = self._told_early, None
        after = self._entries[-1].after if self._entries else self._taken or self.position
        if gap is not None and after is not None and self._end is None:
            self.put(again(gap), after)

    async def wait_for_room(self) -> None:
        """Wait until there are fewer entries than the limit."""
        while len(self._entries) >= self._limit and self._end is None:
            await self._room.park()

    async def take(self) -> Event:
        """Return the next event; whatever was taken before counts as handled now. Nothing is lost when cancelled.

        Raises the `Gap` where there is one; the next call goes on behind it.
        """
        await self._wait_for_entries()
        return self._take_one()

    async def take_all(self) -> list[Event]:
        """Return all that is there, at least one event, up to the next gap. Otherwise as `take`."""
        await self._wait_for_entries()
        events = [self._take_one()]
        while self._entries and isinstance(self._entries[0].content, Event):
            events.append(self._take_one())
        return events

    async def _wait_for_entries(self) -> None:
        self.settle()
        await trio.lowlevel.checkpoint()
        while not self._entries or self._is_held:
            if self._end is not None and not self._entries:
                raise again(self._end)
            await self._news.park()

    @property
    def _is_held(self) -> bool:
        may_hold = self._holds > 0 and not self._holds_no_longer and self._end is None
        return may_hold and len(self._entries) < self._limit and isinstance(self._entries[0].content, Gap)

    def _take_one(self) -> Event:
        entry = self._entries.popleft()
        self._note_taken(entry.after, entry.size, entry.count)
        self._room.unpark()
        if isinstance(entry.content, Gap):
            self._told_early = entry.content if self._holds else None
            raise entry.content
        return entry.content

    def _note_taken(self, after: Position, size: int, count: int) -> None:
        self._taken = after
        self._taken_count += count
        self._taken_size += size

    def settle(self) -> None:
        """Count what was taken as handled."""
        if self._taken is not None:
            self.position, self._taken = self._taken, None
            self.handled += self._taken_count
            self.handled_size += self._taken_size
            self._taken_count = self._taken_size = 0
