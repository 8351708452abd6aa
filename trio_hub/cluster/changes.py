"""Changes that all nodes make: one is told of each, and tells the others, reliably and in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from trio_hub.cluster.envelopes import Unreadable, spelled_target, target_from
from trio_hub.targets import Target

__all__ = ["Changes"]

log = logging.getLogger("trio_hub.cluster")

_MOST: Final = 10_000  # that wait until others can be told; the oldest go first


class Changes:
    """Tells other nodes of changes by `send`, which waits until they can be told, and makes those that they tell of."""

    def __init__(self, send: Callable[[list[Any]], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: dict[str, deque[list[Any]]] = {}  # by change: one that is frequent pushes out no other
        self._news = trio.lowlevel.ParkingLot()
        self._makers: dict[str, Callable[..., object]] = {}

    def tell(self, change: str, number: int, of: Target, *details: Any) -> None:
        """Tell of a change, whose number is that of nothing else. Never waits."""
        waiting = self._waiting.setdefault(change, deque(maxlen=_MOST))
        if len(waiting) == _MOST:
            log.error("other nodes will never know of a change (%s): too many wait", change)
        waiting.append([change, number, spelled_target(of), *details])
        self._news.unpark()

    def heed(self, change: str, make: Callable[..., object]) -> None:
        """Have `make` called, with the target and details, when another node tells of such a change."""
        self._makers[change] = make

    async def run(self) -> None:
        """Tell of what waits, until cancelled."""
        while True:
            waiting = next((each for each in self._waiting.values() if each), None)
            if waiting is None:
                await self._news.park()
                continue
            said = waiting[0]
            await self._send(said)
            if waiting[0] is said:  # and has not made room meanwhile
                waiting.popleft()

    def make(self, said: Any, is_known: Callable[[int], bool]) -> None:
        """Make a change that another node has told of; nothing where its number is known. Raises `Unreadable`."""
        match said:
            case [str(change), int(number), target, *details] if change in self._makers:
                if not is_known(number):
                    self._makers[change](target_from(target), *details)
            case _:
                raise Unreadable(f"no change that is known here: {said!r:.100}")
