"""What one connection is owed: numbers, cursor, bounds, and the resume decision. Pure; the heart of the matter.

One log with a cursor, held as two queues that meet at the cursor:

    kept  |  owed
    #7 #8 | ## ## ##        first_kept = 7, next_number = 9

Entries right of the cursor are owed: they have no number yet, so they may still be dropped or replaced without
leaving a gap. Writing moves the cursor to the right and gives the numbers. Entries left of it are kept for the
client's return: until it acknowledges them (v1), or as long as there is room (compat).

With acknowledgements nothing written is ever forgotten unacknowledged: when `kept_count` or `kept_size` is reached,
writing stops until an acknowledgement comes. So whatever a dead link swallowed is still here, and a client that
reads without handling holds at most that many events of ours. Without them the oldest kept entries go first.

A resume at number n says that the client has everything below n. If `first_kept <= n <= next_number`, moving the
cursor back to n brings everything else; otherwise something is lost, and the only honest answer is a gap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import attrs

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode
from trio_hub.options import OutboxOptions
from trio_hub.wire.codecs import Body

__all__ = ["Outbox", "OutboxStatistics"]


@attrs.frozen
class OutboxStatistics:
    """What is held for one connection, in events and in bytes."""

    owed_count: int
    owed_size: int
    kept_count: int
    kept_size: int
    next_number: int


class Outbox:
    """The events of one connection id, from the moment they are owed until nobody can ask for them again.

    `hello` is event 0. `acknowledged` says whether the client acknowledges events. `owed` is what has no number yet:
    for reading only.
    """

    __slots__ = ("_acknowledged", "_kept", "_kept_size", "_options", "_owed_size", "next_number", "owed")

    def __init__(self, hello: Body, options: OutboxOptions, *, acknowledged: bool) -> None:
        self._options = options
        self._acknowledged = acknowledged
        self.restart(hello)

    def restart(self, hello: Body) -> None:
        """Forget everything and begin anew with `hello` as event 0: a new connection id."""
        self._kept: deque[Body] = deque()
        self._kept_size = 0
        self.owed: list[Body] = [hello]
        self._owed_size = hello.size
        self.next_number = 0

    def shed(self) -> None:
        """Owe nothing but the hello. For an outbox that is `untouched`."""
        self.restart(self.owed[0])

    @property
    def first_kept(self) -> int:
        """The lowest number a client can resume at."""
        return self.next_number - len(self._kept)

    @property
    def untouched(self) -> bool:
        """Whether the client has nothing of this id, not even the hello."""
        return self.next_number == 0

    def statistics(self) -> OutboxStatistics:
        """Return what is held at this moment."""
        return OutboxStatistics(len(self.owed), self._owed_size, len(self._kept), self._kept_size, self.next_number)

    def offer(self, body: Body) -> bool:
        """Owe `body` to the client; False, and nothing is changed, when that would exceed the bounds."""
        options = self._options
        if (
            self._owed_size + self._kept_size + body.size > options.size
            or len(self.owed) + len(self._kept) >= options.count
        ):
            return False
        self.owed.append(body)
        self._owed_size += body.size
        return True

    def offer_all(self, bodies: Sequence[Body], size: int) -> bool:
        """Owe all of `bodies`, which are `size` together; False, and nothing is changed, when not all can be."""
        options = self._options
        if (
            self._owed_size + self._kept_size + size > options.size
            or len(self.owed) + len(self._kept) + len(bodies) > options.count
        ):
            return False
        self.owed += bodies
        self._owed_size += size
        return True

    def pass_on(self, body: Body) -> int | None:
        """Owe `body` and take it in one go, where nothing else is owed; return its number.

        None, and nothing is changed, where something is owed or the bounds do not allow it.
        """
        kept, options = self._kept, self._options
        size = self._kept_size + body.size
        fits = len(kept) < options.kept_count and size <= options.kept_size
        if self.owed or len(kept) >= options.count or size > options.size or (self._acknowledged and not fits):
            return None
        kept.append(body)
        self._kept_size = size
        self.next_number += 1
        if not fits:
            self._forget_oldest()
        return self.next_number - 1

    def take(self, most: int) -> list[Body]:
        """Return what is to be written now, at most about `most` bytes, and move the cursor past it.

        The first of the returned events has the number that `next_number` had before.
        """
        taken, kept, options = self.owed, self._kept, self._options
        size = self._owed_size
        fits = len(kept) + len(taken) <= options.kept_count and self._kept_size + size <= options.kept_size
        if size <= most and (fits or not self._acknowledged):  # the common case: everything, without a loop
            self.owed = []
        else:
            taken = self._choose(most)
            size = sum([body.size for body in taken])
        kept += taken
        self._owed_size -= size
        self._kept_size += size
        self.next_number += len(taken)
        if not (fits or self._acknowledged):
            self._forget_oldest()
        return taken

    def _choose(self, most: int) -> list[Body]:
        """Take from the owed what fits into `most` bytes and, with acknowledgements, into what may be kept."""
        owed, options = self.owed, self._options
        count, room = len(owed), options.size
        if self._acknowledged:
            count = min(count, options.kept_count - len(self._kept))
            room = options.kept_size - self._kept_size
        chosen = size = 0
        while chosen < count and size < most:
            if size + owed[chosen].size > room and (chosen or self._kept):
                break
            size += owed[chosen].size
            chosen += 1
        taken = owed[:chosen]
        del owed[:chosen]
        return taken

    def _forget_oldest(self) -> None:
        kept, options = self._kept, self._options
        while len(kept) > options.kept_count or (self._kept_size > options.kept_size and len(kept) > 1):
            self._kept_size -= kept.popleft().size

    def acknowledge(self, number: int) -> None:
        """Forget every event up to `number`. What was acknowledged before may be repeated.

        Raises `PeerFault` for a number that was never written.
        """
        if number >= self.next_number:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, f"event {number} is acknowledged, but was not sent")
        for _ in range(number - self.first_kept + 1):
            self._kept_size -= self._kept.popleft().size

    def resume(self, wanted: int) -> bool:
        """Go on at number `wanted`: move the cursor back so that it is written next.

        False, and nothing is changed, when something from there on is no longer held, or was never written.
        """
        if not self.first_kept <= wanted <= self.next_number:
            return False
        again = [self._kept.pop() for _ in range(self.next_number - wanted)]
        size = sum([body.size for body in again])
        self._kept_size -= size
        self._owed_size += size
        self.owed[:0] = reversed(again)
        self.next_number = wanted
        return True
