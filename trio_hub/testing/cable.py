"""A cable in memory between two streams, which behaves as TCP does: it holds a bounded number of bytes, and breaks."""

from __future__ import annotations

import trio

__all__ = ["Cable", "CableEnd"]

_CAPACITY = 64 * 1024


class _Wire:
    """One direction of a cable."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._bytes = bytearray()
        self._change = trio.lowlevel.ParkingLot()
        self.ended = False  # the sender has said that nothing more will come
        self.broken = False
        self.deaf = False  # what is sent vanishes
        self.stalled = False  # nothing passes, for now

    def put(self, data: memoryview) -> int:
        """Take some of `data`; return how much, 0 when there is no room."""
        if self.broken:
            raise trio.BrokenResourceError("the cable was cut")
        if self.deaf:
            return len(data)
        taken = min(len(data), self._capacity - len(self._bytes))
        self._bytes += data[:taken]
        self.stir()
        return taken

    def take(self, most: int | None) -> bytes | None:
        """Return what has come, ``b""`` at the end, None when there is nothing yet."""
        if self.broken:
            raise trio.BrokenResourceError("the cable was cut")
        if self.stalled or self.deaf or not (self._bytes or self.ended):
            return None
        data = bytes(self._bytes[:most])
        del self._bytes[: len(data)]
        self.stir()
        return data

    async def change(self) -> None:
        """Wait until something is different."""
        await self._change.park()

    def stir(self) -> None:
        """Have everybody who waits look again."""
        self._change.unpark_all()


class CableEnd(trio.abc.HalfCloseableStream):
    """One end of a `Cable`: a trio stream."""

    def __init__(self, outward: _Wire, inward: _Wire) -> None:
        self._outward = outward
        self._inward = inward
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        rest = memoryview(data)
        while rest:
            taken = self._outward.put(rest)
            rest = rest[taken:]
            if not taken:
                await self._outward.change()
                self._check()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        self._outward.ended = True
        self._outward.stir()
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self._check()
        while (data := self._inward.take(max_bytes)) is None:
            await self._inward.change()
            self._check()
        return data

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")

    def hang_up(self) -> None:
        """Close this end: the other one reads what is there, and then the end."""
        self._closed = True
        self._outward.ended = True
        self._outward.stir()
        self._inward.stir()

    async def aclose(self) -> None:
        self.hang_up()
        await trio.lowlevel.checkpoint()


class Cable:
    """Two streams, `near` and `far`, and the power to spoil what is between them.

    It holds at most `capacity` bytes in each direction; a sender waits for room, as over TCP.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._wires = (_Wire(capacity), _Wire(capacity))
        self.near = CableEnd(self._wires[0], self._wires[1])
        self.far = CableEnd(self._wires[1], self._wires[0])

    def cut(self) -> None:
        """Break it: both ends fail at once, as after a reset."""
        for wire in self._wires:
            wire.broken = True
            wire.stir()

    def abandon(self) -> None:
        """Let everything vanish, without a sign: a half-open link. Both ends believe that it lives."""
        for wire in self._wires:
            wire.deaf = True
            wire.stir()

    def stall(self) -> None:
        """Let nothing through for now: what is sent waits in the cable, and then at the sender."""
        for wire in self._wires:
            wire.stalled = True

    def flow(self) -> None:
        """End a stall."""
        for wire in self._wires:
            wire.stalled = False
            wire.stir()
