"""A TCP proxy that stands before some other program, such as a Redis, and can be made to fail."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_hub.link.tasks import open_tasks

__all__ = ["Proxy", "open_proxy"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset


class Proxy:
    """What passes between whoever dials `port` at 127.0.0.1 and the program behind. `dials` counts them."""

    def __init__(self, port: int, host: str, behind: int) -> None:
        self.port = port
        self.dials = 0
        self._behind = host, behind
        self._bad = False
        self._flowing = trio.Event()
        self._flowing.set()
        self._scopes: set[trio.CancelScope] = set()
        self._abandoned: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Reset all connections, and every new one, until `mend`."""
        self._bad = True
        self.cut_once()

    def cut_once(self) -> None:
        """Reset all connections that there are."""
        for scope in self._scopes:
            scope.cancel()

    def abandon(self) -> None:
        """Leave all connections that there are half-open: nothing passes them any more, and neither end is told."""
        self._abandoned |= self._scopes

    def stall(self) -> None:
        """Let nothing pass until `mend`; connections stay, and new ones are taken."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def mend(self) -> None:
        """Let everything pass again."""
        self._bad = False
        self._flowing.set()

    async def serve(self, near: trio.SocketStream) -> None:
        """Carry what passes through one connection, until either side ends it or it is cut."""
        self.dials += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if not self._bad:
                    async with await trio.open_tcp_stream(*self._behind) as far, trio.open_nursery() as tasks:
                        tasks.start_soon(self._carry, near, far, scope)
                        tasks.start_soon(self._carry, far, near, scope)
            except OSError:  # nobody is behind
                pass
            finally:
                self._scopes.remove(scope)
                self._abandoned.discard(scope)
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _carry(self, source: trio.abc.Stream, sink: trio.abc.Stream, scope: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some():
                await self._flowing.wait()
                if scope not in self._abandoned:
                    await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        scope.cancel()


@asynccontextmanager
async def open_proxy(port: int, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """Stand before whatever listens at `port` of `host`, or will, within the block."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = Proxy(listener.socket.getsockname()[1], host, port)
    async with open_tasks() as tasks:
        tasks.start_soon(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        tasks.cancel_scope.cancel()
