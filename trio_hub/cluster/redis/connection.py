"""One connection with a Redis: coredis' RESP over a stream of ours.

Only this much of coredis is used. Its pools and retries decide by themselves what is repeated and how long somebody
waits, and its pub/sub does not tell when it was cut off. And a connection of its own reads on, whether or not anybody
takes what came; this one reads on when all of that was taken, so who is slow is slow towards Redis, which cuts off
those who are too slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import trio
from anyio.abc import ByteStream
from coredis import exceptions
from coredis.connection import BaseConnection, Location, TCPLocation, UnixDomainSocketLocation

from trio_hub.cluster.redis.address import RedisAddress
from trio_hub.errors import Unreachable

__all__ = ["RedisConnection", "dial", "is_loss", "reason_of"]


class RedisConnection(BaseConnection):
    """A connection over a stream that is there already."""

    def __init__(self, location: Location, address: RedisAddress, stream: trio.abc.Stream) -> None:
        super().__init__(location, db=address.database, username=address.username, password=address.password)
        self._opened = _Stream(stream, self)

    async def _connect(self) -> ByteStream:
        return self._opened

    def describe(self) -> str:
        """Return what stands in coredis' messages."""
        return str(self.location)

    @property
    def has_more(self) -> bool:
        """Whether there are pushes that came and were not taken."""
        return self.usable and not self.reusable

    async def receive_pushes(self) -> list[Any]:
        """Wait for a push, and return all that have come; then read on. Raises coredis' `ConnectionError`.

        coredis' own way to them gives everybody else a turn before each.
        """
        waiting = self._push_message_buffer_out
        try:
            pushes: list[Any] = [await waiting.receive()]
            pushes += [waiting.receive_nowait() for _ in range(waiting.statistics().current_buffer_used)]
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise exceptions.ConnectionError("lost while waiting for pushes") from error
        if self._opened.waits:
            self._opened.read_on()
        return pushes


class _Stream(ByteStream):
    """A stream of trio's as anyio wants it, which reads when its connection has no more."""

    def __init__(self, stream: trio.abc.Stream, connection: RedisConnection) -> None:
        self._stream = stream
        self._connection = connection
        self._taken = trio.Event()
        self.waits = False

    def read_on(self) -> None:
        self._taken.set()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._connection.has_more:
            self._taken, self.waits = trio.Event(), True
            await self._taken.wait()
            self.waits = False
        with _as_anyio():
            data = await self._stream.receive_some(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    async def send(self, item: bytes) -> None:
        with _as_anyio():
            await self._stream.send_all(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


@contextmanager
def _as_anyio() -> Iterator[None]:
    try:
        yield
    except trio.ClosedResourceError:
        raise anyio.ClosedResourceError from None
    except trio.BrokenResourceError as error:
        raise anyio.BrokenResourceError from error.__cause__


async def dial(address: RedisAddress, tasks: trio.Nursery, within: float) -> RedisConnection:
    """Return a new connection that is ready, and is run by `tasks` until it is lost or invalidated.

    Raises `Unreachable`.
    """
    try:
        with trio.fail_after(within):
            location, stream = await _open(address)
            connection = RedisConnection(location, address, stream)
            await tasks.start(connection.run)
    except (OSError, trio.BrokenResourceError, exceptions.RedisError) as error:
        raise Unreachable(reason_of(error)) from error
    except trio.TooSlowError as error:
        raise Unreachable(f"{address} does not answer") from error
    return connection


async def _open(address: RedisAddress) -> tuple[Location, trio.abc.Stream]:
    if address.path is not None:
        return UnixDomainSocketLocation(address.path), await trio.open_unix_socket(address.path)
    location = TCPLocation(address.host, address.port)
    stream = await trio.open_tcp_stream(address.host, address.port)
    if address.tls is None:
        return location, stream
    encrypted = trio.SSLStream(stream, address.tls, server_hostname=address.host, https_compatible=True)
    try:
        await encrypted.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return location, encrypted


def reason_of(error: BaseException) -> str:
    """Say what was wrong, for people."""
    words = str(error) or type(error).__name__
    cause = str(error.__cause__ or "")
    return f"{words} ({cause})" if cause else words


def is_loss(error: BaseException) -> bool:
    """Whether another connection may be better: this one is broken, or ends at a Redis that is not ready for us."""
    return isinstance(
        error, (exceptions.ConnectionError, exceptions.NoScriptError, exceptions.ReadOnlyError, TimeoutError)
    )
