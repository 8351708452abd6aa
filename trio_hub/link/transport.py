"""Two ways to move bytes: straight through a socket's file descriptor, or through any trio stream.

The first can write without waiting, which is what makes a broadcast cheap: no task is woken, and one system call
carries everything. The second (TLS, memory, platforms whose sockets are no files) always needs the writer task.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from trio_hub.errors import LinkLost
from trio_hub.messages import CloseCode, CloseReason

__all__ = ["Transport", "lost", "transport_for"]

_CHUNK = 16 * 1024  # of a stream write, so that its progress can be watched; TLS makes records of this size


class Transport(Protocol):
    """What a link needs of the world below it. Every failure is `LinkLost`."""

    async def read(self, most: int) -> bytes:
        """Return what has come, at least one byte; ``b""`` at the end, or when interrupted. A cancel loses nothing."""
        ...

    def interrupt(self) -> None:
        """Have a read that waits return at once. A plain call, and cheaper than a cancel scope around every read."""
        ...

    @property
    def write_now(self) -> Callable[[bytes], int]:
        """Writes what is taken without waiting, and returns how much that was.

        Raises `BlockingIOError` where nothing is, and any other `OSError` where nothing ever will be.
        """
        ...

    async def write(self, data: memoryview) -> int:
        """Write some of `data`; return how much, at least one byte."""
        ...

    @property
    def torn(self) -> bool:
        """Whether a cancelled write left the stream in the middle of something."""
        ...

    async def end_writing(self) -> None:
        """Tell the peer that nothing more will come, where the stream can say so; reading goes on."""
        ...

    async def aclose(self) -> None:
        """Close at once."""
        ...


def transport_for(stream: trio.abc.Stream) -> Transport:
    """Return the quickest transport that this stream allows."""
    if isinstance(stream, trio.SocketStream) and sys.platform != "win32":
        return _SocketTransport(stream)
    return _StreamTransport(stream)


def _refuse(data: bytes) -> int:
    raise OSError(errno.EBADF, "the stream is closed")


def lost(error: BaseException) -> LinkLost:
    """Return what a failure of the stream means."""
    cause = error.__cause__ or error
    return LinkLost(CloseReason(CloseCode.ABNORMAL, str(cause) or type(cause).__name__))


async def _end_writing(stream: trio.abc.HalfCloseableStream) -> None:
    try:
        await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise lost(error) from error


class _SocketTransport:
    torn = False  # a write is a system call, which happens or does not

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._fd = stream.socket.fileno()
        # No function of ours: it is called for each delivery.
        self.write_now: Callable[[bytes], int] = partial(os.write, self._fd)

    async def read(self, most: int) -> bytes:
        self._check()
        while True:
            try:
                await trio.lowlevel.wait_readable(self._fd)
                return os.read(self._fd, most)
            except BlockingIOError:
                continue
            except trio.ClosedResourceError:
                self._check()
                return b""  # interrupted
            except OSError as error:
                raise lost(error) from error

    def interrupt(self) -> None:
        # To wake whoever waits is what this is for; that a close follows, which its name speaks of, does not matter.
        if self._fd >= 0:
            trio.lowlevel.notify_closing(self._fd)

    async def write(self, data: memoryview) -> int:
        self._check()
        while True:
            try:
                await trio.lowlevel.wait_writable(self._fd)
                return os.write(self._fd, data)
            except BlockingIOError:
                continue
            except trio.ClosedResourceError:
                self._check()  # or a read was interrupted
            except OSError as error:
                raise lost(error) from error

    def _check(self) -> None:
        if self._fd < 0:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "the stream is closed"))

    async def end_writing(self) -> None:
        await _end_writing(self._stream)

    async def aclose(self) -> None:
        self._fd = -1  # the number may soon be somebody else's
        self.write_now = _refuse
        self._stream.socket.close()  # `aclose_forcefully` without a cancelled scope, a fifth of its cost
        await trio.lowlevel.cancel_shielded_checkpoint()


class _StreamTransport:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._reading = trio.CancelScope()
        self.torn = False

    async def read(self, most: int) -> bytes:
        with trio.CancelScope() as self._reading:
            try:
                return bytes(await self._stream.receive_some(most))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise lost(error) from error
        return b""

    def interrupt(self) -> None:
        self._reading.cancel()

    def write_now(self, data: bytes) -> int:
        raise BlockingIOError  # nobody knows without waiting

    async def write(self, data: memoryview) -> int:
        chunk = data[:_CHUNK]
        sent = False
        try:
            await self._stream.send_all(chunk)
            sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise lost(error) from error
        finally:
            self.torn = not sent  # when cancelled, any part of it may have been sent (send_all's documentation)
        return len(chunk)

    async def end_writing(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await _end_writing(self._stream)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)
