"""A listener in memory, for servers that accept their streams themselves."""

from __future__ import annotations

import math

import trio

from trio_hub.errors import LinkLost
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.testing.cable import Cable, CableEnd

__all__ = ["CableListener"]


class CableListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener that hands out what `reach` or `dial` gave it.

    For `serve_links`, `Server.serve`, `trio.serve_listeners` and whatever else takes trio's listeners. A client's way
    to it, with weather, is ``Weather(listener.reach)``.
    """

    def __init__(self) -> None:
        self._knock, self._door = trio.open_memory_channel[trio.abc.Stream](math.inf)

    def reach(self, stream: trio.abc.Stream) -> None:
        """Have this stream accepted. Raises `LinkLost` when the listener is closed, as nobody is there then."""
        try:
            self._knock.send_nowait(stream)
        except trio.BrokenResourceError:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "nobody listens")) from None

    def dial(self) -> CableEnd:
        """Lay a cable to the server, and return its near end. Raises as `reach` does."""
        cable = Cable()
        self.reach(cable.far)
        return cable.near

    async def accept(self) -> trio.abc.Stream:
        return await self._door.receive()

    async def aclose(self) -> None:
        self._door.close()
        await trio.lowlevel.checkpoint()
