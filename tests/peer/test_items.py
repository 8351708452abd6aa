"""Items of a streamed reply, at both ends, at a desk."""

from contextlib import aclosing

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub import Closed, Misuse, PeerFault, RequestFailed
from trio_hub.messages import Item, Request
from trio_hub.peer.items import Allowance, Items, is_stream, send_items


def asked(window=4):
    said = []
    return Items(Request(7, "count", items=window), "...", lambda seq, items: said.append((seq, items))), said


async def test_more_is_asked_for_when_half_was_taken():
    items, said = asked(window=4)
    for n in range(4):
        items.put(n)
    assert [await anext(items) for _ in range(4)] == [0, 1, 2, 3]
    assert said == [(7, 6), (7, 8)]
    assert items.has_more


async def test_one_too_many_is_a_fault():
    items, _ = asked(window=2)
    items.put(1)
    items.put(2)
    with pytest.raises(PeerFault, match="more items for request 7"):
        items.put(3)


async def test_what_came_before_the_end_comes_first_and_the_end_stays():
    items, said = asked(window=2)
    items.put(1)
    items.end(RequestFailed(409, "conflict", "not now"))
    items.end(None)  # too late
    assert await anext(items) == 1
    for _ in range(2):
        with pytest.raises(RequestFailed, match="conflict"):
            await anext(items)
    assert said == []


async def test_only_one_task_may_wait():
    items, _ = asked()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(anext, items)
        await wait_all_tasks_blocked()
        with pytest.raises(Misuse):
            await anext(items)
        items.put(1)


async def test_leaving_wakes_who_waits_and_keeps_nothing():
    items, _ = asked()
    ends = []

    async def take():
        try:
            await anext(items)
        except Closed as closed:
            ends.append(closed)

    async with trio.open_nursery() as tasks:
        tasks.start_soon(take)
        await wait_all_tasks_blocked()
        items.leave()
    assert len(ends) == 1
    items.put("late")


async def test_what_is_a_stream():
    async def generate():
        yield 1

    class Iterator:
        async def __anext__(self):
            raise StopAsyncIteration

    async with aclosing(generate()) as generator:
        assert is_stream(generator)
    assert is_stream(Iterator())
    assert not any(is_stream(each) for each in (None, {}, [], "x", 1, iter([]), Iterator))


class Outlet:
    def __init__(self):
        self.said = []
        self.room = trio.Event()

    async def wait_for_room(self):
        await self.room.wait()

    def put(self, said):
        self.said.append(said)


async def test_nothing_is_made_without_room_or_leave_and_iterators_need_no_close():
    class Counting:
        made = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.made += 1
            return self.made

    counting, outlet, allowance = Counting(), Outlet(), Allowance(2)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(send_items, counting, 7, allowance, outlet)
        await wait_all_tasks_blocked()
        assert counting.made == 0
        outlet.room.set()
        await wait_all_tasks_blocked()
        assert counting.made == 2
        for items in (1, 2, 3, 3):
            allowance.extend(items)
        await wait_all_tasks_blocked()
        assert outlet.said == [Item(7, 1), Item(7, 2), Item(7, 3)]
        tasks.cancel_scope.cancel()
