"""What every store of tickets must do."""

from __future__ import annotations

from typing import ClassVar

import pytest
import trio

from trio_hub.app.tickets import TicketStore

__all__ = ["TicketStoreContract"]


@pytest.mark.trio
class TicketStoreContract:
    """Subclass it, and override `open_store`::

        class TestMine(TicketStoreContract):
            async def open_store(self):
                return MemoryTickets()

    With virtual time (`autojump_clock`) where the store goes by trio's clock.
    """

    short: ClassVar[float] = 1.0
    """Seconds that a ticket lasts which is to run out: the least that the store can tell."""

    async def open_store(self) -> TicketStore:
        """Return an empty store."""
        raise NotImplementedError  # pragma: no cover

    async def test_what_is_kept_is_taken_once(self) -> None:
        store = await self.open_store()
        await store.put("one", b"1", 60)
        await store.put("two", b"\x002", 60)
        assert await store.take("two") == b"\x002"
        assert await store.take("two") is None
        assert await store.take("one") == b"1"

    async def test_what_was_never_kept_is_not_there(self) -> None:
        store = await self.open_store()
        assert await store.take("nothing") is None

    async def test_of_many_who_ask_at_once_one_gets_it(self) -> None:
        store = await self.open_store()
        await store.put("one", b"1", 60)
        got: list[bytes | None] = []

        async def take() -> None:
            got.append(await store.take("one"))

        async with trio.open_nursery() as tasks:
            for _ in range(20):
                tasks.start_soon(take)
        assert [each for each in got if each is not None] == [b"1"]

    async def test_what_was_kept_for_too_long_is_gone(self) -> None:
        store = await self.open_store()
        await store.put("short", b"1", self.short)
        await store.put("long", b"2", 60)
        await trio.sleep(1.2 * self.short)
        assert await store.take("short") is None
        assert await store.take("long") == b"2"
