"""The road of one client: TCP, and the ways in which the world loses a link, beneath the client that uses it."""

from __future__ import annotations

import enum
import socket
import struct
from collections import Counter, deque
from contextlib import suppress

import trio

from trio_hub.link.dialing import Address, connect

__all__ = ["Road", "Spoil"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for 0 seconds: closing sends RST and forgets what was unsent
_STALL = 1.0  # s
_ABANDONED = 3  # links that stay open, unread, behind the client's back: for longer than the server waits for them


class Spoil(enum.Enum):
    """What befalls a link."""

    RESET = "reset"
    """Each end loses what it had not read yet, and hears of it."""
    CLOSE = "closed"
    """It ends in good order on the TCP level, without a word on that of the WebSocket."""
    ABANDON = "abandoned"
    """The client hangs up, and nobody tells the server: it is never read again, and stays open."""
    STALL = "stalled"
    """Nothing is read or written for a second, and nothing is lost."""


class Line(trio.abc.HalfCloseableStream):
    """One link as its client has it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._stalled: trio.Event | None = None
        self._reading = trio.CancelScope()
        self._writing = trio.CancelScope()
        self._abandoned = False

    @property
    def is_open(self) -> bool:
        """Whether it was neither lost nor closed yet."""
        return self._stream.socket.fileno() >= 0 and not self._abandoned

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        while True:
            await self._passable()
            with trio.CancelScope() as self._reading:
                return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._passable()
        with trio.CancelScope() as self._writing:
            await self._stream.send_all(data)
            return
        raise trio.BrokenResourceError("the link was lost")

    async def wait_send_all_might_not_block(self) -> None:
        await self._passable()
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._passable()
        await self._stream.send_eof()

    async def aclose(self) -> None:
        if self._abandoned:
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.aclose()

    async def _passable(self) -> None:
        while self._stalled is not None:
            await self._stalled.wait()
        if self._abandoned:
            raise trio.BrokenResourceError("the link was lost")

    def reset(self) -> None:
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._stream.socket.close()

    def close(self) -> None:
        with suppress(OSError):  # the server may have hung up just now
            self._stream.socket.shutdown(socket.SHUT_WR)  # closing with something unread would be a reset
        self._stream.socket.close()

    def abandon(self) -> trio.SocketStream:
        """Have the client lose it; return the stream, which is as open as ever to the server."""
        self._abandoned = True
        self._reading.cancel()
        self._writing.cancel()
        return self._stream

    def stall(self) -> None:
        self._stalled = trio.Event()
        self._reading.cancel()  # what is being written may go on its way

    def go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.set()
        self._stalled = None


class Road:
    """Where one client's links come from: `open` is an `open_stream`. `spoilt` counts what befell them."""

    def __init__(self) -> None:
        self.spoilt: Counter[Spoil] = Counter()
        self._line: Line | None = None
        self._abandoned: deque[trio.SocketStream] = deque()

    async def open(self, address: Address) -> trio.abc.Stream:
        """Open a link over TCP. Raises as `connect` does."""
        self._line = Line(await connect(address))
        return self._line

    async def spoil(self, how: Spoil) -> None:
        """Let this befall the newest link, unless it has ended already. Waits while it is stalled."""
        line = self._line
        if line is None or not line.is_open:
            return
        self.spoilt[how] += 1
        match how:
            case Spoil.RESET:
                line.reset()
            case Spoil.CLOSE:
                line.close()
            case Spoil.ABANDON:
                self._keep_open(line.abandon())
            case Spoil.STALL:
                line.stall()
                try:
                    await trio.sleep(_STALL)
                finally:
                    line.go_on()

    def _keep_open(self, stream: trio.SocketStream) -> None:
        self._abandoned.append(stream)
        if len(self._abandoned) > _ABANDONED:
            self._abandoned.popleft().socket.close()

    def tidy_up(self) -> None:
        """Close what was abandoned."""
        while self._abandoned:
            self._abandoned.popleft().socket.close()
