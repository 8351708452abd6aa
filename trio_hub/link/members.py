"""Who is in a pool."""

from __future__ import annotations

from collections.abc import Hashable

import trio

from trio_hub.errors import Closed
from trio_hub.link.link import Link
from trio_hub.messages import CloseReason, LinkStatus

__all__ = ["Member"]


class Member:
    """Somebody in a pool: a `name`, `groups`, and the `link` there is at the moment, or None.

    `is_client` says that this side is the client: the pool has dialled, or was given a link that was. `dropped` counts
    messages that were not sent since too much waited already. `left` is None while it belongs to the pool, then the
    reason why it does not any more.
    """

    __slots__ = ("__weakref__", "_changed", "dropped", "groups", "is_client", "left", "link", "name", "way")

    def __init__(self, name: str, groups: frozenset[str], *, is_client: bool) -> None:
        self.name = name
        self.groups = groups
        self.is_client = is_client
        self.link: Link | None = None
        self.way: Hashable = None
        self.dropped = 0
        self.left: CloseReason | None = None
        self._changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<member {self.name!r} of a pool>"

    async def wait_linked(self) -> Link:
        """Wait until there is a link that runs, and return it. Raises `Closed` where there will not be one."""
        await trio.lowlevel.checkpoint()
        while self.left is None:
            if self.link is not None and self.link.status is not LinkStatus.CONNECTING:
                return self.link
            await self._changed.park()
        raise Closed(f"{self.name!r} has left the pool: {self.left}", self.left)

    async def wait_lost(self) -> None:
        """Wait until there is no link, for the moment or for good."""
        await trio.lowlevel.checkpoint()
        while self.link is not None:
            await self._changed.park()

    def take(self, link: Link | None) -> None:
        """Note the link there is; for the pool."""
        self.link = link
        if link is not None:
            self.way = link.framer.way
            link.writer.draw_from(_nothing)  # its door is open to whoever finds it idle
        self.stir()

    def stir(self) -> None:
        """Have those who wait for it look again; for the pool."""
        self._changed.unpark_all()

    def leave(self, why: CloseReason) -> None:
        """Note that it belongs to the pool no longer; for the pool."""
        self.left = self.left or why
        self.stir()


def _nothing(size: int) -> tuple[bytes, bool]:
    return b"", False
