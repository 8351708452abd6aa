"""What every transport must do, and so every stream under a link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub.errors import LinkLost
from trio_hub.link.transport import Transport, transport_for

__all__ = ["TransportContract"]

_MUCH: Final = b"".join(b"%07d " % number for number in range(20_000))  # every piece of it tells where it belongs
_DEADLINE: Final = 30.0  # s: nothing here waits for time, so this ends only tests that hang


@pytest.mark.trio
class TransportContract:
    """Subclass it, and override `open_streams` and `cut`; for a transport of your own, `transport` too::

        class TestMine(TransportContract):
            async def open_streams(self):
                self.cable = Cable()
                return self.cable.near, self.cable.far

            def cut(self):
                self.cable.cut()

    Every test has an instance of its own.
    """

    half_closes: ClassVar[bool] = True
    """Whether the stream can say that nothing more will come and still be read."""

    async def open_streams(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        """Return both ends of a new connection, ready to carry bytes. The first is to be under the transport."""
        raise NotImplementedError  # pragma: no cover

    def cut(self) -> None:
        """Break that connection, as a reset does."""
        raise NotImplementedError  # pragma: no cover

    def transport(self, stream: trio.abc.Stream) -> Transport:
        """Return the transport over the first of the streams."""
        return transport_for(stream)

    # -- reading

    async def test_a_read_returns_what_has_come_and_no_more_than_asked(self) -> None:
        async with self._opened() as (transport, far), trio.open_nursery() as tasks:
            tasks.start_soon(far.send_all, _MUCH[:1000])
            heard = b""
            while len(heard) < 1000:
                data = await transport.read(7)
                assert 1 <= len(data) <= 7
                heard += data
            assert heard == _MUCH[:1000]

    async def test_a_read_waits_for_something_to_come(self) -> None:
        async with self._opened() as (transport, far), trio.open_nursery() as tasks:
            tasks.start_soon(self._expect_to_read, transport, b"hello")
            await wait_all_tasks_blocked()
            await far.send_all(b"hello")

    @pytest.mark.parametrize("something_comes", [True, False])
    async def test_a_cancelled_read_loses_nothing(self, something_comes: bool) -> None:
        async with self._opened() as (transport, far):
            heard = b""

            async def interrupt(data: bytes, scope: trio.CancelScope) -> None:
                await wait_all_tasks_blocked()
                if something_comes:  # at the very moment
                    await far.send_all(data)
                scope.cancel()

            for at in range(0, 400, 8):
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(interrupt, _MUCH[at : at + 8], tasks.cancel_scope)
                    heard += await transport.read(100)
                if not something_comes:
                    await far.send_all(_MUCH[at : at + 8])
            await far.send_all(b"the end")
            while len(heard) < 407:
                heard += await transport.read(100)
            assert heard == _MUCH[:400] + b"the end"

    async def test_the_end_comes_after_everything_and_is_no_bytes(self) -> None:
        async with self._opened() as (transport, far), trio.open_nursery() as tasks:
            await far.send_all(b"goodbye")
            tasks.start_soon(far.aclose)  # which may wait for our end, as TLS does
            await self._expect_to_read(transport, b"goodbye")
            assert await transport.read(100) == b""
            await transport.aclose()

    async def test_an_interrupted_read_returns_nothing_and_the_next_one_goes_on(self) -> None:
        async with self._opened() as (transport, far):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._interrupt_when_blocked, transport)
                assert await transport.read(100) == b""
            transport.interrupt()  # nobody reads: nobody minds
            await far.send_all(b"hello")
            await self._expect_to_read(transport, b"hello")

    async def test_an_interrupted_read_lets_a_write_go_on(self) -> None:
        async with self._opened() as (transport, far), trio.open_nursery() as tasks:
            tasks.start_soon(self._write_all, transport, _MUCH * 100)
            tasks.start_soon(self._interrupt_when_blocked, transport)
            assert await transport.read(100) == b""
            arrived = 0
            while arrived < len(_MUCH * 100):
                arrived += len(await far.receive_some())

    # -- writing

    async def test_write_now_does_not_wait_and_what_it_took_arrives(self) -> None:
        async with self._opened() as (transport, far):
            taken = []
            with suppress(BlockingIOError):  # when a peer that reads nothing has taken all it can
                while True:
                    taken.append(transport.write_now(_MUCH))
            assert all(0 < size <= len(_MUCH) for size in taken)
            assert not transport.torn
            arrived = b""
            while len(arrived) < sum(taken):
                arrived += await far.receive_some()
            assert arrived == b"".join(_MUCH[:size] for size in taken)

    async def test_a_write_takes_at_least_a_byte_and_says_how_much(self) -> None:
        async with self._opened() as (transport, far), trio.open_nursery() as tasks:
            tasks.start_soon(self._write_all, transport, _MUCH)
            arrived = b""
            while len(arrived) < len(_MUCH):
                arrived += await far.receive_some(997)
            assert arrived == _MUCH
            assert not transport.torn

    async def test_a_cancelled_write_took_nothing_or_tells_that_it_tore(self) -> None:
        async with self._opened() as (transport, far):
            data, written, taken = _MUCH * 100, 0, -1
            while taken:
                taken = 0
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(self._cancel_when_blocked, tasks.cancel_scope)
                    taken = await transport.write(memoryview(data)[written:])
                written += taken
            torn = transport.torn
            async with trio.open_nursery() as tasks:
                tasks.start_soon(transport.aclose)
                arrived = await self._all_of(far)
            assert arrived == data[: len(arrived)]
            assert len(arrived) >= written if torn else len(arrived) == written

    async def test_after_the_last_write_the_peer_hears_the_end_and_can_still_be_read(self) -> None:
        async with self._opened() as (transport, far):
            await self._write_all(transport, b"that was all")
            await transport.end_writing()
            if self.half_closes:
                assert await self._all_of(far) == b"that was all"
            await far.send_all(b"good")
            await self._expect_to_read(transport, b"good")

    # -- the end

    async def test_a_break_is_a_lost_link_for_whoever_reads(self) -> None:
        async with self._opened() as (transport, _), trio.open_nursery() as tasks:
            tasks.start_soon(self._expect_no_more, transport)
            await wait_all_tasks_blocked()
            self.cut()

    async def test_a_break_is_a_lost_link_for_whoever_writes(self) -> None:
        async with self._opened() as (transport, _), trio.open_nursery() as tasks:
            tasks.start_soon(self._cut_when_blocked)
            with pytest.raises(LinkLost):
                await self._write_all(transport, _MUCH * 100)

    async def test_closing_wakes_whoever_reads(self) -> None:
        async with self._opened() as (transport, _), trio.open_nursery() as tasks:
            tasks.start_soon(self._expect_no_more, transport)
            await wait_all_tasks_blocked()
            await transport.aclose()

    async def test_closing_wakes_whoever_writes(self) -> None:
        async with self._opened() as (transport, _), trio.open_nursery() as tasks:
            tasks.start_soon(self._close_when_blocked, transport)
            with pytest.raises(LinkLost):
                await self._write_all(transport, _MUCH * 100)

    async def test_what_is_closed_is_lost_and_may_be_closed_again(self) -> None:
        async with self._opened() as (transport, far):
            await transport.aclose()
            await transport.aclose()
            await self._expect_no_more(transport)
            with pytest.raises(LinkLost):
                await transport.write(memoryview(b"anybody?"))
            assert await self._all_of(far) == b""

    async def test_closing_does_not_wait_though_the_peer_reads_nothing(self) -> None:
        async with self._opened() as (transport, _):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._cancel_when_blocked, tasks.cancel_scope)
                await self._write_all(transport, _MUCH * 100)
            with trio.CancelScope(deadline=-1):
                await transport.aclose()
            await self._expect_no_more(transport)

    # -- what the tests above do

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Transport, trio.abc.Stream]]:
        near, far = await self.open_streams()
        transport = self.transport(near)
        with trio.fail_after(_DEADLINE):  # noqa: ASYNC100 - the test is in it
            yield transport, far
        await transport.aclose()
        await trio.aclose_forcefully(far)

    async def _expect_to_read(self, transport: Transport, expected: bytes) -> None:
        heard = b""
        while len(heard) < len(expected):
            heard += await transport.read(100)
        assert heard == expected

    async def _expect_no_more(self, transport: Transport) -> None:
        with pytest.raises(LinkLost):
            await transport.read(100)

    async def _write_all(self, transport: Transport, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            taken = await transport.write(rest)
            assert 1 <= taken <= len(rest)
            rest = rest[taken:]

    async def _all_of(self, stream: trio.abc.Stream) -> bytes:
        """Return everything until the end, or the break."""
        parts = []
        try:
            while data := await stream.receive_some():
                parts.append(data)
        except trio.BrokenResourceError:  # what was torn has no proper end
            pass
        return b"".join(parts)

    async def _cut_when_blocked(self) -> None:
        await wait_all_tasks_blocked()
        self.cut()

    async def _close_when_blocked(self, transport: Transport) -> None:
        await wait_all_tasks_blocked()
        await transport.aclose()

    async def _interrupt_when_blocked(self, transport: Transport) -> None:
        await wait_all_tasks_blocked()
        transport.interrupt()

    async def _cancel_when_blocked(self, scope: trio.CancelScope) -> None:
        await wait_all_tasks_blocked()
        scope.cancel()
