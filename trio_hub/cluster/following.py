"""Which messages of a reliable channel a node has had, and which it has to fetch. Pure.

The messages of a channel are a stream. Each has an id, an epoch and a number: the epoch is the time at which the stream
was begun, and numbers are contiguous within it from 0 on. So who has had one of them knows the next, and a number that
is missing is a hole that can be fetched. An epoch that is another tells that a stream was lost and begun anew.

While a node hears all that is sent, the next message comes by itself (`hear`). After a hole, a lost connection or a
full inbox it fetches instead, from the last one that it had: that one included, since only this shows that the stream
is still the same. A store may come back with an older state, and give the same ids to other messages; so what is
compared is the message's own mark, too. Who has had none cannot tell, and takes every lost connection for a loss. What
is heard meanwhile only counts as a sign that there is more to fetch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Entry", "Fetch", "Follower", "StreamId"]


class StreamId(NamedTuple):
    """Where in a stream a message stands."""

    epoch: int
    number: int


class Entry(NamedTuple):
    """A message of a stream. `mark` is its own, whichever id it was given."""

    id: StreamId
    mark: bytes
    body: bytes


class Fetch(NamedTuple):
    """What to fetch: everything from the entry `since` on, this one included, or from the first one; and the last one.

    Where the follower has not begun, the last one is enough.
    """

    since: StreamId | None
    stirred: int


class Follower:
    """How far one node has followed one stream.

    `live`: it hears all that is sent, and needs to fetch nothing.
    """

    def __init__(self) -> None:
        self.live = False
        self._begun = False
        self._last: tuple[StreamId, bytes] | None = None  # None when begun: there was no stream then
        self._doubted = False
        self._parted = False  # while nothing was had yet, what is sent was not heard for a while
        self._missed: int | None = None  # while nothing was had yet: the epoch of the first that was heard and not had
        self._stirred = 0  # how often there was something that a fetch on its way may not bring

    @property
    def since(self) -> StreamId | None:
        """The id of the last entry that was had."""
        return None if self._last is None else self._last[0]

    def hear(self, entry: Entry, *, has_room: bool) -> bool:
        """Whether this, which was sent just now, is to be had now; the follower is not `live` if it must be fetched."""
        if self.live:
            if self._is_repeat(entry.id):
                return False
            if has_room and self._is_next(entry.id):
                self.have(entry)
                return True
        if self._last is None and self._missed is None:
            self._missed = entry.id.epoch
        self._miss()
        return False

    def part(self) -> None:
        """Note that from now on nothing is heard of what is sent."""
        self._parted = True
        self._miss()

    def doubt(self) -> None:
        """Note that the store is another one: it may have forgotten what it had taken, and not show it."""
        self._doubted = True

    def have(self, entry: Entry) -> None:
        """Note that this was had, and so everything before it."""
        self._last, self._parted, self._missed = (entry.id, entry.mark), False, None

    def fetch(self) -> Fetch:
        """What to fetch now."""
        return Fetch(self.since, self._stirred)

    def begin(self, fetch: Fetch, last: Entry | None) -> bool:
        """Where nothing was ever had: begin behind `last`, the end of the stream. Whether this was such a beginning."""
        if self._begun:
            return False
        self._begun, self._doubted, self._parted, self._missed = True, False, False, None
        self._last = None if last is None else (last.id, last.mark)
        self.finish(fetch, complete=True)
        return True

    def fetched(self, page: Sequence[Entry], last: Entry | None) -> tuple[Sequence[Entry], bool]:
        """What of a fetched page is to be had, each of it with `have`; and whether something before it is lost."""
        doubted, self._doubted = self._doubted, False
        if self._last is None:
            lost = self._parted or not self._is_whole(page)
            self._parted, self._missed = False, None
            return page, lost or doubted
        if page and (page[0].id, page[0].mark) == self._last:
            return page[1:], doubted
        if not page:  # the stream ends before what was had, or is gone
            self._last = None if last is None else (last.id, last.mark)
        return page, True

    def finish(self, fetch: Fetch, *, complete: bool) -> None:
        """Note that this fetch was had in full, and reached the end of the stream if it is `complete`."""
        self.live = complete and fetch.stirred == self._stirred

    def _miss(self) -> None:
        """Note that something was sent, or may have been, and was not had."""
        self.live = False
        self._stirred += 1

    def _is_whole(self, page: Sequence[Entry]) -> bool:
        """Whether, where nothing was had yet, this is a stream from its start on, and the first that there was."""
        epochs = {entry.id.epoch for entry in page[:1]} | {self._missed} - {None}
        return len(epochs) <= 1 and (page[0].id.number == 0 if page else self._missed is None)

    def _is_next(self, id: StreamId) -> bool:
        """Whether nothing can be between this and what was had, for one who hears all that is sent."""
        if self._last is None or id.epoch != self._last[0].epoch:
            return id.number == 0
        return id.number == self._last[0].number + 1

    def _is_repeat(self, id: StreamId) -> bool:
        return self._last is not None and id.epoch == self._last[0].epoch and id.number <= self._last[0].number
