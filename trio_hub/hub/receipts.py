"""How far a publish got, with everyone it is for."""

from __future__ import annotations

import enum
from functools import partial

import attrs
import trio

from trio_hub.peer.connection import Connection
from trio_hub.wire.bodies import Body
from trio_hub.wire.outbox import Fate

__all__ = ["Published", "Reach", "Receipt"]


class Reach(enum.Enum):
    """How far a publish is waited for, and how far it got."""

    ACCEPTED = "accepted"
    """It is in this hub's inbox."""
    OFFERED = "offered"
    """It is in the outbox of everybody it is for, or they have been told of a gap."""
    WRITTEN = "written"
    """It has its number, and the system has taken its bytes, for everybody it is for and who is not lost."""
    DELIVERED = "delivered"
    """Their programs have handled it and said so (v1). Of compat clients no more can be known than `WRITTEN`."""


@attrs.frozen
class Published:
    """How far a publish got when `publish` returned. The counts are of recipients, None where not waited for.

    `lost` were told of a gap instead, or are gone, or the event was dropped as it allows (`Delivery`). `delivered`
    counts only those who acknowledge. All of that is about this node; `carried` says whether the backplane has it for
    the others, None where that was not waited for.
    """

    reach: Reach
    offered: int | None = None
    written: int | None = None
    delivered: int | None = None
    lost: int | None = None
    carried: bool | None = None


class Receipt:
    """What becomes of one event, for somebody who waits until it is `wanted`. `complete` is set when that is so."""

    def __init__(self, wanted: Reach) -> None:
        self.complete = trio.Event()
        self._wanted = wanted
        self._unwritten: set[Connection] = set()
        self._undelivered: set[Connection] = set()
        self._written = self._delivered = self._lost = 0
        self._offered: int | None = None  # until everybody has been offered it

    @property
    def follows(self) -> bool:
        """Whether the event is followed on its way to each recipient."""
        return self._wanted in (Reach.WRITTEN, Reach.DELIVERED)

    def follow(self, connection: Connection, body: Body) -> None:
        """Follow the event to this recipient, who is owed it."""
        self._unwritten.add(connection)
        self._undelivered.add(connection)
        connection.follow(body, partial(self._heed, connection))

    def nobody_else(self, offered: int) -> None:
        """Note that everybody has been offered it, who are so many."""
        self._offered = offered
        self._look()

    def _heed(self, connection: Connection, fate: Fate) -> None:
        if fate is Fate.LOST:
            self._lost += connection in self._undelivered
        elif connection in self._unwritten:
            self._written += 1
        if fate is Fate.ACKNOWLEDGED:
            self._delivered += 1
        self._unwritten.discard(connection)
        if fate is not Fate.WRITTEN or not connection.codec.acknowledges:
            self._undelivered.discard(connection)
        self._look()

    def _look(self) -> None:
        waiting = self._undelivered if self._wanted is Reach.DELIVERED else self._unwritten
        if self._offered is not None and not waiting:
            self.complete.set()

    def published(self) -> Published:
        """Return how far it got by now."""
        if self._offered is None:
            return Published(Reach.ACCEPTED)
        if not self.follows:
            return Published(Reach.OFFERED, self._offered)
        reach = Reach.OFFERED if self._unwritten else Reach.WRITTEN
        if self._wanted is Reach.DELIVERED and not self._undelivered:
            reach = Reach.DELIVERED
        return Published(reach, self._offered, self._written, self._delivered, self._lost)
