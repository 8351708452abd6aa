"""What happens to one client's links."""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_hub.errors import LinkLost
from trio_hub.link.opening import Address
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.testing.cable import Cable

__all__ = ["Weather"]


class Weather:
    """The weather between one client and a server: good until somebody spoils it.

    `reach` is given the server's end of every cable that is laid. `dials` counts the client's attempts.
    """

    def __init__(self, reach: Callable[[trio.abc.Stream], None]) -> None:
        self._reach = reach
        self._bad = False
        self.cable: Cable | None = None
        self.dials = 0

    async def open_stream(self, address: Address) -> trio.abc.Stream:
        """Lay a cable to the server; the client's `open_stream`. Raises `LinkLost` in bad weather."""
        await trio.lowlevel.checkpoint()
        self.dials += 1
        if self._bad:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "the weather is bad"))
        self.cable = Cable()
        self._reach(self.cable.far)
        return self.cable.near

    def cut(self) -> None:
        """Cut the cable, and let no new one be laid until `mend`."""
        self._bad = True
        self.cut_once()

    def mend(self) -> None:
        """Let cables be laid again, and let what was stalled flow."""
        self._bad = False
        if self.cable is not None:
            self.cable.flow()

    def cut_once(self) -> None:
        """Cut the cable; the next one may be laid at once."""
        if self.cable is not None:
            self.cable.cut()

    def abandon(self) -> None:
        """Leave the cable half-open: nothing passes, nobody is told. The client's end is closed, so it dials anew."""
        if self.cable is not None:
            self.cable.abandon()
            self.cable.near.hang_up()

    def stall(self) -> None:
        """Let nothing pass until `mend`."""
        if self.cable is not None:
            self.cable.stall()
