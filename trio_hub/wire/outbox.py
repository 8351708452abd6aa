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

Not every event must be delivered (`Delivery`). What may be dropped is dropped while it is owed, and only then.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Final

import attrs

from trio_hub.delivery import MUST
from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode
from trio_hub.options import OutboxOptions
from trio_hub.wire.bodies import Body
from trio_hub.wire.droppable import Droppable
from trio_hub.wire.kept import Kept, Run

__all__ = ["Fate", "Heed", "Offer", "Outbox", "OutboxStatistics"]


class Offer(enum.Enum):
    """What became of an event that was offered."""

    TAKEN = "taken"
    DROPPED = "dropped"
    """It is volatile, and this is no time for it."""
    FULL = "full"
    """It would exceed the bounds."""


class Fate(enum.Enum):
    """What becomes, later, of an event that is watched."""

    WRITTEN = "written"
    """It has a number and is on its way; told again when it is written again."""
    ACKNOWLEDGED = "acknowledged"
    FORGOTTEN = "forgotten"
    """It was written, and no more will be known."""
    LOST = "lost"
    """It was dropped, as it allows, or the client was told of a gap, or is gone."""


_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})

Heed = Callable[[Fate], None]
"""Hears what becomes of an event. Must not wait, nor change the outbox."""


@attrs.frozen
class OutboxStatistics:
    """What is held for one connection, in events and in bytes; `dropped` were, as they allowed, since it began.

    The reasons are ``away`` (volatile, and there was no link), ``behind`` (volatile, and too much is owed),
    ``expired`` and ``replaced``.
    """

    owed_count: int
    owed_size: int
    kept_count: int
    kept_size: int
    next_number: int
    dropped: int = 0
    dropped_by_reason: Mapping[str, int] = attrs.field(factory=dict, eq=False)  # equal sums are enough


class Outbox:
    """The events of one connection id, from the moment they are owed until nobody can ask for them again.

    `hello` is event 0. `acknowledged` says whether the client acknowledges events. `owed` is what has no number yet:
    for reading only.
    """

    __slots__ = (
        "_acknowledged",
        "_droppable",
        "_dropped",
        "_kept",
        "_options",
        "_owed_size",
        "_watched",
        "next_number",
        "owed",
    )

    def __init__(self, hello: Body, options: OutboxOptions, *, acknowledged: bool) -> None:
        self._options = options
        self._acknowledged = acknowledged
        self._dropped: dict[str, int] | None = None  # by reason; most connections never need it
        self._watched: dict[Body, Heed] = {}
        self.restart(hello)

    def restart(self, hello: Body) -> None:
        """Forget everything and begin anew with `hello` as event 0: a new connection id."""
        self.clear()
        self.owed.append(hello)
        self._owed_size = hello.size

    def clear(self) -> None:
        """Forget everything, the hello too: the connection is gone. Everything that was watched is lost."""
        self._kept = Kept()
        self.owed: list[Body] = []
        self._owed_size = 0
        self._droppable: Droppable | None = None  # where nothing owed may be dropped
        self.next_number = 0
        watched, self._watched = self._watched, {}
        for heed in watched.values():
            heed(Fate.LOST)

    def shed(self) -> None:
        """Owe nothing but the hello. For an outbox that is `untouched`."""
        self.restart(self.owed[0])

    @property
    def first_kept(self) -> int:
        """The lowest number a client can resume at."""
        return self.next_number - self._kept.count

    @property
    def size(self) -> int:
        """Bytes of all that is held, as if no event were shared."""
        return self._owed_size + self._kept.size

    @property
    def holds_more_than_a_hello(self) -> bool:
        """Whether there is anything that could be forgotten for the sake of others."""
        return len(self.owed) + self._kept.count > 1

    @property
    def untouched(self) -> bool:
        """Whether the client has nothing of this id, not even the hello."""
        return self.next_number == 0

    def statistics(self) -> OutboxStatistics:
        """Return what is held at this moment."""
        droppable = self._droppable
        dropped = _NOTHING if self._dropped is None else dict(self._dropped)
        dead, dead_size = (droppable.dead, droppable.dead_size) if droppable is not None else (0, 0)
        return OutboxStatistics(
            owed_count=len(self.owed) - dead,
            owed_size=self._owed_size - dead_size,
            kept_count=self._kept.count,
            kept_size=self._kept.size,
            next_number=self.next_number,
            dropped=sum(dropped.values()),
            dropped_by_reason=dropped,
        )

    # -- owing

    def offer(self, body: Body) -> Offer:
        """Owe `body` to the client, or say why not; then nothing is changed that is not volatile."""
        delivery = body.delivery
        if delivery.volatile and self._is_half_full():
            return self._pass_over()
        older = self._replaced_by(body)
        if not self._fits(older is None, body.size - (older.size if older is not None else 0)):
            return self._pass_over() if delivery.volatile else Offer.FULL
        if older is not None and self._droppable is not None:
            self._droppable.bury(older)
            self._lose(older, "replaced")
            self._fits(1, body.size)  # it does, but what is dead may have to go for it
        self.owed.append(body)
        self._owed_size += body.size
        if delivery is not MUST:
            self._droppable = self._droppable or Droppable()
            self._droppable.note(body)
        return Offer.TAKEN

    def _pass_over(self) -> Offer:
        self._count_dropped("behind")
        return Offer.DROPPED

    def _replaced_by(self, body: Body) -> Body | None:
        return None if self._droppable is None else self._droppable.replaced_by(body)

    def offer_all(self, bodies: Sequence[Body], size: int) -> bool:
        """Owe all of `bodies`, which are `size` together and must be delivered, every one.

        False, and nothing is changed that is not volatile, when not all can be.
        """
        if not self._fits(len(bodies), size):
            return False
        self.owed += bodies
        self._owed_size += size
        return True

    def _fits(self, count: int, size: int) -> bool:
        """Whether so much more may be owed; where it may not, what is least missed goes first."""
        options = self._options
        while (
            self._owed_size + self._kept.size + size > options.size
            or len(self.owed) + self._kept.count + count > options.count
        ):
            if not self._make_room():
                return False
        return True

    def _is_half_full(self) -> bool:
        if 2 * len(self.owed) < self._options.count and 2 * self._owed_size < self._options.size:
            return False
        return not self._sweep() or self._is_half_full()

    # -- dropping

    def _make_room(self) -> bool:
        """Get rid of what is least missed; False where there is nothing of the kind."""
        if self._droppable is None:
            return False
        return self._sweep() or self._drop([body for body in self.owed if body.delivery.volatile], "behind")

    def _sweep(self) -> bool:
        """Take what is dead out of the list; False where there is nothing."""
        if self._droppable is None or not self._droppable.dead:
            return False
        self._owed_size -= self._droppable.dead_size
        self.owed = self._droppable.sweep(self.owed)
        return True

    def _drop(self, bodies: list[Body], reason: str) -> bool:
        """Owe these no more; False where there are none. To be called after a sweep."""
        if not bodies:
            return False
        for body in bodies:
            self._owed_size -= body.size
            self._lose(body, reason)
        dropped = set(bodies)
        self.owed = [body for body in self.owed if body not in dropped]
        self._droppable = Droppable(self.owed)
        return True

    def _lose(self, body: Body, reason: str) -> None:
        self._count_dropped(reason)
        self._settle(body, Fate.LOST)

    def _count_dropped(self, reason: str) -> None:
        self._dropped = self._dropped or {}
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def drop_expired(self, now: float) -> None:
        """Owe no event any more that has expired by now."""
        if self._droppable is not None and self._droppable.expiry <= now:
            self._sweep()
            if not self._drop([body for body in self.owed if body.expires_at <= now], "expired"):
                self._droppable = Droppable(self.owed)  # what would have expired was replaced

    @property
    def may_expire(self) -> bool:
        """Whether something is owed that expires some time."""
        return self._droppable is not None and self._droppable.expiry < math.inf

    # -- writing

    def pass_on(self, run: Run) -> int | None:
        """Owe these events and take them in one go, where nothing else is owed; return the number of the first.

        They must be delivered, every one. None, and nothing is changed, where something is owed or the bounds do not
        allow it.
        """
        if self.owed:
            return None
        kept, options, first = self._kept, self._options, self.next_number
        count, size = kept.count + run.count, kept.size + run.size
        fits = count <= options.kept_count and size <= options.kept_size
        if count > options.count or size > options.size or (self._acknowledged and not fits):
            return None
        kept.append(run)
        self.next_number = first + run.count
        if not fits:
            self._forget_oldest()
        return first

    def take(self, most: int) -> list[Body]:
        """Return what is to be written now, at most about `most` bytes, and move the cursor past it.

        The first of the returned events has the number that `next_number` had before.
        """
        if self._droppable is not None:
            self._sweep()
        taken, kept, options = self.owed, self._kept, self._options
        size = self._owed_size
        fits = kept.count + len(taken) <= options.kept_count and kept.size + size <= options.kept_size
        if size <= most and (fits or not self._acknowledged):  # the common case: everything, without a loop
            self.owed = []
        else:
            taken = self._choose(most)
            size = sum([body.size for body in taken])
        if taken:
            kept.append(Run(taken, size))
        self._owed_size -= size
        self.next_number += len(taken)
        if self._droppable is not None:
            self._droppable.written(taken)
            if not self.owed:
                self._droppable = None
        if self._watched:
            self._tell_written(taken)
        if not (fits or self._acknowledged):
            self._forget_oldest()
        return taken

    def _choose(self, most: int) -> list[Body]:
        """Take from the owed what fits into `most` bytes and, with acknowledgements, into what may be kept."""
        owed, options = self.owed, self._options
        count, room = len(owed), options.size
        if self._acknowledged:
            count = min(count, options.kept_count - self._kept.count)
            room = options.kept_size - self._kept.size
        chosen = size = 0
        while chosen < count and size < most:
            if size + owed[chosen].size > room and (chosen or self._kept.count):
                break
            size += owed[chosen].size
            chosen += 1
        taken = owed[:chosen]
        del owed[:chosen]
        return taken

    def _forget_oldest(self) -> None:
        self._forget(self._kept.surplus(self._options.kept_count, self._options.kept_size), Fate.FORGOTTEN)

    def _forget(self, count: int, fate: Fate) -> None:
        if self._watched:
            for body in islice(self._kept, count):
                self._settle(body, fate)
        self._kept.forget(count)

    # -- what the client says

    def acknowledge(self, number: int) -> None:
        """Forget every event up to `number`. What was acknowledged before may be repeated.

        Raises `PeerFault` for a number that was never written.
        """
        if number >= self.next_number:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, f"event {number} is acknowledged, but was not sent")
        self._forget(max(number - self.first_kept + 1, 0), Fate.ACKNOWLEDGED)

    def resume(self, wanted: int) -> bool:
        """Go on at number `wanted`: move the cursor back so that it is written next, but for what is volatile.

        False, and nothing is changed, when something from there on is no longer held, or was never written.
        """
        if not self.first_kept <= wanted <= self.next_number:
            return False
        kept_size = self._kept.size
        again = self._kept.take_back(self.next_number - wanted)
        self._owed_size += kept_size - self._kept.size
        self.next_number = wanted
        self._sweep()
        self.owed[:0] = again
        if self._droppable is not None or any(body.delivery is not MUST for body in again):
            self._droppable = Droppable(self.owed)
            self._drop([body for body in self.owed if body.delivery.volatile], "away")
        if self._watched:
            self._tell_written(self._kept)  # the client has them, whatever the last link's end left in doubt
        return True

    # -- moving

    def packed(self) -> tuple[int, list[Body], list[Body]]:
        """Return `next_number`, what is kept, and what is owed."""
        self._sweep()
        return self.next_number, list(self._kept), list(self.owed)

    def unpack(self, next_number: int, kept: Sequence[Body], owed: Sequence[Body]) -> None:
        """Go on with what another outbox has packed, in place of what is here, which is forgotten."""
        self.clear()
        self.next_number = next_number
        if kept:
            self._kept.append(Run(kept))
        self.owed = list(owed)
        self._owed_size = sum([body.size for body in owed])
        if any(body.delivery is not MUST for body in owed):
            self._droppable = Droppable(self.owed)

    # -- being watched

    def watch(self, body: Body, heed: Heed) -> None:
        """Have `heed` told what becomes of an event that is owed, until that is settled."""
        self._watched[body] = heed

    def _settle(self, body: Body, fate: Fate) -> None:
        """Tell what became of this event for good."""
        if self._watched:
            heed = self._watched.pop(body, None)
            if heed is not None:
                heed(fate)

    def _tell_written(self, bodies: Iterable[Body]) -> None:
        for body in bodies:
            heed = self._watched.get(body)
            if heed is not None:
                heed(Fate.WRITTEN)
