"""A pool: who is in it and who is not, what reaches whom, and that nobody in it can hurt anybody else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import linked_in_memory, receive, tcp_pair
from trio_hub.dialect import Dialect
from trio_hub.errors import Closed, LinkLost, Misuse, NoPlace
from trio_hub.link.handlers import Handlers, WholeMessage
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.link.opening import request_link
from trio_hub.link.pool import Pool, open_pool
from trio_hub.link.serving import serve_links
from trio_hub.link.spreading import Sent
from trio_hub.messages import CloseCode, CloseReason, Kind, LinkStatus
from trio_hub.options import CompressionOptions, DispatchOptions, LinkOptions, PoolOptions, WhenFull
from trio_hub.testing import Cable, CableListener, Weather
from trio_hub.wire.deflate import Parameters

CONNECTING, READY, TIMEOUT, CLOSED = LinkStatus
SMALL = LinkOptions(owed_size=1000)


@asynccontextmanager
async def far_end(cable: Cable, *, client: bool = True) -> AsyncIterator[Link]:
    """The other end of a link that is in the pool."""
    async with Link(cable.far, client=client).running() as link:
        yield link


class Party:
    """A pool, and the other ends of those that are added to it."""

    def __init__(self, pool: Pool, tasks: trio.Nursery) -> None:
        self.pool = pool
        self._tasks = tasks
        self.peers: dict[str, Link] = {}
        self.links: dict[str, Link] = {}

    async def add(self, name: str, *groups: str, client: bool = False, cable: Cable | None = None, **options) -> Link:
        """Add a link, and return its peer. `client` says that the pool's end is the client."""
        cable = cable or Cable()
        link = self.links[name] = Link(cable.near, client=client, options=LinkOptions(**options))
        self.pool.add(link, name=name, groups=groups)
        self.peers[name] = await self._tasks.start(self._run, cable, not client)
        return self.peers[name]

    async def _run(self, cable: Cable, client: bool, *, task_status: trio.TaskStatus[Link]) -> None:
        async with far_end(cable, client=client) as link:
            task_status.started(link)
            await trio.sleep_forever()

    async def heard(self) -> dict[str, list[str | bytes]]:
        """What each of the peers has been told since it was asked last."""
        told = {}
        for name, peer in self.peers.items():
            told[name] = []
            with trio.move_on_after(0.01):
                while True:
                    told[name] += await peer.receive()
        return {name: messages for name, messages in told.items() if messages}


@asynccontextmanager
async def party(**options) -> AsyncIterator[Party]:
    async with trio.open_nursery() as tasks:
        async with open_pool(PoolOptions(**options)) as pool:
            yield Party(pool, tasks)
        tasks.cancel_scope.cancel()


# -- what is said


async def test_everybody_or_some_are_told(autojump_clock):
    async with party() as here:
        pool = here.pool
        for name, groups, client in (("a", "xy", False), ("b", "x", False), ("c", "", True), ("d", "y", True)):
            await here.add(name, *groups, client=client)
        for sending, told in (
            (pool.to_all("all"), "abcd"),
            (pool.to_clients("clients"), "cd"),
            (pool.to_servers("servers"), "ab"),
            (pool.to_group("x", "x"), "ab"),
            (pool.to_group("y", "y"), "ad"),
            (pool.to_one("b", "one"), "b"),
            (pool.all_but("b", "but"), "acd"),
        ):
            sent = await sending
            assert sent == Sent(len(told))
            heard = await here.heard()
            assert sorted(heard) == sorted(told)
            assert len({str(said) for said in heard.values()}) == 1


async def test_nobody_of_that_name_or_group_is_no_error(autojump_clock):
    async with party() as here:
        assert await here.pool.to_all("x") == Sent()
        assert await here.pool.to_group("x", "x") == Sent()
        assert await here.pool.to_one("x", "x") == Sent(absent=("x",))


async def test_text_and_binary_arrive_as_what_they_are(autojump_clock):
    async with party() as here:
        await here.add("a")
        await here.add("b", client=True)
        for said in ("héllo", b"\x00\xff", "", "x" * 70_000):
            await here.pool.to_all(said)
            assert await here.heard() == {"a": [said], "b": [said]}


async def test_several_messages_are_one_write(autojump_clock):
    written: list[bytes] = []
    async with party() as here:
        await here.add("a")
        await here.add("b", client=True)
        writer = here.links["a"].writer
        writer._write_now = lambda data: written.append(data) or len(data)
        assert await here.pool.to_all("1", b"2", "3") == Sent(2)
        writer._write_now = _refuse
        assert await here.heard() == {"b": ["1", b"2", "3"]}
    assert [len(data) for data in written] == [3 * 3]


@pytest.mark.parametrize("wrong", ["\ud800", 5, None, bytearray(b"x")])
async def test_what_cannot_be_sent_is_sent_to_nobody(wrong, autojump_clock):
    async with party() as here:
        await here.add("a")
        with pytest.raises(Misuse):
            await here.pool.to_all(wrong)
        assert await here.heard() == {}


async def test_groups_are_joined_and_left(autojump_clock):
    async with party() as here:
        pool = here.pool
        await here.add("a")
        pool.join("a", "x", "y")
        pool.join("a", "x")
        assert pool.member("a").groups == {"x", "y"}
        assert await pool.to_group("x", "1") == Sent(1)
        pool.leave("a", "x", "z")
        assert await pool.to_group("x", "2") == Sent()
        assert await pool.to_group("y", "3") == Sent(1)
        assert await here.heard() == {"a": ["1", "3"]}
        pool.join(here.links["a"], "x")
        assert await pool.to_group("x", "4") == Sent(1)
        pool.cast_out("a")
        for who in ("b", here.links["a"]):
            for change in (pool.join, pool.leave):
                with pytest.raises(Misuse, match="not in this pool"):
                    change(who, "x")


async def test_cancelled_before_it_begins_it_is_sent_to_nobody(autojump_clock):
    async with party() as here:
        await here.add("a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await here.pool.to_all("x")
        assert await here.heard() == {}


# -- ways of framing


async def test_each_link_is_told_in_its_own_way(autojump_clock):
    """Plain, masked, compressed, both, sealed, private, in chunks: one message each, and the same for all."""
    agreed = Parameters(server_no_context_takeover=True, client_no_context_takeover=True)
    compressed = {"compression": CompressionOptions(above=10)}
    webson = {"dialect": Dialect.webson(chunk_size=50)}
    private = {"dialect": Dialect(private_mask=b"abcd", always_mask=True)}
    ways = [({}, None), ({}, None), (compressed, agreed), (compressed, agreed), (webson, None), (private, None)]
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool())
        peers = []
        for client in (False, True):
            for options, compression in ways:
                cable = Cable()
                link, peer = (
                    Link(end, client=is_client, options=LinkOptions(**options), compression=compression)
                    for end, is_client in ((cable.near, client), (cable.far, not client))
                )
                pool.add(link)
                peers.append(await stack.enter_async_context(peer.running()))
        for said in ("hello " * 100, b"bytes" * 3, "x"):
            assert await pool.to_all(said) == Sent(len(peers))
            for peer in peers:
                assert await peer.receive() == [said]
        await pool.close()


async def test_plain_links_share_a_frame_and_masks_are_never_the_same(autojump_clock):
    written: dict[str, list[bytes]] = {}
    async with party() as here:
        for name, client in (("a", False), ("b", False), ("c", True), ("d", True)):
            await here.add(name, client=client)
            writer = here.links[name].writer
            written[name] = []
            writer._write_now = lambda data, to=written[name]: to.append(data) or len(data)
        await here.pool.to_all("hello")
        await here.pool.to_all("hello")
        for link in here.links.values():
            link.writer._write_now = _refuse
    assert written["a"][0] is written["b"][0]
    masked = written["c"] + written["d"]
    assert len({frame[2:6] for frame in masked}) == len(masked) == 4


def _refuse(data: bytes) -> int:
    raise BlockingIOError


async def test_private_kinds_go_to_links_that_all_know_them(autojump_clock):
    dialect = Dialect(opcodes=[3, 11])
    got = []
    note = got.append
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool())
        for client in (False, True):
            cable = Cable()
            pool.add(Link(cable.near, client=client, options=LinkOptions(dialect=dialect)), name=f"{client}")
            peer = Link(cable.far, client=not client, options=LinkOptions(dialect=dialect))
            await stack.enter_async_context(peer.running())

            async def listen(peer: Link = peer) -> None:
                async for message in peer.messages():
                    note((message.kind, await message.read()))

            pool._tasks.start_soon(listen)
        assert await pool.to_all(b"x", kind=3) == Sent(2)
        assert await pool.to_all(b"y", kind=11) == Sent(2)
        for wrong, kind in ((b"x" * 126, 11), ("text", 3), (b"x", 4)):
            with pytest.raises(Misuse):
                await pool.to_all(wrong, kind=kind)
        await wait_all_tasks_blocked()
        await pool.close()
    assert sorted(got) == [(3, b"x")] * 2 + [(11, b"y")] * 2


async def test_a_message_waits_for_the_end_of_one_in_fragments(autojump_clock):
    more = trio.Event()

    async def slowly() -> AsyncIterator[str]:
        yield "once"
        await more.wait()
        yield " more"

    async with party() as here:
        await here.add("a")
        await here.add("b")
        async with trio.open_nursery() as tasks:
            tasks.start_soon(here.links["a"].send_stream, Kind.TEXT, slowly())
            await wait_all_tasks_blocked()
            assert await here.pool.to_all("x") == Sent(2)
            assert await here.heard() == {"b": ["x"]}
            more.set()
        assert await here.heard() == {"a": ["once more", "x"]}


# -- slow peers


@asynccontextmanager
async def slow_and_quick(**options) -> AsyncIterator[Party]:
    """A peer that reads nothing, among two who do; whoever is owed 1000 bytes is owed enough."""
    async with party(link=SMALL, **options) as here:
        await here.add("quick", owed_size=1000)
        await here.add("slow", owed_size=1000, cable=Cable(capacity=100), close_timeout=0.1)
        await here.add("other", owed_size=1000)
        for _ in range(12):  # 100 bytes are in the cable, 100 are being written, and the rest waits
            assert await here.pool.to_all("x" * 98) == Sent(3)
            await wait_all_tasks_blocked()
            assert sorted(await heard_by(here, "quick", "other")) == ["other", "quick"]
        yield here


async def heard_by(here: Party, *names: str) -> dict[str, list[str | bytes]]:
    return {name: await here.peers[name].receive() for name in names}


async def test_what_is_too_much_for_one_is_dropped_for_it_alone(autojump_clock):
    async with slow_and_quick() as here:
        for n in range(3):
            assert await here.pool.to_all(f"{n}") == Sent(2, dropped=("slow",))
            assert await heard_by(here, "quick", "other") == {"quick": [f"{n}"], "other": [f"{n}"]}
        assert here.pool.member("slow").dropped == 3
        assert here.pool.statistics().dropped == 3
        assert (await here.heard())["slow"] == ["x" * 98] * 12
        assert await here.pool.to_all("again") == Sent(3)


async def test_who_is_owed_too_much_may_be_let_go(autojump_clock):
    async with slow_and_quick(when_full=WhenFull.END) as here:
        assert await here.pool.to_all("0") == Sent(2, ended=("slow",))
        assert here.links["slow"].closed.code == CloseCode.TOO_SLOW
        assert await here.pool.to_all("1") == Sent(2)
        assert await receive(here.peers["quick"], 2) == ["0", "1"]
        assert here.pool.statistics().ended == 1


async def test_who_wants_to_waits_when_the_others_are_served(autojump_clock):
    async with slow_and_quick() as here, trio.open_nursery() as tasks:
        sent: list[Sent] = []

        async def say() -> None:
            sent.append(await here.pool.to_all("0", when_full=WhenFull.WAIT))
            sent.append(await here.pool.to_all("1", when_full=WhenFull.WAIT))

        tasks.start_soon(say)
        await wait_all_tasks_blocked()
        assert await heard_by(here, "quick", "other") == {"quick": ["0"], "other": ["0"]}
        assert sent == []
        assert (await here.heard())["slow"] == ["x" * 98] * 12 + ["0", "1"]
        assert sent == [Sent(3), Sent(3)]


async def test_waiting_in_vain_ends_with_the_link(autojump_clock):
    async with slow_and_quick(when_full=WhenFull.WAIT) as here, trio.open_nursery() as tasks:
        sent: list[Sent] = []

        async def say() -> None:
            sent.append(await here.pool.to_all("0"))

        tasks.start_soon(say)
        await wait_all_tasks_blocked()
        here.pool.cast_out("slow", CloseReason(4000))
        await wait_all_tasks_blocked()
        assert sent == [Sent(2, absent=("slow",))]


async def test_who_is_cast_out_is_not_waited_for_any_more(autojump_clock):
    async with slow_and_quick(when_full=WhenFull.WAIT) as here, trio.open_nursery() as tasks:
        sent: list[Sent] = []

        async def say() -> None:
            sent.append(await here.pool.to_all("0"))

        tasks.start_soon(say)
        await wait_all_tasks_blocked()
        here.pool.cast_out("slow")
        await wait_all_tasks_blocked()
        assert sent == [Sent(2, absent=("slow",))]
        assert (await here.heard())["slow"] == ["x" * 98] * 12  # its link goes on


async def test_several_who_wait_for_one_owe_it_no_more_than_may_be(autojump_clock):
    async with slow_and_quick(when_full=WhenFull.WAIT) as here, trio.open_nursery() as tasks:
        owed: list[int] = []
        writer = here.links["slow"].writer

        async def say() -> None:
            await here.pool.to_one("slow", "y" * 98)
            owed.append(writer.owed_size)

        for _ in range(30):
            tasks.start_soon(say)
        await wait_all_tasks_blocked()
        assert owed == []
        assert (await here.heard())["slow"] == ["x" * 98] * 12 + ["y" * 98] * 30
        assert max(owed) <= 2 * 1000  # in the queue, and being written


async def test_cancelled_while_it_waits_the_others_have_it(autojump_clock):
    async with slow_and_quick(when_full=WhenFull.WAIT) as here:
        before = here.pool.statistics().taken
        with trio.move_on_after(1) as scope:
            await here.pool.to_all("0")
        assert scope.cancelled_caught
        assert here.pool.statistics().taken == before + 2
        assert (await here.heard())["slow"] == ["x" * 98] * 12


async def test_over_real_sockets_one_that_does_not_read_stalls_nobody():
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(PoolOptions(link=LinkOptions(close_timeout=0.1))))
        options = LinkOptions(owed_size=100_000, close_timeout=0.1)
        peers = []
        for n in range(3):
            near, far = await tcp_pair(4096)
            pool.add(Link(near, client=False, options=options), name=f"{n}")
            peers.append(await stack.enter_async_context(Link(far, client=True, options=options).running()))
        said = [f"{n}:" + "x" * 10_000 for n in range(100)]
        heard: list[list[str | bytes]] = [[], []]

        async def listen(peer: Link, to: list[str | bytes]) -> None:
            to += await receive(peer, len(said))

        with trio.fail_after(20):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(listen, peers[0], heard[0])
                tasks.start_soon(listen, peers[1], heard[1])
                for each in said:
                    sent = await pool.to_all(each)
                    assert set(sent.dropped) <= {"2"}
                    while pool.member("0").link.writer.busy or pool.member("1").link.writer.busy:
                        await trio.lowlevel.checkpoint()
        assert heard == [said, said]
        assert pool.member("2").dropped > 50
        pool.cast_out("2", CloseReason(4000))


# -- who is in and who is not


async def test_a_full_pool_and_a_taken_name_leave_everything_as_it_was(autojump_clock):
    async with party(size=2) as here, linked_in_memory() as (client, server):
        one = await here.add("one")
        for size, name, reason in ((1, "one", "taken"), (2, "two", "full")):
            if size == 2:
                await here.add("other")
            with pytest.raises(NoPlace) as caught:
                here.pool.add(server, name=name)
            assert caught.value.reason == reason
            with pytest.raises(NoPlace):
                await here.pool.keep(server, name=name)
            with pytest.raises(NoPlace):
                here.pool.dial("ws://memory/", name=name)
        assert server.status is CONNECTING
        await server.send("still mine")
        assert await client.receive() == ["still mine"]
        await here.pool.to_one("one", "still here")
        assert await one.receive() == ["still here"]
        assert not here.pool.cast_out(server)
        assert here.pool.statistics().members == 2


async def test_a_link_is_in_the_pool_once(autojump_clock):
    async with party() as here:
        await here.add("a")
        with pytest.raises(Misuse, match="as 'a'"):
            here.pool.add(here.links["a"], name="b")


async def test_a_link_that_has_ended_is_not_added(autojump_clock):
    async with party() as here:
        async with linked_in_memory() as (_, server):
            pass
        with pytest.raises(Misuse, match="ended"):
            here.pool.add(server)


async def test_names_are_made_where_none_is_said(autojump_clock):
    async with party() as here:
        members = [here.pool.add(Link(Cable().near, client=False)) for _ in range(10)]
        assert len({member.name for member in members}) == 10


async def test_who_leaves_makes_room_at_once(autojump_clock):
    async with party(size=1) as here:
        peer = await here.add("a", "x")
        member = here.pool.member("a")
        await peer.close(4000, "bye")
        await wait_all_tasks_blocked()
        assert member.left == CloseReason(4000, "bye")
        assert (here.pool.member("a"), here.pool.group("x")) == (None, [])
        assert here.pool.statistics().groups == 0
        await here.add("a")


async def test_who_is_cast_out_runs_on_and_its_name_is_free(autojump_clock):
    got = []
    async with party() as here:
        here.pool.on_message()(lambda message, link: got.append((message.data, here.pool.member_of(link).name)))
        old = await here.add("a")
        old_link = here.links["a"]
        assert here.pool.cast_out("a")
        assert not here.pool.cast_out("a")
        assert not here.pool.cast_out(old_link)
        new = await here.add("a")
        assert await here.pool.to_all("x") == Sent(1)
        assert await new.receive() == ["x"]
        await old.send("I am still here")
        await old.close()
        await wait_all_tasks_blocked()
        assert got == [("I am still here", "a")]
        assert here.pool.member("a").link is here.links["a"]


async def test_who_is_cast_out_may_be_told_why(autojump_clock):
    async with party() as here:
        for name in "ab":
            await here.add(name)
        for who in ("a", here.links["b"]):
            assert here.pool.cast_out(who, CloseReason(4001, "go"))
        for peer in here.peers.values():
            with pytest.raises(LinkLost, match="4001 go"):
                await peer.receive()


async def test_a_refused_link_cannot_cast_out_the_one_that_is_there(autojump_clock):
    async with party() as here, linked_in_memory() as (_, server):
        await here.add("a")
        with pytest.raises(NoPlace):
            here.pool.add(server, name="a")
        assert not here.pool.cast_out(server, CloseReason(4000))
        assert (server.closed, here.pool.member("a").link) == (None, here.links["a"])


async def test_a_link_that_somebody_else_runs_is_only_read_by_the_pool(autojump_clock):
    got = []
    cable = Cable()
    async with party() as here, far_end(cable) as peer:
        here.pool.on_message()(lambda message, link: got.append(message.data))
        async with Link(cable.near, client=False).running() as link:
            here.pool.add(link, name="a")
            await peer.send("hello")
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert got == ["hello"]
        assert here.pool.members == []


# -- handlers


async def test_sets_reach_all_links_that_are_and_will_be(autojump_clock):
    got = []
    chat = Handlers("chat")

    @chat.on_message()
    async def note(message: Incoming, link: Link) -> None:
        got.append((await message.read(), here.pool.member_of(link).name))

    async with party() as here:
        before = await here.add("before")
        here.pool.apply(chat)
        after = await here.add("after", client=True)
        for peer in (before, after):
            await peer.send("1")
            await wait_all_tasks_blocked()
        assert here.pool.revoke("chat")
        for peer in (before, after):
            await peer.send("2")
            await wait_all_tasks_blocked()
    assert got == [("1", "before"), ("1", "after")]


async def test_status_of_each_is_told_and_whose_it_is(autojump_clock):
    told = []
    async with party() as here:
        here.pool.on_status(lambda previous, new, link: told.append((here.pool.member_of(link).name, previous, new)))
        for name in "ab":
            await here.add(name)
        await wait_all_tasks_blocked()
        await here.peers["a"].close()
        await wait_all_tasks_blocked()
    ready = [(name, CONNECTING, READY) for name in "ab"]
    assert sorted(told[:2], key=str) == ready
    assert told[2:] == [("a", READY, CLOSED), ("b", READY, CLOSED)]


async def test_a_handler_that_raises_hurts_nobody(autojump_clock, caplog):
    failures = []
    async with (
        trio.open_nursery() as tasks,
        open_pool(on_failure=lambda error, link: failures.append(type(error))) as pool,
    ):
        here = Party(pool, tasks)
        pool.on_message()(lambda message, link: 1 / 0)
        for name in "ab":
            await here.add(name)
        await here.peers["a"].send("x")
        await wait_all_tasks_blocked()
        assert await pool.to_all("y") == Sent(2)
        await pool.close()
        tasks.cancel_scope.cancel()
    assert failures == [ZeroDivisionError]
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_a_failure_may_end_its_link_alone(autojump_clock, caplog):
    async with party(dispatch=DispatchOptions(end_on_failure=True)) as here:
        here.pool.on_message()(lambda message, link: 1 / 0)
        for name in "ab":
            await here.add(name)
        await here.peers["a"].send("x")
        await wait_all_tasks_blocked()
        assert [each.name for each in here.pool.members] == ["b"]
        assert here.links["a"].closed.code == 1011


async def test_a_handler_may_cast_out_its_own_link(autojump_clock):
    done = []
    async with party() as here:

        @here.pool.on_message()
        async def let_go(message: Incoming, link: Link) -> None:
            here.pool.cast_out(link, CloseReason(4000, await message.read()))
            await trio.sleep(1)
            done.append(link.closed)

        peer = await here.add("a")
        await peer.send("as you wish")
        with pytest.raises(LinkLost, match="4000 as you wish"):
            await peer.receive()
        await here.pool.wait()
        assert done == [CloseReason(4000, "as you wish")]


# -- servers


@asynccontextmanager
async def serving(pool: Pool, **keep) -> AsyncIterator[CableListener]:
    listener = CableListener()

    async def handler(link: Link) -> None:
        await pool.keep(link, **keep)

    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, handler, listeners=[listener]))
        yield listener
        tasks.cancel_scope.cancel()


async def test_a_server_keeps_its_links_in_a_pool(autojump_clock):
    async with open_pool() as pool, serving(pool, groups="guests") as listener:

        @pool.on_message()
        async def repeat(message: Incoming, link: Link) -> None:
            await pool.to_group("guests", await message.read())

        async with AsyncExitStack() as stack:
            links = []
            for _ in range(3):
                link = await request_link(listener.dial(), host="memory", resource="/")
                links.append(await stack.enter_async_context(link.running()))
            await wait_all_tasks_blocked()
            await links[0].send("hello")
            for link in links:
                assert await link.receive() == ["hello"]
            assert pool.statistics().members == 3
        await pool.wait()
        assert pool.statistics().members == 0


async def test_keep_says_how_the_link_ended(autojump_clock):
    async with open_pool() as pool:
        cable = Cable()
        async with Link(cable.near, client=False).running() as link, far_end(cable) as peer:
            peer.end(CloseReason(4000, "enough"))
            assert await pool.keep(link, name="a") == CloseReason(4000, "enough")
            assert pool.members == []


async def test_when_keep_is_cancelled_the_link_has_left(autojump_clock):
    async with open_pool() as pool:
        cable = Cable()
        async with Link(cable.near, client=False).running() as link, far_end(cable):
            with trio.move_on_after(1):
                await pool.keep(link)
            assert link.closed.code == 1001
            assert pool.members == []
        await pool.wait()


# -- clients


@attrs.define
class Shop:
    """A server that a pool dials: who is there, and a say in the weather on the way to it."""

    listener: CableListener
    weather: Weather
    links: list[Link]


@asynccontextmanager
async def shop(handler=None) -> AsyncIterator[Shop]:
    listener = CableListener()
    here = Shop(listener, Weather(listener.reach), [])

    async def greet(link: Link) -> None:
        here.links.append(link)
        if handler is not None:
            await handler(link)
            return
        await link.send("welcome")
        async for message in link:
            await link.send(message)

    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, greet, listeners=[listener]))
        yield here
        tasks.cancel_scope.cancel()


async def test_a_member_is_dialled_again_when_its_link_is_lost(autojump_clock):
    got, told = [], []
    async with shop() as there, open_pool() as pool:
        pool.on_message()(lambda message, link: got.append(message.data))
        pool.on_status(lambda previous, new, link: told.append(new))
        member = pool.dial("ws://memory/", name="shop", groups="shops", open_stream=there.weather.open_stream)
        assert await pool.to_all("too early") == Sent(absent=("shop",))
        for n in range(3):
            link = await member.wait_linked()
            assert pool.member_of(link) is member
            await wait_all_tasks_blocked()
            assert await pool.to_group("shops", f"{n}") == Sent(1)
            await trio.sleep(1)
            there.weather.cut()
            await wait_all_tasks_blocked()
            assert member.link is None
            assert await pool.to_all("into the void") == Sent(absent=("shop",))
            await trio.sleep(100)
            there.weather.mend()
        await member.wait_linked()
        assert member.left is None
        statistics = pool.statistics()
        assert (statistics.members, statistics.clients, statistics.linked) == (1, 1, 1)
        assert statistics.dials == there.weather.dials > 3
        await wait_all_tasks_blocked()
    assert got == ["welcome", "0", "welcome", "1", "welcome", "2", "welcome"]
    assert told == [READY, CLOSED] * 4


async def test_retries_are_counted_and_then_it_is_given_up(autojump_clock):
    options = PoolOptions(retries=3, first_retry=1, longest_retry=1)
    async with shop() as there, open_pool(options) as pool:
        there.weather.cut()
        member = pool.dial("ws://memory/", name="shop", open_stream=there.weather.open_stream)
        with pytest.raises(Closed, match="weather"):
            await member.wait_linked()
        assert there.weather.dials == pool.statistics().dials == 1 + 3
        assert member.left == CloseReason(1006, "the weather is bad")
        assert pool.member("shop") is None
        await pool.wait()


async def test_a_good_link_makes_failures_forgotten(autojump_clock):
    options = PoolOptions(retries=1, first_retry=1, longest_retry=1)
    async with shop() as there, open_pool(options) as pool:
        member = pool.dial("ws://memory/", open_stream=there.weather.open_stream)
        for _ in range(5):
            await member.wait_linked()
            await trio.sleep(11)
            there.weather.cut_once()
            await wait_all_tasks_blocked()
        await member.wait_linked()
        await trio.sleep(1)
        there.weather.cut_once()
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        there.weather.cut_once()
        await pool.wait()
        assert member.left is not None


async def test_how_long_a_good_link_lasts_is_for_the_pool_to_say(autojump_clock):
    options = PoolOptions(retries=1, first_retry=1, longest_retry=1, good_after=100)
    async with shop() as there, open_pool(options) as pool:
        member = pool.dial("ws://memory/", open_stream=there.weather.open_stream)
        for lasts in (101, 101, 99):
            await member.wait_linked()
            await trio.sleep(lasts)
            there.weather.cut_once()
            await wait_all_tasks_blocked()
        with pytest.raises(Closed):
            await member.wait_linked()


async def test_a_server_that_wants_nobody_is_not_asked_again(autojump_clock):
    async with shop(lambda link: link.close(4500, "go away")) as there, open_pool() as pool:
        member = pool.dial("ws://memory/", open_stream=there.weather.open_stream)
        await pool.wait()
        assert member.left == CloseReason(4500, "go away")
        assert there.weather.dials == 1


async def test_a_server_that_leaves_says_for_how_long_up_to_a_bound(autojump_clock):
    options = PoolOptions(first_retry=0.1, longest_retry=0.1, longest_advice=1000)
    for asked, waited in ((500, 500), (3000, 1000)):
        reason = f'{{"retry_after": {asked}}}'
        async with shop(lambda link, reason=reason: link.close(1012, reason)) as there, open_pool(options) as pool:
            pool.dial("ws://memory/", open_stream=there.weather.open_stream)
            await trio.sleep(waited - 1)
            assert there.weather.dials == 1
            await trio.sleep(2)
            assert there.weather.dials == 2


async def test_who_is_cast_out_is_not_dialled_again(autojump_clock):
    async with shop() as there, open_pool() as pool:
        for bad in (False, True):
            dials = there.weather.dials
            member = pool.dial("ws://memory/", name="shop", open_stream=there.weather.open_stream)
            await member.wait_linked()
            if bad:
                there.weather.cut()
                await trio.sleep(5)
                dials = there.weather.dials
            assert pool.cast_out("shop", CloseReason(1000, "enough"))
            await pool.wait()
            await trio.sleep(100)
            assert there.weather.dials == dials + (not bad)
            with pytest.raises(Closed, match="enough"):
                await member.wait_linked()


async def test_a_frozen_server_is_noticed_and_dialled_again(autojump_clock):
    told = []
    link = LinkOptions(ping_interval=10, pong_timeout=10, grace=10)
    async with shop() as there, open_pool(PoolOptions(link=link)) as pool:
        pool.on_status(lambda previous, new, link: told.append(new))
        member = pool.dial("ws://memory/", open_stream=there.weather.open_stream)
        first = await member.wait_linked()
        there.weather.abandon(noticed=False)
        await trio.sleep(28)
        assert told == [READY, TIMEOUT]
        await trio.sleep(60)
        assert told[:4] == [READY, TIMEOUT, CLOSED, READY]
        assert await member.wait_linked() is not first


async def test_a_url_that_is_none_is_a_misuse(autojump_clock):
    async with open_pool() as pool:
        with pytest.raises(Misuse):
            pool.dial("http://memory/")
        assert pool.members == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"X-Name": "a\r\nX-Other: b"}},
        {"headers": {"X Name": "a"}},
        {"headers": {"X-Name": "\ud800"}},
        {"subprotocols": ["a\nb"]},
    ],
)
async def test_what_no_dial_could_say_is_a_misuse(wrong, autojump_clock):
    async with open_pool() as pool:
        with pytest.raises(Misuse, match=r"headers|subprotocol"):
            pool.dial("ws://memory/", **wrong)
        assert pool.members == []


# -- the end


async def test_a_pool_closes_all_at_once_and_politely(autojump_clock):
    async with party(close_within=7) as here, shop() as there:
        for name in "abc":
            await here.add(name)
        here.pool.dial("ws://memory/", open_stream=there.weather.open_stream)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(here.pool.close, 4000, "closing time")
            for peer in here.peers.values():
                with pytest.raises(LinkLost, match="4000 closing time"):
                    await peer.receive()
                tasks.start_soon(peer.close)
        assert trio.current_time() < 7
        assert here.pool.members == []
        with pytest.raises(Closed):
            here.pool.add(Link(Cable().near, client=False))
        with pytest.raises(Closed):
            here.pool.dial("ws://memory/")
        await here.pool.wait()


async def test_handlers_that_never_end_do_not_keep_a_pool_open(autojump_clock):
    cancelled = []
    async with party(close_within=7) as here:

        @here.pool.on_message()
        async def hang(message: Incoming, link: Link) -> None:
            try:
                await trio.sleep_forever()
            finally:
                cancelled.append(link.closed)

        peer = await here.add("a")
        await peer.send("x")
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        await here.pool.close()
        assert trio.current_time() - begun == pytest.approx(7)
        assert cancelled == [CloseReason(1000)]


async def test_a_pool_closed_from_a_handler_is_closed(autojump_clock):
    async with party(close_within=7) as here:

        @here.pool.on_message()
        async def close(message: Incoming, link: Link) -> None:
            await here.pool.close()

        for name in "ab":
            await here.add(name)
        await here.peers["a"].send("x")
        await here.pool.wait()
        assert trio.current_time() == pytest.approx(7)


async def test_leaving_the_block_after_an_exception_says_1011_and_raises_it_bare(autojump_clock):
    cable = Cable()
    async with far_end(cable) as peer:

        async def fail() -> None:
            async with open_pool() as pool:
                pool.add(Link(cable.near, client=False))
                await wait_all_tasks_blocked()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(LinkLost, match="1011"):
            await peer.receive()


async def test_when_the_pool_is_cancelled_nothing_of_it_is_left(autojump_clock):
    before = trio.lowlevel.current_statistics().tasks_living
    ended = []

    async def keep(pool: Pool, link: Link) -> None:
        async with link.running():
            ended.append(await pool.keep(link))

    async with trio.open_nursery() as others:
        with trio.move_on_after(5):
            async with open_pool() as pool, shop() as there:
                pool.add(Link(Cable().near, client=False))
                pool.dial("ws://memory/", open_stream=there.weather.open_stream)
                others.start_soon(keep, pool, Link(Cable().near, client=False))
                await trio.sleep_forever()
    assert ended == [CloseReason(1001)]
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_waiting_without_closing_ends_when_the_pool_is_empty(autojump_clock):
    async with party() as here:
        await here.pool.wait()
        peer = await here.add("a")
        async with trio.open_nursery() as tasks:
            tasks.start_soon(here.pool.wait)
            await wait_all_tasks_blocked()
            await peer.close()


async def test_messages_are_whole_for_plain_handlers_of_a_pool(autojump_clock):
    got: list[type] = []
    async with party() as here:
        here.pool.on_message(Kind.TEXT)(lambda message, link: got.append(type(message)))
        await (await here.add("a")).send("x")
        await wait_all_tasks_blocked()
    assert got == [WholeMessage]


@pytest.mark.parametrize("dialect", ["sealed", "webson with streams"])
async def test_links_that_share_no_frames_are_told_in_order_all_the_same(dialect):
    if dialect == "sealed":
        pytest.importorskip("cryptography")
        options = LinkOptions(dialect=Dialect.sealed(b"k" * 32))
    else:
        options = LinkOptions(dialect=Dialect.webson(streams=10))
    said = [f"{n}" for n in range(20)]
    hear, heard = trio.open_memory_channel[str](1000)
    async with (
        trio.open_nursery() as tasks,
        open_pool(PoolOptions(link=options)) as servers,
        open_pool(PoolOptions(link=options)) as clients,
    ):

        async def keep(link: Link) -> None:
            await servers.keep(link)

        for pool in (clients, servers):
            pool.on_message()(lambda message, link: hear.send_nowait(message.data))
        (listener,) = await tasks.start(partial(serve_links, keep, options=options))
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        with trio.fail_after(20):
            for _ in range(3):
                await clients.dial(url).wait_linked()
            while servers.statistics().linked < 3:  # noqa: ASYNC110 - they come over real sockets
                await trio.sleep(0.01)
            for pool in (servers, clients):
                for each in said:
                    assert await pool.to_all(each) == Sent(3)
                came = [await heard.receive() for _ in range(3 * len(said))]
                assert sorted(came) == sorted(said * 3)
                assert list(dict.fromkeys(came)) == said
        await clients.close()
        tasks.cancel_scope.cancel()
