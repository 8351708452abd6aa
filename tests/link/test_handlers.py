"""Handlers: what comes is handed to whoever wants it, in the order that was asked for, whatever some of them do."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import FIN, TEXT, link_and_peer, linked_in_memory, send_forever
from trio_hub.errors import LinkLost, Misuse, StreamReset
from trio_hub.link.dispatching import Dispatcher
from trio_hub.link.handlers import Handlers, WholeMessage
from trio_hub.link.incoming import Incoming, Stop
from trio_hub.link.link import Link
from trio_hub.link.opening import request_link
from trio_hub.link.serving import serve_links
from trio_hub.messages import CloseReason, Kind, LinkStatus
from trio_hub.options import DispatchOptions, LinkOptions, Order
from trio_hub.testing import Cable, CableListener

CONNECTING, READY, TIMEOUT, CLOSED = LinkStatus


def errors_in(caplog) -> list[type[BaseException]]:
    return [record.exc_info[0] for record in caplog.records if record.levelno >= logging.ERROR]


@asynccontextmanager
async def dispatched(link_options: LinkOptions | None = None, **arguments):
    """A client's link, and the dispatcher of a server's, which runs in `ended`'s way until the client has left."""
    cable = Cable()
    async with trio.open_nursery() as tasks:
        server = Link(cable.far, client=False, options=link_options)
        dispatcher = Dispatcher(server, **arguments)
        dispatcher.close = None

        async def serve() -> None:
            async with server.running():
                dispatcher.close = await dispatcher.run()

        async with Link(cable.near, client=True, options=link_options).running() as client:
            yield client, dispatcher, tasks, serve
    assert dispatcher.close is not None


@asynccontextmanager
async def handling(link_options: LinkOptions | None = None, **arguments):
    """The same, running already."""
    async with dispatched(link_options, **arguments) as (client, dispatcher, tasks, serve):
        tasks.start_soon(serve)
        yield client, dispatcher


# -- who is given what


async def test_each_kind_goes_to_those_who_take_it_in_order(autojump_clock):
    got = []
    async with handling() as (client, dispatcher):

        @dispatcher.on_message(Kind.TEXT)
        async def text(message: Incoming, link: Link) -> None:
            got.append(("text", await message.read()))

        @dispatcher.on_message(Kind.BINARY)
        def binary(message: WholeMessage, link: Link) -> None:
            got.append(("binary", message.data))

        for n in range(3):
            await client.send(f"{n}")
            await client.send(b"%d" % n)
    assert got == [(kind, said) for n in range(3) for kind, said in (("text", f"{n}"), ("binary", b"%d" % n))]
    assert dispatcher.close == CloseReason(1000)


async def test_several_handlers_each_have_the_message(autojump_clock):
    got = []
    async with handling() as (client, dispatcher):

        @dispatcher.on_message()
        async def by_chunks(message: Incoming, link: Link) -> None:
            got.append([chunk async for chunk in message])

        @dispatcher.on_message(Kind.TEXT)
        async def whole(message: Incoming, link: Link) -> None:
            got.append(await message.read())

        @dispatcher.on_message()
        def plain(message: WholeMessage, link: Link) -> None:
            got.append(message.data)

        await client.send("hello")
        await client.send(b"")
    assert got == [["hello"], "hello", "hello", [], b""]


async def test_one_handler_has_chunks_as_they_come(autojump_clock):
    got: list[str | bytes] = []
    note_of = got.append
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:
        dispatcher = Dispatcher(link)

        @dispatcher.on_message()
        async def note(message: Incoming, link: Link) -> None:
            async for chunk in message:
                note_of(chunk)

        tasks.start_soon(dispatcher.run)
        await peer.say(TEXT, b"once")
        await wait_all_tasks_blocked()
        assert got == ["once"]
        await peer.say(FIN | 0, b" more")
        await wait_all_tasks_blocked()
        assert got == ["once", " more"]
        link.end(CloseReason(1000))
        peer.stream.hang_up()


async def test_what_a_handler_leaves_of_a_message_is_dropped(autojump_clock):
    got = []
    async with handling() as (client, dispatcher):

        @dispatcher.on_message()
        async def look(message: Incoming, link: Link) -> None:
            got.append(message.kind)

        await client.send("x" * 1000)
        await client.send(b"y")
    assert got == [Kind.TEXT, Kind.BINARY]


async def test_what_nobody_takes_is_dropped(autojump_clock):
    async with handling() as (client, _):
        await client.send("is anybody there?")
        await client.send(b"no?")


async def test_a_message_can_be_answered(autojump_clock):
    async with handling() as (client, dispatcher):

        @dispatcher.on_message()
        async def answer(message: Incoming, link: Link) -> None:
            await link.send(f"{await message.read()}!")

        await client.send("hello")
        assert await client.receive() == ["hello!"]


async def test_on_message_wants_brackets():
    with pytest.raises(Misuse, match="brackets"):
        Handlers("chat").on_message(lambda message, link: None)


# -- sets


async def test_sets_come_and_go_while_the_link_runs(autojump_clock):
    got = []
    chat, log = Handlers("chat"), Handlers("log")
    chat.on_message()(lambda message, link: got.append(("chat", message.data)))
    log.on_message()(lambda message, link: got.append(("log", message.data)))
    async with handling() as (client, dispatcher):
        for n, change in enumerate(
            (
                lambda: dispatcher.apply(chat),
                lambda: dispatcher.apply(log),
                lambda: dispatcher.revoke("chat"),
                lambda: dispatcher.revoke(log),
            )
        ):
            change()
            await client.send(f"{n}")
            await wait_all_tasks_blocked()
    assert got == [("chat", "0"), ("chat", "1"), ("log", "1"), ("log", "2")]


async def test_a_handler_added_to_an_applied_set_takes_part(autojump_clock):
    got = []
    late = Handlers("late")
    async with handling() as (client, dispatcher):
        dispatcher.apply(late)
        late.on_message()(lambda message, link: got.append(message.data))
        await client.send("hello")
    assert got == ["hello"]


async def test_names_of_sets_are_unique_and_a_stranger_cannot_revoke(autojump_clock):
    async with linked_in_memory() as (_, server):
        dispatcher = Dispatcher(server)
        ours, theirs = Handlers("chat"), Handlers("chat")
        dispatcher.apply(ours)
        with pytest.raises(Misuse, match="'chat'"):
            dispatcher.apply(theirs)
        assert not dispatcher.revoke(theirs)
        assert not dispatcher.revoke("log")
        assert dispatcher.revoke("chat")
        assert not dispatcher.revoke(ours)
        dispatcher.apply(theirs)


# -- at once


class Doors:
    """Handlers that wait until they are let through, one by one."""

    def __init__(self) -> None:
        self.waiting: dict[str, trio.Event] = {}
        self.done: list[str] = []

    async def __call__(self, message: Incoming, link: Link) -> None:
        said = str(await message.read())
        self.waiting[said] = trio.Event()
        await self.waiting[said].wait()
        del self.waiting[said]
        self.done.append(said)

    async def let(self, *names: str) -> None:
        for name in names:
            self.waiting[name].set()
            await wait_all_tasks_blocked()


async def test_in_order_the_next_waits(autojump_clock):
    doors = Doors()
    async with handling() as (client, dispatcher):
        dispatcher.on_message()(doors)
        for name in "abc":
            await client.send(name)
        await wait_all_tasks_blocked()
        assert list(doors.waiting) == ["a"]
        await doors.let("a", "b", "c")
    assert doors.done == ["a", "b", "c"]


async def test_concurrently_up_to_the_limit_and_then_nothing_is_read(autojump_clock):
    doors = Doors()
    options = DispatchOptions(order=Order.CONCURRENT, limit=3)
    async with handling(options=options) as (client, dispatcher):
        dispatcher.on_message()(doors)
        for name in "abcde":
            await client.send(name)
        await wait_all_tasks_blocked()
        assert sorted(doors.waiting) == ["a", "b", "c"]
        await doors.let("c")
        assert sorted(doors.waiting) == ["a", "b", "d"]
        await doors.let("d", "b", "a", "e")
    assert doors.done == ["c", "d", "b", "a", "e"]


async def test_by_key_those_of_one_key_are_in_order(autojump_clock):
    doors = Doors()
    options = DispatchOptions(order=Order.BY_KEY, limit=10)
    async with handling(options=options, key=lambda message: message.data[0]) as (client, dispatcher):
        dispatcher.on_message()(doors)
        for name in ("a1", "a2", "b1", "a3", "b2"):
            await client.send(name)
        await wait_all_tasks_blocked()
        assert sorted(doors.waiting) == ["a1", "b1"]
        await doors.let("b1", "b2", "a1", "a2", "a3")
    assert doors.done == ["b1", "b2", "a1", "a2", "a3"]


async def test_a_full_lane_stops_reading_too(autojump_clock):
    doors = Doors()
    options = DispatchOptions(order=Order.BY_KEY, limit=2)
    async with handling(options=options, key=lambda message: message.data[0]) as (client, dispatcher):
        dispatcher.on_message()(doors)
        for name in ("a1", "a2", "b1"):
            await client.send(name)
        await wait_all_tasks_blocked()
        assert list(doors.waiting) == ["a1"]
        await doors.let("a1")
        assert sorted(doors.waiting) == ["a2", "b1"]
        await doors.let("a2", "b1")


def arriving(stream: int, kind: int, *chunks: str | Exception | trio.Event, stop: Stop | None = None) -> Incoming:
    """A message on a stream, of these chunks; an event is waited for, an exception is raised."""
    left = list(chunks)

    async def next_chunk() -> str | None:
        await trio.lowlevel.checkpoint()
        while left:
            match left.pop(0):
                case str(chunk):
                    return chunk
                case trio.Event() as event:
                    await event.wait()
                case Exception() as error:
                    raise error
        return None

    return Incoming(kind, next_chunk, max_message=1000, stream=stream, stop=stop)


async def streams(*messages: Incoming):
    for message in messages:
        await trio.lowlevel.checkpoint()
        yield message


async def test_streams_do_not_wait_for_each_other(autojump_clock):
    got = []
    note_of = got.append
    more = trio.Event()
    one, two = arriving(1, Kind.TEXT, "slow", more, "ly"), arriving(2, Kind.TEXT, "quick")
    again = arriving(1, Kind.TEXT, "after it")
    async with linked_in_memory() as (_, server):
        options = DispatchOptions(order=Order.BY_KEY)
        dispatcher = Dispatcher(server, messages=streams(one, two, again), options=options)

        @dispatcher.on_message()
        async def note(message: Incoming, link: Link) -> None:
            async for chunk in message:
                note_of(chunk)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(dispatcher.run)
            await wait_all_tasks_blocked()
            assert got == ["slow", "quick"]
            more.set()
    assert got == ["slow", "quick", "ly", "after it"]


async def test_a_message_given_up_by_its_sender_is_no_failure(autojump_clock, caplog):
    got = []
    async with linked_in_memory() as (_, server):
        for order in Order:
            messages = streams(
                arriving(1, Kind.TEXT, "beg", StreamReset(1001)),
                arriving(3, Kind.BINARY, StreamReset(1001)),
                arriving(2, Kind.TEXT, "whole"),
            )
            dispatcher = Dispatcher(server, messages=messages, options=DispatchOptions(order=order))
            dispatcher.on_message(Kind.TEXT)(lambda message, link: got.append(message.data))
            await dispatcher.run()
    assert got == ["whole"] * 3
    assert errors_in(caplog) == []


# -- failures


@pytest.mark.parametrize("order", list(Order))
async def test_a_handler_that_raises_is_reported_and_the_link_goes_on(order, autojump_clock, caplog):
    reported, got = [], []

    def report(error: Exception, link: Link) -> None:
        reported.append((type(error), link.closed))

    async with handling(options=DispatchOptions(order=order), on_failure=report) as (client, dispatcher):
        dispatcher.on_message()(lambda message, link: 1 / int(message.data))
        dispatcher.on_message()(lambda message, link: got.append(message.data))
        for n in "102":
            await client.send(n)
        await wait_all_tasks_blocked()
        assert client.closed is None
    assert reported == [(ZeroDivisionError, None)]
    assert errors_in(caplog) == [ZeroDivisionError]
    assert sorted(got) == ["0", "1", "2"]


async def at_once(*tasks: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(task)


async def test_the_link_s_end_is_no_failure_of_a_handler_with_tasks_of_its_own(autojump_clock, caplog):
    options = LinkOptions(owed_size=1000)
    async with link_and_peer(options=options, cable=Cable(capacity=100)) as (link, peer), trio.open_nursery() as tasks:
        dispatcher = Dispatcher(link)

        @dispatcher.on_message()
        async def talk(message: Incoming, link: Link) -> None:
            await at_once(*[partial(send_forever, link, "x" * 100)] * 3)

        tasks.start_soon(dispatcher.run)
        await peer.say(FIN | TEXT, b"talk")
        await wait_all_tasks_blocked()
        peer.stream.hang_up()
    assert errors_in(caplog) == []


async def test_a_message_given_up_is_no_failure_of_a_handler_with_tasks_of_its_own(autojump_clock, caplog):
    async with linked_in_memory() as (_, server):
        dispatcher = Dispatcher(server, messages=streams(arriving(1, Kind.TEXT, "beg", StreamReset(1001))))

        @dispatcher.on_message()
        async def read(message: Incoming, link: Link) -> None:
            await at_once(message.read, trio.sleep_forever)

        await dispatcher.run()
    assert errors_in(caplog) == []


async def test_a_handler_s_only_failure_is_told_bare(autojump_clock, caplog):
    told = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def be_told_no() -> None:
        await trio.lowlevel.checkpoint()
        raise StreamReset(4000)

    async with handling(on_failure=lambda error, link: told.append(type(error))) as (client, dispatcher):

        @dispatcher.on_message()
        async def several(message: Incoming, link: Link) -> None:
            await at_once(*[{"f": fail, "r": be_told_no}[each] for each in str(await message.read())])

        for tasks in ("f", "rr", "ff"):
            await client.send(tasks)
        await wait_all_tasks_blocked()
    assert told == errors_in(caplog) == [ZeroDivisionError, ExceptionGroup]


async def test_a_cancelled_handler_s_tasks_may_find_the_link_ended(autojump_clock, caplog):
    async def say_goodbye(link: Link) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await link.send("goodbye")

    async def endure() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        await trio.sleep_forever()

    async with link_and_peer() as (link, peer):
        dispatcher = Dispatcher(link)

        @dispatcher.on_message()
        async def talk(message: Incoming, link: Link) -> None:
            await at_once(partial(say_goodbye, link), endure)

        await peer.say(FIN | TEXT, b"talk")
        with trio.move_on_after(1) as running:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(dispatcher.run)
                await trio.sleep(0.5)
                link.end(CloseReason(1000))
                await trio.sleep_forever()
        assert running.cancelled_caught
        peer.stream.hang_up()
    assert errors_in(caplog) == []


async def test_a_handler_that_raises_ends_the_link_where_that_is_wanted(autojump_clock, caplog):
    async with handling(options=DispatchOptions(end_on_failure=True)) as (client, dispatcher):
        dispatcher.on_message()(lambda message, link: 1 / 0)
        await client.send("x")
        with pytest.raises(LinkLost) as caught:
            await client.receive()
        assert caught.value.close.code == 1011
    assert dispatcher.close.code == 1011
    assert errors_in(caplog) == [ZeroDivisionError]


async def test_whoever_is_told_of_failures_may_fail(autojump_clock, caplog):
    async with handling(on_failure=lambda error, link: [][0]) as (client, dispatcher):
        dispatcher.on_message()(lambda message, link: 1 / 0)
        dispatcher.on_status(lambda previous, new, link: {}["x"])
        await client.send("x")
    assert set(errors_in(caplog)) == {ZeroDivisionError, IndexError, KeyError}
    assert dispatcher.close.code == 1000


async def test_a_key_that_fails_is_a_failure(autojump_clock, caplog):
    got = []
    options = DispatchOptions(order=Order.BY_KEY)
    async with handling(options=options, key=lambda message: message.data[0]) as (client, dispatcher):
        dispatcher.on_message()(lambda message, link: got.append(message.data))
        await client.send("")
        await client.send("a")
    assert errors_in(caplog) == [IndexError]
    assert got == ["a"]


async def test_a_key_that_cannot_be_one_is_a_failure(autojump_clock, caplog):
    options = DispatchOptions(order=Order.BY_KEY)
    async with handling(options=options, key=lambda message: [message.data]) as (client, dispatcher):
        dispatcher.on_message()(lambda message, link: None)
        await client.send("a")
        await client.send("b")
    assert errors_in(caplog) == [TypeError, TypeError]


@pytest.mark.parametrize("kind", [Kind.TEXT, Kind.BINARY], ids=["left", "not taken"])
@pytest.mark.parametrize("order", Order, ids=lambda order: order.value)
async def test_what_is_left_of_a_message_on_a_stream_is_refused(kind, order, autojump_clock):
    stopped = []
    messages = []
    for number in range(3):
        message = arriving(number + 1, kind, "some", trio.Event(), "more", stop=lambda *why: stopped.append(why))
        messages.append(message)
    async with linked_in_memory() as (_, server):
        dispatcher = Dispatcher(server, messages=streams(*messages), options=DispatchOptions(order=order))

        @dispatcher.on_message(Kind.TEXT)
        async def begin(message: Incoming, link: Link) -> None:
            await anext(message)

        await dispatcher.run()
    assert len(stopped) == 3


async def test_what_is_too_large_to_be_read_whole_ends_the_link(autojump_clock, caplog):
    async with handling(LinkOptions(max_message=100)) as (client, dispatcher):
        dispatcher.on_message()(lambda message, link: None)
        await client.send("x" * 101)
        with pytest.raises(LinkLost) as caught:
            await client.receive()
        assert caught.value.close.code == 1009
    assert dispatcher.close.code == 1009
    assert errors_in(caplog) == []


@pytest.mark.parametrize("order", Order)
async def test_what_is_not_whole_in_time_ends_the_link(order, autojump_clock, caplog):
    """A plain handler waits for a message as long as `receive` would, however many pieces come of it."""

    async def drip() -> AsyncIterator[str]:
        while True:
            yield "drip"
            await trio.sleep(1)

    options = LinkOptions(finish_within=20)
    async with handling(options, options=DispatchOptions(order=order)) as (client, dispatcher):

        @dispatcher.on_message()
        def note(message: WholeMessage, link: Link) -> None:
            raise AssertionError

        async def send() -> None:
            with pytest.raises(LinkLost):
                await client.send_stream(Kind.TEXT, drip())

        with trio.fail_after(60):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(send)
                with pytest.raises(LinkLost, match="1008 the message was not finished in time"):
                    await client.receive()
        assert trio.current_time() == pytest.approx(20)
    assert errors_in(caplog) == []


async def test_a_peer_that_breaks_the_protocol_is_the_end_and_no_error(autojump_clock, caplog):
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:
        tasks.start_soon(peer.say, 0x83, b"private")
        close = await Dispatcher(link).run()
        assert close.code == 1002
        peer.stream.hang_up()
    assert errors_in(caplog) == []


async def test_a_link_that_is_lost_amid_a_handler_is_no_failure_of_it(autojump_clock, caplog):
    async with link_and_peer() as (link, peer):
        dispatcher = Dispatcher(link)

        @dispatcher.on_message()
        async def insist(message: Incoming, link: Link) -> None:
            await message.read()

        await peer.say(TEXT, b"begun")
        peer.stream.hang_up()
        assert (await dispatcher.run()).code == 1006
    assert errors_in(caplog) == []


async def test_another_link_that_is_lost_is_a_failure(autojump_clock, caplog):
    async with handling() as (client, dispatcher):

        @dispatcher.on_message()
        async def forward(message: Incoming, link: Link) -> None:
            raise LinkLost(CloseReason(1006, "another"))

        await client.send("x")
        await wait_all_tasks_blocked()
    assert errors_in(caplog) == [LinkLost]


# -- status


async def test_status_is_told_in_order_and_closed_once_and_last(autojump_clock):
    told = []
    async with dispatched() as (client, dispatcher, tasks, serve):

        @dispatcher.on_status
        async def slowly(previous: LinkStatus, new: LinkStatus, link: Link) -> None:
            await trio.sleep(1)
            told.append((previous, new))

        @dispatcher.on_message()
        async def note(message: Incoming, link: Link) -> None:
            await trio.sleep(10)
            told.append(await message.read())

        dispatcher.on_status(lambda previous, new, link: told.append((new, link.closed)))
        tasks.start_soon(serve)
        await client.send("hello")
        await trio.sleep(5)
    assert told == [
        (CONNECTING, READY),
        (READY, None),
        "hello",
        (READY, CLOSED),
        (CLOSED, CloseReason(1000)),
    ]


async def test_a_timeout_is_told_while_a_handler_runs(autojump_clock):
    told = []
    async with handling() as (client, dispatcher):
        dispatcher.on_status(lambda previous, new, link: told.append((previous, new)))

        @dispatcher.on_message()
        async def hang(message: Incoming, link: Link) -> None:
            link.become(TIMEOUT)
            await trio.sleep(1)
            link.become(READY)
            await trio.sleep(1)
            link.become(TIMEOUT)
            await trio.sleep(1)

        await client.send("x")
        await trio.sleep(10)
    assert told[1:] == [(READY, TIMEOUT), (TIMEOUT, READY), (READY, TIMEOUT), (TIMEOUT, CLOSED)]


async def test_a_slow_handler_of_status_is_told_of_the_latest(autojump_clock):
    told = []
    async with link_and_peer() as (link, peer), trio.open_nursery() as tasks:
        dispatcher = Dispatcher(link)

        @dispatcher.on_status
        async def slowly(previous: LinkStatus, new: LinkStatus, link: Link) -> None:
            told.append((previous, new))
            await trio.sleep(1)

        tasks.start_soon(dispatcher.run)
        await trio.sleep(1.5)
        for status in (TIMEOUT, READY, TIMEOUT, READY, TIMEOUT):
            link.become(status)
            await trio.sleep(0.1)
        await trio.sleep(5)
        assert told == [(CONNECTING, READY), (READY, TIMEOUT)]
        peer.stream.hang_up()
    assert told[2:] == [(TIMEOUT, CLOSED)]


async def test_when_cancelled_closed_is_told_all_the_same(autojump_clock):
    told = []
    async with linked_in_memory() as (_, server):
        server.become(READY)
        dispatcher = Dispatcher(server)

        @dispatcher.on_status
        async def tell(previous: LinkStatus, new: LinkStatus, link: Link) -> None:
            await trio.sleep(1)
            told.append((previous, new))

        with trio.move_on_after(3):
            await dispatcher.run()
        assert told == [(CONNECTING, READY), (READY, CLOSED)]
        assert server.closed.code == 1001


async def test_handlers_of_closed_cannot_hold_up_a_cancel_for_ever(autojump_clock):
    async with linked_in_memory(options=LinkOptions(close_timeout=4)) as (_, server):
        dispatcher = Dispatcher(server)

        @dispatcher.on_status
        async def hang(previous: LinkStatus, new: LinkStatus, link: Link) -> None:
            await trio.sleep_forever()

        with trio.move_on_after(3):
            await dispatcher.run()
        assert trio.current_time() == pytest.approx(7)


async def test_a_dispatcher_runs_once(autojump_clock):
    async with link_and_peer() as (link, peer):
        peer.stream.hang_up()
        dispatcher = Dispatcher(link)
        await dispatcher.run()
        with pytest.raises(Misuse, match="once"):
            await dispatcher.run()


async def test_a_server_of_links_may_be_made_of_dispatchers(autojump_clock):
    echo = Handlers("echo")

    @echo.on_message()
    async def answer(message: Incoming, link: Link) -> None:
        await link.send(await message.read())

    async def serve(link: Link) -> None:
        dispatcher = Dispatcher(link)
        dispatcher.apply(echo)
        await dispatcher.run()

    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(lambda task_status: serve_links(serve, listeners=[listener], task_status=task_status))
        async with (await request_link(listener.dial(), host="memory", resource="/")).running() as link:
            await link.send("hello")
            assert await link.receive() == ["hello"]
        tasks.cancel_scope.cancel()
