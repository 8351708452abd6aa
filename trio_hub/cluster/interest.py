"""What a node listens to: a channel for each topic and user that somebody here has, and no others.

What is wanted is counted by plain calls; one task has the backplane told of what has changed, all at once. Whoever is
about to hear something may wait until that is in effect: what is said elsewhere after that comes here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio

from trio_hub.cluster.backplane import Membership
from trio_hub.cluster.channels import channel_of, origin_of

__all__ = ["Interest"]

_PATIENCE: Final = 1.0  # s, for which somebody is kept waiting; while the backplane is away, nobody is


class Interest:
    """The channels that are wanted, and those that are listened to. `origin` begins the ids of our own connections,
    which need no channel each; `listens_to` is told of channels that are listened to from now on, `tell_hole` of one
    that somebody has relied on before that, `is_deaf` says that there is no sense in waiting until they are.

    ``channel in interest`` says whether somebody relies on hearing it: it is listened to, or nobody could wait any
    longer until it was. What is said on it meanwhile is missing.
    """

    def __init__(
        self,
        origin: str,
        listens_to: Callable[[Iterable[str]], None],
        tell_hole: Callable[[str], None],
        is_deaf: Callable[[], bool],
    ) -> None:
        self._is_deaf = is_deaf
        self._tell_hole = tell_hole
        self._origin = origin
        self._listens_to = listens_to
        self._wanted: Counter[str] = Counter()
        self._listened: set[str] = set()
        self._promised: set[str] = set()
        self._changed: dict[str, None] = {}
        self._news = trio.lowlevel.ParkingLot()
        self._in_effect = trio.lowlevel.ParkingLot()

    def __contains__(self, channel: object) -> bool:
        return channel in self._listened or channel in self._promised

    def heed(self, kind: str, name: str, is_here: bool) -> None:
        """Note that a ``topic``, ``user`` or ``connection`` is here from now on, or no more."""
        if kind == "connection" and origin_of(name) == self._origin:
            return
        (self.want if is_here else self.let_go)(channel_of(kind, name))

    def want(self, channel: str) -> None:
        """Listen to a channel, until it is let go as often as it was wanted. Never waits."""
        self._wanted[channel] += 1
        self._note(channel)

    def let_go(self, channel: str) -> None:
        """Want a channel once less. Never waits."""
        self._wanted[channel] -= 1
        if not self._wanted[channel]:
            del self._wanted[channel]
            self._promised.discard(channel)
            self._note(channel)

    def _note(self, channel: str) -> None:
        if (channel in self._wanted) is not (channel in self._listened):
            self._changed[channel] = None
            self._news.unpark()

    async def wait_listening(self, channels: Iterable[str]) -> None:
        """Wait until these, which are wanted, are listened to; for a bounded time, and not at all while deaf."""
        channels = set(channels)
        with trio.move_on_after(_PATIENCE):
            while not self._is_deaf() and not self._listened.issuperset(channels):
                await self._in_effect.park()
        self._promised |= {channel for channel in channels - self._listened if channel in self._wanted}

    @asynccontextmanager
    async def expecting(self, channels: Iterable[str]) -> AsyncIterator[None]:
        """Listen to these within the block, and before it as far as `wait_listening` waits."""
        wanted = list(channels)
        for channel in wanted:
            self.want(channel)
        try:
            await self.wait_listening(wanted)
            yield
        finally:
            for channel in wanted:
                self.let_go(channel)

    async def run(self, membership: Membership) -> None:
        """Listen to what is wanted, until cancelled."""
        for channel in self._wanted:
            self._note(channel)
        try:
            while True:
                while not self._changed:
                    await self._news.park()
                await self._follow(membership)
        finally:
            self._listened.clear()
            self._in_effect.unpark_all()

    async def _follow(self, membership: Membership) -> None:
        changed, self._changed = self._changed, {}
        new = [channel for channel in changed if channel in self._wanted and channel not in self._listened]
        old = [channel for channel in changed if channel not in self._wanted and channel in self._listened]
        if old:
            self._listened.difference_update(old)
            await membership.ignore(old)
        if new:
            await membership.listen(new)
            self._listened.update(new)
            self._listens_to(new)
            for channel in self._promised.intersection(new):
                self._promised.discard(channel)
                self._tell_hole(channel)
        self._in_effect.unpark_all()
        for channel in new:
            self._note(channel)  # it may have been let go meanwhile
