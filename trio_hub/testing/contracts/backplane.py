"""What every backplane must do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar, Final

import pytest
import trio

from trio_hub.cluster.backplane import Arrival, Interrupted, Membership, Outbound
from trio_hub.errors import Closed, Misuse, Unreachable

__all__ = ["BackplaneContract"]

_DEADLINE: Final = 20.0  # s: nothing here takes long, so this ends only tests that hang
_BOTH: Final = pytest.mark.parametrize("reliable", [False, True], ids=["plain", "reliable"])


@pytest.mark.trio
class BackplaneContract:
    """Subclass it, and override `join`, `cut` and `mend`::

        class TestMine(BackplaneContract):
            @pytest.fixture(autouse=True)
            def _backplane(self):
                self.backplane = MemoryBackplane(BackplaneOptions(waiting=self.waiting, kept=self.kept))

            def join(self, node):
                return self.backplane.join(node)

            def cut(self, node):
                self.backplane.cut(node)

            def mend(self, node):
                self.backplane.mend(node)

    Nodes that are joined within one test share a backplane; that of another test knows nothing of it.
    """

    waiting: ClassVar[int] = 50
    """`BackplaneOptions.waiting` of every node."""
    kept: ClassVar[int] = 100
    """`BackplaneOptions.kept`; four times as many are never kept."""

    def join(self, node: str) -> AbstractAsyncContextManager[Membership]:
        """Return a new node's part in the backplane."""
        raise NotImplementedError  # pragma: no cover

    def cut(self, node: str) -> None:
        """Part a node from the backplane, whether it has joined or not."""
        raise NotImplementedError  # pragma: no cover

    def mend(self, node: str) -> None:
        """Undo that."""
        raise NotImplementedError  # pragma: no cover

    # -- who hears what

    @_BOTH
    async def test_everybody_else_hears_it_and_the_sender_does_not(self, reliable: bool) -> None:
        async with self._joined("ann", "bob", "cid") as members:
            for member in members:
                await member.listen(["town"], reliable=reliable)
            ann, bob, cid = members
            await ann.send([Outbound("town", b"from ann", reliable)])
            await bob.send([Outbound("town", b"from bob", reliable)])
            assert await self._hear(cid, 2) == [
                Arrival("town", "ann", b"from ann", reliable),
                Arrival("town", "bob", b"from bob", reliable),
            ]
            assert await self._hear(ann, 1) == [Arrival("town", "bob", b"from bob", reliable)]
            assert await self._hear(bob, 1) == [Arrival("town", "ann", b"from ann", reliable)]

    @_BOTH
    async def test_only_what_is_listened_to_arrives(self, reliable: bool) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["a", "b", "c"], reliable=reliable)
            await bob.ignore(["b", "never"], reliable=reliable)
            await ann.send([Outbound(channel, b"", reliable) for channel in "abcd"])
            assert [each.channel for each in await self._hear(bob, 2)] == ["a", "c"]
            await bob.listen(["b"], reliable=reliable)
            await ann.send([Outbound("b", b"again", reliable)])
            assert (await self._hear(bob, 1))[0].payload == b"again"

    async def test_a_plain_channel_and_a_reliable_one_of_the_same_name_are_two(self) -> None:
        async with self._joined("ann", "bob", "cid") as (ann, bob, cid):
            await bob.listen(["town"])
            await cid.listen(["town"], reliable=True)
            await ann.send([Outbound("town", b"plain"), Outbound("town", b"reliable", reliable=True)])
            await ann.send([Outbound("town", b"plain again"), Outbound("town", b"reliable again", reliable=True)])
            assert [each.payload for each in await self._hear(bob, 2)] == [b"plain", b"plain again"]
            assert [each.payload for each in await self._hear(cid, 2)] == [b"reliable", b"reliable again"]

    @_BOTH
    async def test_what_is_sent_after_listen_has_returned_is_heard(self, reliable: bool) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            for number in range(20):
                await bob.listen([str(number)], reliable=reliable)
                await ann.send([Outbound(str(number), b"", reliable)])
            assert [each.channel for each in await self._hear(bob, 20)] == [str(number) for number in range(20)]

    @_BOTH
    async def test_what_was_sent_before_is_not_heard(self, reliable: bool) -> None:
        async with self._joined("ann", "bob", "cid") as (ann, bob, cid):
            await cid.listen(["town"], reliable=reliable)
            await ann.send([Outbound("town", b"before", reliable)])
            await self._hear(cid, 1)
            await bob.listen(["town"], reliable=reliable)
            await ann.send([Outbound("town", b"after", reliable)])
            assert (await self._hear(bob, 1))[0].payload == b"after"

    @_BOTH
    @pytest.mark.parametrize("payload", [b"", b"\0\xff\r\n $", b"x" * 1_000_000], ids=["empty", "binary", "large"])
    async def test_a_payload_arrives_as_it_is(self, payload: bytes, reliable: bool) -> None:
        async with self._joined("Zoë 1", "bob") as (zoe, bob):
            await bob.listen(["Straße : 1"], reliable=reliable)
            await zoe.send([Outbound("Straße : 1", payload, reliable)])
            assert await self._hear(bob, 1) == [Arrival("Straße : 1", "Zoë 1", payload, reliable)]

    @_BOTH
    async def test_each_sender_keeps_its_order(self, reliable: bool) -> None:
        async with self._joined("ann", "bob", "cid") as (ann, bob, cid):
            await cid.listen(["town"], reliable=reliable)
            async with trio.open_nursery() as tasks:
                for member in (ann, bob):
                    tasks.start_soon(self._count, member, range(20), reliable)
                heard = await self._hear(cid, 40)
            for origin in ("ann", "bob"):
                assert [int(each.payload) for each in heard if each.origin == origin] == list(range(20))

    async def test_nothing_at_all_can_be_sent(self) -> None:
        async with self._joined("ann") as (ann,):
            await ann.send([])

    async def test_a_cancelled_receive_loses_nothing(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town"])
            heard: list[bytes] = []
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._count, ann, range(20), False)
                while len(heard) < 20:
                    with trio.move_on_after(0.001):
                        heard += [each.payload for each in await bob.receive() if isinstance(each, Arrival)]
            assert heard == [b"%d" % number for number in range(20)]

    # -- who was cut off

    async def test_after_a_cut_plain_channels_are_interrupted_and_heard_again(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town", "country"])
            await self._cut_for_a_while(bob, "bob", lambda: ann.send([Outbound("town", b"lost")]))
            assert await self._receive_until(bob, Interrupted()) == [Interrupted()]
            await ann.send([Outbound("town", b"heard"), Outbound("country", b"too")])
            assert [each.payload for each in await self._hear(bob, 2)] == [b"heard", b"too"]
            assert bob.statistics().reconnects >= 1

    async def test_after_a_cut_reliable_channels_have_missed_nothing(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town"], reliable=True)
            await self._count(ann, range(10), reliable=True)
            assert [int(each.payload) for each in await self._hear(bob, 10)] == list(range(10))
            await self._cut_for_a_while(bob, "bob", lambda: self._count(ann, range(10, 40), reliable=True))
            await self._count(ann, range(40, 50), reliable=True)
            assert [int(each.payload) for each in await self._hear(bob, 40)] == list(range(10, 50))

    async def test_what_is_no_longer_kept_is_told(self) -> None:
        last = b"%d" % (4 * self.kept - 1)
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town"], reliable=True)
            everything = [Outbound("town", b"%d" % number, reliable=True) for number in range(4 * self.kept)]
            await self._cut_for_a_while(bob, "bob", lambda: ann.send(everything))
            first, *heard = await self._receive_until(bob, Arrival("town", "ann", last, reliable=True))
            assert first == Interrupted("town")
            numbers = [int(each.payload) for each in heard if isinstance(each, Arrival)]
            assert numbers == list(range(4 * self.kept - len(numbers), 4 * self.kept))
            assert len(numbers) >= self.kept

    async def test_who_is_cut_off_cannot_send(self) -> None:
        async with self._joined("ann") as (ann,):
            await ann.send([Outbound("town", b"")])
            self.cut("ann")
            for reliable in (False, True):
                with pytest.raises(Unreachable) as caught:
                    await ann.send([Outbound("town", b"", reliable)])
                assert caught.value.reason
            assert ann.statistics().unreachable == 2
            self.mend("ann")
            await self._once_reached(lambda: ann.send([Outbound("town", b"")]))

    async def test_who_is_cut_off_can_ask_to_listen(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            self.cut("bob")
            await bob.listen(["town"])
            await bob.listen(["town"], reliable=True)
            await bob.listen(["nowhere"], reliable=True)
            await bob.ignore(["nowhere"], reliable=True)
            self.mend("bob")
            told = await self._receive_until(bob, Interrupted(), Interrupted("town"))
            assert set(told) == {Interrupted(), Interrupted("town")}
            await ann.send([Outbound("town", b"1"), Outbound("town", b"2", reliable=True)])
            assert {each.payload for each in await self._hear(bob, 2)} == {b"1", b"2"}

    async def test_who_is_cut_off_can_join(self) -> None:
        self.cut("bob")
        async with self._joined("ann", "bob") as (ann, bob):
            with pytest.raises(Unreachable):
                await bob.send([Outbound("town", b"")])
            self.mend("bob")
            await self._once_reached(lambda: bob.send([Outbound("town", b"")]))
            await ann.listen(["town"])
            await bob.send([Outbound("town", b"here")])
            assert (await self._hear(ann, 1))[0].payload == b"here"

    async def test_health_tells_who_is_deaf(self) -> None:
        async with self._joined("ann") as (ann,):
            await self._until(lambda: ann.health().heard_ago < 10)
            assert not ann.health().is_deaf
            self.cut("ann")
            await self._until(lambda: ann.health().is_deaf)
            assert ann.health().trouble
            self.mend("ann")
            await self._until(lambda: not ann.health().is_deaf and not ann.health().trouble)

    # -- who is slow

    async def test_who_is_slow_loses_plain_messages_and_is_told(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town"])
            await self._count(ann, range(3 * self.waiting), reliable=False)
            await self._until(lambda: bob.statistics().overflowed == 2 * self.waiting)
            heard = await bob.receive()
            assert [each.payload for each in heard if isinstance(each, Arrival)] == [
                b"%d" % number for number in range(self.waiting)
            ]
            assert heard[-1] == Interrupted()
            await ann.send([Outbound("town", b"at last")])
            assert (await self._hear(bob, 1))[0].payload == b"at last"

    async def test_who_is_slow_loses_no_reliable_messages(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town"], reliable=True)
            await bob.listen(["plain"])
            await ann.send([Outbound("plain", b"")] * (self.waiting // 2))
            await self._count(ann, range(self.kept), reliable=True)
            heard = [each for each in await self._hear(bob, self.waiting // 2 + self.kept) if each.reliable]
            assert [int(each.payload) for each in heard] == list(range(self.kept))

    async def test_statistics_count(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await bob.listen(["town"])
            await ann.send([Outbound("town", b"")] * 3)
            await self._hear(bob, 3)
            assert (ann.statistics().sent, ann.statistics().received) == (3, 0)
            assert (bob.statistics().sent, bob.statistics().received, bob.statistics().interrupted) == (0, 3, 0)

    # -- what is kept for somebody

    async def test_what_one_node_puts_another_takes_once(self) -> None:
        async with self._joined("ann", "bob") as (ann, bob):
            await ann.put("key", b"\0value", 60)
            assert await bob.take("key") == b"\0value"
            assert await ann.take("key") is None
            self.cut("ann")
            with pytest.raises(Unreachable):
                await ann.put("key", b"value", 60)
            with pytest.raises(Unreachable):
                await ann.take("key")

    # -- the end

    async def test_who_has_left_can_do_nothing_more(self) -> None:
        async with self._joined("ann") as (ann,), trio.open_nursery() as tasks:
            async with self.join("bob") as bob:
                await bob.listen(["town"])
                tasks.start_soon(self._expect_closed, bob.receive)  # noqa: ASYNC111 - it is to outlive the block
                await trio.testing.wait_all_tasks_blocked()
            await ann.send([Outbound("town", b"anybody?")])
            await self._expect_closed(bob.receive)
            await self._expect_closed(lambda: bob.send([Outbound("town", b"")]))
            await self._expect_closed(lambda: bob.listen(["town"]))
            await self._expect_closed(lambda: bob.ignore(["town"]))
            await self._expect_closed(lambda: bob.put("key", b"", 1))
            await self._expect_closed(lambda: bob.take("key"))

    async def test_who_leaves_may_come_again(self) -> None:
        async with self._joined("ann") as (ann,):
            for _ in range(2):
                async with self.join("bob") as bob:
                    await bob.listen(["town"], reliable=True)
                    await ann.send([Outbound("town", b"hello", reliable=True)])
                    assert (await self._hear(bob, 1))[0].payload == b"hello"

    async def test_what_fails_in_the_block_comes_out_bare(self) -> None:
        with pytest.raises(KeyError):
            async with self.join("ann"):
                raise KeyError

    @pytest.mark.parametrize("node", ["", "x" * 256, "\ud800"])
    async def test_a_node_has_a_proper_name(self, node: str) -> None:
        with pytest.raises(Misuse):
            async with self.join(node):
                pass  # pragma: no cover

    # -- what the tests above do

    @asynccontextmanager
    async def _joined(self, *nodes: str) -> AsyncIterator[Sequence[Membership]]:
        """Have these take part, in a test that ends."""
        with trio.fail_after(_DEADLINE):  # noqa: ASYNC100 - the test is in it
            async with self._all_joined(nodes) as members:
                yield members

    @asynccontextmanager
    async def _all_joined(self, nodes: Sequence[str]) -> AsyncIterator[Sequence[Membership]]:
        if not nodes:
            yield ()
            return
        async with self.join(nodes[0]) as first, self._all_joined(nodes[1:]) as others:
            yield (first, *others)

    async def _count(self, member: Membership, numbers: range, reliable: bool) -> None:
        for number in numbers:
            await member.send([Outbound("town", b"%d" % number, reliable)])

    async def _hear(self, member: Membership, count: int) -> list[Arrival]:
        """Return the next so many arrivals, which no hole is among."""
        heard: list[Arrival] = []
        while len(heard) < count:
            for each in await member.receive():
                assert isinstance(each, Arrival), each
                heard.append(each)
        assert len(heard) == count
        return heard

    async def _receive_until(self, member: Membership, *awaited: Arrival | Interrupted) -> list[Arrival | Interrupted]:
        """Return what comes until all of these have."""
        received: list[Arrival | Interrupted] = []
        while not set(awaited) <= set(received):
            received += await member.receive()
        return received

    async def _cut_for_a_while(self, member: Membership, node: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self.cut(node)
        await self._until(lambda: bool(member.health().trouble))
        await meanwhile()
        self.mend(node)

    async def _once_reached(self, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await attempt()
            except Unreachable:
                await trio.sleep(0.01)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - no backplane has to tell when its health changes
            await trio.sleep(0.01)

    async def _expect_closed(self, attempt: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(Closed):
            await attempt()
