"""A stretch of bad road: a TCP proxy whose links can be lost in all the ways in which the world loses them."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import attrs
import trio

__all__ = ["Proxy"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for 0 seconds: closing sends RST and forgets what was unsent


@attrs.define(eq=False)
class _Line:
    """One link through the proxy. What `up` or `down` does not let pass is lost, as if it had been delivered."""

    client: trio.SocketStream
    server: trio.SocketStream
    up: bool = True
    down: bool = True

    async def hang_up(self) -> None:
        await trio.aclose_forcefully(self.client)
        await trio.aclose_forcefully(self.server)


class Proxy:
    """Carries bytes between whoever dials `port` and the server at `target`. Run `run` in a nursery.

    The methods act on the newest link. None of them waits, except `torn`.
    """

    port: int

    def __init__(self, target: int) -> None:
        self._target = target
        self._line: _Line | None = None
        self._tearing = False
        self._torn = trio.Event()
        self._refusing = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry links until cancelled; once started, `port` is known."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._carry, listeners)

    async def _carry(self, client: trio.SocketStream) -> None:
        if self._refusing:
            await trio.aclose_forcefully(client)
            return
        async with client, await trio.open_tcp_stream("127.0.0.1", self._target) as server:
            self._line = line = _Line(client, server)
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._carry_up, line)
                tasks.start_soon(self._carry_down, line)

    async def _carry_up(self, line: _Line) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in line.client:
                if line.up:
                    await line.server.send_all(data)
        if line.up:
            await line.hang_up()

    async def _carry_down(self, line: _Line) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in line.server:
                if not line.down:
                    continue
                if self._tearing:
                    self._tearing = line.down = False
                    await line.client.send_all(data[: len(data) // 2])
                    self._torn.set()
                else:
                    await line.client.send_all(data)
        await line.hang_up()

    @property
    def _newest(self) -> _Line:
        assert self._line is not None
        return self._line

    @property
    def is_carrying(self) -> bool:
        """Whether the newest link was not lost yet."""
        return self._line is not None and self._line.client.socket.fileno() >= 0 and self._line.down

    # -- the ways in which a link is lost

    def reset(self) -> None:
        """Cut it off: each end hears a TCP reset, and what it had not read yet is gone."""
        line = self._newest
        for stream in (line.client, line.server):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            stream.socket.close()

    def close_cleanly(self) -> None:
        """End it in good order on the TCP level, and without a word on that of the WebSocket."""
        line = self._newest
        line.up = line.down = False
        for stream in (line.client, line.server):
            stream.socket.shutdown(socket.SHUT_WR)

    def abandon(self) -> None:
        """Hang up on the client only: to the server the link looks alive, and says nothing any more."""
        line = self._newest
        line.up = line.down = False
        line.client.socket.close()

    def freeze(self) -> None:
        """Let nothing pass any more, either way, and hang up on nobody: each end must find out for itself."""
        line = self._newest
        line.up = line.down = False

    def mute(self) -> None:
        """Let nothing pass from the client to the server any more, so that the server takes it for dead."""
        self._newest.up = False

    # -- what goes with it

    def tear(self) -> None:
        """Let half of what the server writes next arrive, and nothing after it."""
        self._tearing, self._torn = True, trio.Event()

    async def torn(self) -> None:
        """Wait until that half is on its way."""
        await self._torn.wait()

    def refuse(self) -> None:
        """Hang up at once on everybody who dials, until told to `accept` again."""
        self._refusing = True

    def accept(self) -> None:
        """Carry links again."""
        self._refusing = False
