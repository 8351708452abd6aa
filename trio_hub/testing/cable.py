"""A cable in memory between two streams, which behaves as TCP does: it holds a bounded number of bytes, and breaks.

Each direction is a `_Wire`, where everything is decided in plain calls: how much of a write it takes, and how much of
what it holds a read may have, or when. The ends only wait until their wires have changed. Time is trio's, so a slow
cable is as slow as the test's clock says.
"""

from __future__ import annotations

import enum
import math
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from trio_hub.errors import Misuse

__all__ = ["Cable", "CableEnd", "Direction"]

_CAPACITY: Final = 64 * 1024
_UNLIMITED: Final = sys.maxsize
_PACKET: Final = 0.1  # s: what a slow wire carries in this time comes at once, lest every byte wake its reader
_NANOSECOND: Final = 1e-9  # so near, a moment has come: sums of fractions are never exact


class Direction(enum.Flag):
    """Which way bytes go through a cable."""

    UP = enum.auto()
    """From the near end to the far one: what a client says to its server."""
    DOWN = enum.auto()
    """From the far end to the near one: what a server says to its client."""
    BOTH = UP | DOWN
    """Either way."""


class _Pace:
    """How much of what a wire holds has come through it, at `rate` bytes per second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._come = 0.0
        self._since = trio.current_time()

    def come(self, held: int) -> int:
        """Return how many of the `held` bytes have come by now."""
        now = trio.current_time()
        self._come = min(held, self._come + (now - self._since) * self._rate)
        self._since = now
        return int(self._come + self._rate * _NANOSECOND)

    def packet(self, held: int) -> int:
        """Return how many of the `held` bytes are worth waiting for."""
        return min(held, math.ceil(self._rate * _PACKET))

    def time_until(self, size: int) -> float:
        """Return the seconds until so many bytes have come."""
        return (size - self._come) / self._rate

    def take(self, size: int) -> None:
        """Note that so many of those that had come were read."""
        self._come -= size


class _Wire:
    """One direction of a cable. `snap` cuts both."""

    def __init__(self, capacity: int, snap: Callable[[], None]) -> None:
        self._capacity = capacity
        self._snap = snap
        self._bytes = bytearray()
        self._changed = trio.lowlevel.ParkingLot()
        self._pace: _Pace | None = None
        self._most = _UNLIMITED  # of one read
        self._left = _UNLIMITED  # carried yet; then it snaps
        self._stalled = False
        self._deaf = False  # nothing passes any more, not even the end
        self._broken = False
        self._ended = False  # the sender has said that nothing more will come
        self._unheard = False  # the receiver has closed its end

    # -- between the ends

    @property
    def room(self) -> int:
        """How many bytes it takes now."""
        return _UNLIMITED if self._is_void else self._capacity - len(self._bytes)

    @property
    def _is_void(self) -> bool:
        """Whether what is sent from now on vanishes, which its sender cannot know."""
        return self._deaf or not self._left

    def check(self) -> None:
        """Raise `trio.BrokenResourceError` where the sender knows that nothing can be sent any more."""
        if self._broken:
            raise trio.BrokenResourceError("the cable was cut")
        if self._unheard and not self._deaf:
            raise trio.BrokenResourceError("the other end is closed")

    def put(self, data: memoryview) -> int:
        """Take some of `data`; return how much, 0 when there is no room."""
        self.check()
        if self._is_void:
            return len(data)
        if self._pace is not None:
            self._pace.come(len(self._bytes))  # what is here already; the new bytes set out now
        taken = min(len(data), self.room, self._left)
        self._bytes += data[:taken]
        self._left -= taken
        self.stir()
        return len(data) if self._is_void else taken

    def take(self, most: int | None) -> bytes | float:
        """Return what has come, ``b""`` at the end; or for how many seconds it is no use to ask again."""
        if self._broken:
            raise trio.BrokenResourceError("the cable was cut")
        if self._stalled or self._deaf:
            return math.inf
        size = min(len(self._bytes), self._most, _UNLIMITED if most is None else most)
        if not size:
            return b"" if self._ended else math.inf
        if self._pace is not None:
            come, worthwhile = self._pace.come(len(self._bytes)), self._pace.packet(size)
            if come < worthwhile:
                return self._pace.time_until(worthwhile)
            size = min(size, come)
            self._pace.take(size)
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        if not (self._left or self._bytes):
            self._snap()
        self.stir()
        return data

    def end(self) -> None:
        """Note that nothing more will be sent."""
        self._ended = True
        self.stir()

    def close(self) -> None:
        """Note that nothing more will be read."""
        self._unheard = True
        self.stir()

    async def change(self, within: float = math.inf) -> None:
        """Wait until something is different, so many seconds at most."""
        with trio.move_on_after(within):
            await self._changed.park()

    def stir(self) -> None:
        """Have everybody who waits look again."""
        self._changed.unpark_all()

    # -- weather

    def cut(self) -> None:
        self._broken = True
        self.stir()

    def cut_after(self, size: int) -> None:
        self._left = size
        if not (self._left or self._bytes):
            self._snap()

    def abandon(self) -> None:
        self._deaf = True
        self.stir()

    def stall(self) -> None:
        self._stalled = True

    def slow(self, rate: float) -> None:
        self._pace = _Pace(rate)
        self.stir()

    def split(self, most: int) -> None:
        self._most = most

    def mend(self) -> None:
        self._stalled, self._pace, self._most = False, None, _UNLIMITED
        if self._left:  # otherwise something has vanished already
            self._left = _UNLIMITED
        self.stir()


class CableEnd(trio.abc.HalfCloseableStream):
    """One end of a `Cable`: a trio stream."""

    def __init__(self, outward: _Wire, inward: _Wire) -> None:
        self._outward = outward
        self._inward = inward
        self._closed = False
        self._said_all = False
        self._busy: set[str] = set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._alone("sending"):
            await trio.lowlevel.checkpoint()
            self._check_sending()
            rest = memoryview(data)
            while rest:
                taken = self._outward.put(rest)
                rest = rest[taken:]
                if not taken:
                    await self._outward.change()
                    self._check_sending()

    async def wait_send_all_might_not_block(self) -> None:
        with self._alone("sending"):
            await trio.lowlevel.checkpoint()
            self._check_sending()
            while not self._outward.room:
                await self._outward.change()
                self._check_sending()

    async def send_eof(self) -> None:
        with self._alone("sending"):
            await trio.lowlevel.checkpoint()
            self._check()
            self._said_all = True
            self._outward.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._alone("receiving"):
            await trio.lowlevel.checkpoint()
            self._check()
            while not isinstance(data := self._inward.take(max_bytes), bytes):
                await self._inward.change(data)
                self._check()
            return data

    @contextmanager
    def _alone(self, doing: str) -> Iterator[None]:
        if doing in self._busy:
            raise trio.BusyResourceError(f"another task is {doing}")
        self._busy.add(doing)
        try:
            yield
        finally:
            self._busy.remove(doing)

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")

    def _check_sending(self) -> None:
        self._check()
        if self._said_all:
            raise trio.ClosedResourceError("this end has said that nothing more will come")
        self._outward.check()

    def hang_up(self) -> None:
        """Close this end: the other one reads what is there, and then the end; what it says is heard by nobody."""
        self._closed = True
        self._outward.end()
        self._inward.close()

    async def aclose(self) -> None:
        self.hang_up()
        await trio.lowlevel.checkpoint()


class Cable:
    """Two streams, `near` and `far`, and the power to spoil what is between them.

    It holds at most `capacity` bytes in each direction; a sender waits for room, as over TCP. Where the roles matter,
    the client is at the near end. What is spoiled stays so until `mend`; what is cut or abandoned, for ever.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        _expect(capacity >= 1, f"a cable holds at least 1 byte, not {capacity}")
        self._up, self._down = (_Wire(capacity, self.cut) for _ in range(2))
        self.near = CableEnd(self._up, self._down)
        self.far = CableEnd(self._down, self._up)

    def cut(self) -> None:
        """Break it: both ends fail at once, as after a reset; what was under way is lost."""
        for wire in self._wires(Direction.BOTH):
            wire.cut()

    def cut_after(self, size: int, direction: Direction) -> None:
        """Break it when exactly `size` more bytes of what is written in this direction have been read.

        Whatever is written behind them vanishes; its sender learns of it by the break.
        """
        _expect(size >= 0, f"cut after 0 bytes or more, not {size}")
        for wire in self._wires(direction):
            wire.cut_after(size)

    def abandon(self, direction: Direction = Direction.BOTH) -> None:
        """Let everything vanish, without a sign: a half-open link. Both ends believe that it lives."""
        for wire in self._wires(direction):
            wire.abandon()

    def stall(self, direction: Direction = Direction.BOTH) -> None:
        """Let nothing through for now: what is sent waits in the cable, and then at the sender."""
        for wire in self._wires(direction):
            wire.stall()

    def slow(self, rate: float, direction: Direction = Direction.BOTH) -> None:
        """Carry `rate` bytes per second. What waits for that fills the cable, and then the sender waits."""
        _expect(0 < rate < math.inf, f"a slow cable carries more than 0 bytes per second, not {rate}")
        for wire in self._wires(direction):
            wire.slow(rate)

    def split(self, most: int, direction: Direction = Direction.BOTH) -> None:
        """Let every read return at most so many bytes, however many have come."""
        _expect(most >= 1, f"a read returns at least 1 byte, not {most}")
        for wire in self._wires(direction):
            wire.split(most)

    def mend(self) -> None:
        """Undo what can be undone: a stall, slowness, splitting, a cut that is still to come."""
        for wire in self._wires(Direction.BOTH):
            wire.mend()

    def _wires(self, direction: Direction) -> list[_Wire]:
        return [wire for way, wire in ((Direction.UP, self._up), (Direction.DOWN, self._down)) if way in direction]


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise Misuse(otherwise)
