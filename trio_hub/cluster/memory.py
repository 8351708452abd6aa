"""A backplane of one process, for tests: nodes in it may be cut off, and mended."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import trio

from trio_hub.cluster.backplane import (
    GONE,
    Arrival,
    BackplaneHealth,
    BackplaneStatistics,
    Interrupted,
    Membership,
    Outbound,
    check_node,
    name_of,
)
from trio_hub.cluster.inbox import Inbox
from trio_hub.errors import Closed, Misuse, Unreachable
from trio_hub.options import BackplaneOptions

__all__ = ["MemoryBackplane"]


class _Stream:
    """The last messages of a reliable channel; `end` is the number of the next one."""

    def __init__(self, kept: int) -> None:
        self._kept: deque[Arrival] = deque(maxlen=kept)
        self.end = 0

    @property
    def start(self) -> int:
        """The number of the first that is still there."""
        return self.end - len(self._kept)

    def append(self, arrival: Arrival) -> None:
        self._kept.append(arrival)
        self.end += 1

    def __getitem__(self, number: int) -> Arrival:
        return self._kept[number - self.start]


class MemoryBackplane:
    """Nodes of one process that share this object. A test may `cut` one off, by its name, and `mend` that: a server's
    node in all its lives.

    Nothing here takes time: what cannot be reached is so at once.
    """

    def __init__(self, options: BackplaneOptions = BackplaneOptions()) -> None:  # noqa: B008
        self._options = options
        self._members: dict[str, _Member] = {}
        self._streams: dict[str, _Stream] = {}
        self._kept: dict[str, tuple[float, bytes]] = {}
        self._cut_since: dict[str, float] = {}

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        """Take part within the block. See `Backplane`. Raises `Misuse` also where the name is taken."""
        check_node(node)
        if node in self._members:
            raise Misuse(f"there is a node {node!r} already")
        await trio.lowlevel.checkpoint()
        member = self._members[node] = _Member(self, node, self._options)
        try:
            yield member
        finally:
            del self._members[node]
            member.close()

    def cut(self, node: str) -> None:
        """Cut a node off, whether it has joined or not: it hears and reaches nobody."""
        self._cut_since.setdefault(node, trio.current_time())

    def mend(self, node: str) -> None:
        """Undo that."""
        if self._cut_since.pop(node, None) is None:
            return
        for name, member in self._members.items():
            if node in (name, name_of(name)):
                member.come_back()

    # -- for its members

    def cut_since(self, node: str) -> float | None:
        """When a node was cut off; None where it is not."""
        return self._cut_since.get(node, self._cut_since.get(name_of(node)))

    def stream(self, channel: str) -> _Stream:
        """The messages of a reliable channel, which somebody listens to."""
        if channel not in self._streams:
            self._streams[channel] = _Stream(self._options.kept)
        return self._streams[channel]

    def forget_unheard(self) -> None:
        """Forget the messages of reliable channels that nobody listens to any more."""
        heard = {channel for member in self._members.values() for channel in member.followed}
        for channel in self._streams.keys() - heard:
            del self._streams[channel]

    def spread(self, arrival: Arrival) -> None:
        """Say this to everybody but its origin."""
        if arrival.reliable and arrival.channel in self._streams:
            self._streams[arrival.channel].append(arrival)
        for member in self._members.values():
            member.hear(arrival)

    def put(self, key: str, value: bytes, lasts: float) -> None:
        """Keep a value; those that have been kept for too long make room."""
        now = trio.current_time()
        self._kept = {each: (until, kept) for each, (until, kept) in self._kept.items() if until > now}
        self._kept[key] = now + lasts, value

    def take(self, key: str) -> bytes | None:
        """Return it and keep it no more."""
        until, value = self._kept.pop(key, (-math.inf, b""))
        return value if trio.current_time() < until else None


class _Member:
    """A `Membership`. `followed` are its reliable channels, and which message of each is the next; None before that."""

    def __init__(self, backplane: MemoryBackplane, node: str, options: BackplaneOptions) -> None:
        self._backplane = backplane
        self._node = node
        self._options = options
        self._inbox = Inbox(options.waiting, options.waiting_bytes)
        self._plain: set[str] = set()
        self._closed = False
        self._sent = self._unreachable = self._reconnects = 0
        self.followed: dict[str, int | None] = {}

    async def send(self, messages: Sequence[Outbound]) -> None:
        await self._reach()
        for each in messages:
            self._backplane.spread(Arrival(each.channel, self._node, each.payload, each.reliable))
        self._sent += len(messages)

    async def listen(self, channels: Iterable[str], *, reliable: bool = False) -> None:
        self._check()
        await trio.lowlevel.checkpoint()
        if not reliable:
            self._plain.update(channels)
            return
        for channel in channels:
            end = self._backplane.stream(channel).end
            self.followed.setdefault(channel, None if self._is_cut else end)

    async def ignore(self, channels: Iterable[str], *, reliable: bool = False) -> None:
        self._check()
        await trio.lowlevel.checkpoint()
        if not reliable:
            self._plain.difference_update(channels)
            return
        for channel in channels:
            self.followed.pop(channel, None)
        self._backplane.forget_unheard()

    async def receive(self) -> list[Arrival | Interrupted]:
        taken = await self._inbox.receive()
        for channel in self.followed:
            self._catch_up(channel)
        return taken

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        await self._reach()
        self._backplane.put(key, value, lasts)

    async def take(self, key: str) -> bytes | None:
        await self._reach()
        return self._backplane.take(key)

    def health(self) -> BackplaneHealth:
        since = self._backplane.cut_since(self._node)
        silence = 0.0 if since is None else trio.current_time() - since
        return BackplaneHealth(silence > self._options.deaf_after, silence, "" if since is None else "cut off")

    def statistics(self) -> BackplaneStatistics:
        inbox = self._inbox
        return BackplaneStatistics(
            self._sent, inbox.received, inbox.interrupted, self._unreachable, inbox.overflowed, self._reconnects
        )

    # -- for the backplane

    def hear(self, arrival: Arrival) -> None:
        """Take what somebody has said, if it is for this member."""
        if arrival.reliable:
            self._catch_up(arrival.channel)
        elif arrival.channel in self._plain and arrival.origin != self._node and not self._is_cut:
            self._inbox.add(arrival)

    def come_back(self) -> None:
        """Go on after having been cut off."""
        self._reconnects += 1
        if self._plain:
            self._inbox.interrupt(None)
        for channel, position in self.followed.items():
            if position is None:
                self._inbox.interrupt(channel)
                self.followed[channel] = self._backplane.stream(channel).end
            self._catch_up(channel)

    def close(self) -> None:
        """Note that the block has ended."""
        self._closed = True
        self.followed.clear()
        self._inbox.close()
        self._backplane.forget_unheard()

    def _catch_up(self, channel: str) -> None:
        """Take all that a reliable channel has and this member has not had, while there is room for it."""
        position = self.followed.get(channel)
        if position is None or self._is_cut:
            return
        stream = self._backplane.stream(channel)
        if position < stream.start:
            self._inbox.interrupt(channel)
            position = stream.start
        while position < stream.end and self._inbox.has_room:
            if stream[position].origin != self._node:
                self._inbox.add(stream[position])
            position += 1
        self.followed[channel] = position

    @property
    def _is_cut(self) -> bool:
        return self._backplane.cut_since(self._node) is not None

    async def _reach(self) -> None:
        """Raise `Unreachable` while this member is cut off."""
        self._check()
        await trio.lowlevel.checkpoint()
        if self._is_cut:
            self._unreachable += 1
            raise Unreachable(f"{self._node} is cut off")

    def _check(self) -> None:
        if self._closed:
            raise Closed(GONE)
