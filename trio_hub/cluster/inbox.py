"""What has come to a node and was not received: bounded, and never a silent hole."""

from __future__ import annotations

import trio

from trio_hub.cluster.backplane import GONE, Arrival, Interrupted
from trio_hub.errors import Closed

__all__ = ["Inbox"]


class Inbox:
    """Arrivals in order, `most` of them, or of about so many bytes.

    Counts arrivals that were `received` and that `overflowed`, and holes that were told (`interrupted`).
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: list[Arrival | Interrupted] = []
        self._bytes = 0
        self._told: set[str | None] = set()
        self._overflowing = False
        self._closed = False
        self._came = trio.Event()
        self._emptied = trio.Event()
        self.received = 0
        self.interrupted = 0
        self.overflowed = 0

    @property
    def has_room(self) -> bool:
        """Whether one more arrival would be taken, however large."""
        return not self._overflowing and len(self._waiting) < self._most and self._bytes < self._most_bytes

    def add(self, arrival: Arrival) -> None:
        """Take it; or where there is no room lose it, and say so."""
        if self.has_room:
            self._waiting.append(arrival)
            self._bytes += len(arrival.payload)
            self._came.set()
            return
        self.overflowed += 1
        self._overflowing = True  # what comes until all this is received would stand behind the hole
        self.interrupt(None)

    def interrupt(self, channel: str | None) -> None:
        """Tell of a hole; a second one of the same kind is covered by the first, until that is received."""
        if channel not in self._told:
            self._told.add(channel)
            self._waiting.append(Interrupted(channel))
            self.interrupted += 1
            self._came.set()

    async def receive(self) -> list[Arrival | Interrupted]:
        """Wait until there is something, and return it all. Raises `Closed`."""
        await trio.lowlevel.checkpoint()
        while not self._waiting and not self._closed:
            self._came = trio.Event()
            await self._came.wait()
        if self._closed:
            raise Closed(GONE)
        taken, self._waiting = self._waiting, []
        self.received += len(taken) - len(self._told)
        self._told.clear()
        self._bytes, self._overflowing = 0, False
        self._emptied.set()
        return taken

    async def wait_for_room(self) -> None:
        """Wait until what was full has been received."""
        await trio.lowlevel.checkpoint()
        while not self.has_room:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def close(self) -> None:
        """Let nobody receive any more."""
        self._closed = True
        self._came.set()
