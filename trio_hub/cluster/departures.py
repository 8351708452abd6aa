"""What waits to leave for other nodes, in order: bounded, and sent many at a time by one task.

Where there is no room, or the backplane cannot be reached, events are lost, and counted; their numbers tell the others.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs
import trio

from trio_hub.cluster.backplane import Membership, Outbound
from trio_hub.cluster.envelopes import Envelope, Sealing
from trio_hub.errors import Unreachable

__all__ = ["Departures"]

log = logging.getLogger("trio_hub.cluster")

_AT_ONCE: Final = 1024  # envelopes sent in one go
_FEW: Final = 1000  # messages of our own, beside events, are few


@attrs.define
class _Word:
    """What a node says as itself, to all or to one."""

    channel: str
    payload: bytes


class Departures:
    """At most `most` envelopes that wait, of `most_bytes` together. `note_lost` is called where some are lost; while
    `is_away` all are.
    """

    def __init__(self, sealing: Sealing, most: int, most_bytes: int, note_lost: Callable[[], None]) -> None:
        self._sealing = sealing
        self._note_lost = note_lost
        self._most = most
        self._most_bytes = most_bytes
        self._queue: deque[tuple[str, Envelope] | _Word] = deque()
        self._size = self._size_of_words = 0
        self._news = trio.lowlevel.ParkingLot()
        self._left = trio.lowlevel.ParkingLot()
        self._queued = self._done = 0  # in all
        self.is_away = False
        self.carried = 0
        self.lost = 0
        self.lost_words = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, channels: Iterable[tuple[str, Envelope]]) -> None:
        """Have an event leave, in an envelope for each channel. It is lost where there is no room, and while nothing
        leaves: what is heard late may have been heard before.
        """
        if self.is_away or len(self._queue) >= self._most or self._size >= self._most_bytes:
            self._lose(1)
            return
        for channel, envelope in channels:
            self._queue.append((channel, envelope))
            self._queued += 1
            self._size += envelope.size
        self._news.unpark()

    def _lose(self, count: int) -> None:
        self.lost += count
        self._note_lost()

    def say(self, channel: str, payload: bytes) -> None:
        """Have this leave after all that waits."""
        if len(self._queue) < self._most + _FEW and self._size_of_words < self._most_bytes:
            self._size_of_words += len(payload)
            self._queue.append(_Word(channel, payload))
            self._queued += 1
            self._news.unpark()
        else:
            self.lost_words += 1

    async def wait_left(self) -> None:
        """Wait until all events that wait now have left, or are lost."""
        queued = self._queued
        while self._done < queued and not self.is_away:
            await self._left.park()

    async def run(self, membership: Membership) -> None:
        """Send what waits, until cancelled; nobody waits in vain then."""
        try:
            await self._send_all(membership)
        finally:
            self.is_away = True
            self._left.unpark_all()

    async def _send_all(self, membership: Membership) -> None:
        while True:
            while not self._queue:
                await self._news.park()
            waiting = len(self._queue)
            outbound, count = self._next()
            taken = waiting - len(self._queue)
            try:
                await membership.send(outbound)
                self.carried += count
                self.is_away = False
            except Unreachable as error:
                if not self.is_away:
                    log.warning("other nodes do not hear this one: %s", error)
                self.is_away = True
                self._lose(count)
                self.lost_words += 1
                taken += self._lose_waiting()
            self._done += taken
            self._left.unpark_all()

    def _lose_waiting(self) -> int:
        """Lose the events that wait; return in how many envelopes they were."""
        events = [item for item in self._queue if not isinstance(item, _Word)]
        self._queue = deque(item for item in self._queue if isinstance(item, _Word))
        self._size = 0
        if events:
            self._lose(len({envelope.number for _, envelope in events}))
        return len(events)

    def _next(self) -> tuple[list[Outbound], int]:
        """Take what is sent in one go, in order, and say how many events that is: those between words are one payload
        for each channel.
        """
        outbound: list[Outbound] = []
        numbers: set[int] = set()
        together: dict[str, list[Envelope]] = {}
        for _ in range(min(len(self._queue), _AT_ONCE)):
            item = self._queue.popleft()
            if isinstance(item, _Word):
                outbound += self._payloads(together)
                outbound.append(Outbound(item.channel, item.payload))
                together = {}
                self._size_of_words -= len(item.payload)
                continue
            channel, envelope = item
            together.setdefault(channel, []).append(envelope)
            numbers.add(envelope.number)
            self._size -= envelope.size
        return outbound + self._payloads(together), len(numbers)

    def _payloads(self, together: dict[str, list[Envelope]]) -> list[Outbound]:
        return [Outbound(channel, self._sealing.sealed_envelopes(channel, each)) for channel, each in together.items()]
