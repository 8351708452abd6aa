"""What came and was not handled, and how far it was handled."""

import pytest
import trio

from trio_hub import Closed, Event, Gap
from trio_hub.peer.mailbox import Mailbox, Position


def at(n, id="a"):
    return Position(id, n)


def filled(count, limit=100):
    mailbox = Mailbox(limit, at(0))
    for n in range(count):
        mailbox.put(Event("e", n), at(n + 1))
    return mailbox


async def test_an_event_is_handled_when_the_next_is_asked_for():
    mailbox = filled(3)
    assert (await mailbox.take()).data == 0
    assert mailbox.position == at(0)
    assert (await mailbox.take()).data == 1
    assert (mailbox.position, mailbox.handled) == (at(1), 1)
    mailbox.settle()
    assert (mailbox.position, mailbox.handled) == (at(2), 2)


async def test_a_gap_stands_where_it_is_and_what_is_behind_it_is_whole():
    mailbox = filled(2)
    mailbox.put(Gap("expired", 1), at(1, "b"))
    mailbox.put(Event("e", "after"), at(2, "b"))
    assert [each.data for each in await mailbox.take_all()] == [0, 1]
    with pytest.raises(Gap):
        await mailbox.take_all()
    assert mailbox.position == at(2)  # who dies here is told of the gap again
    assert [each.data for each in await mailbox.take_all()] == ["after"]
    assert mailbox.position == at(1, "b")


async def test_taking_waits_and_a_cancel_takes_nothing(autojump_clock):
    mailbox = filled(0)
    with trio.move_on_after(1):
        await mailbox.take()
    mailbox.put(Event("e", 0), at(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.take()
    assert (await mailbox.take()).data == 0


async def test_a_full_mailbox_asks_to_wait_until_there_is_room(autojump_clock):
    mailbox = filled(3, limit=3)
    with trio.move_on_after(1) as scope:
        await mailbox.wait_for_room()
    assert scope.cancelled_caught
    await mailbox.take()
    await mailbox.wait_for_room()


async def test_the_end_comes_after_everything_else():
    mailbox = filled(1)
    mailbox.end(Closed("over"))
    assert (await mailbox.take()).data == 0
    for _ in range(2):
        with pytest.raises(Closed):
            await mailbox.take()


async def test_the_end_wakes_whoever_waits(autojump_clock):
    mailbox = filled(0)

    async def wait():
        with pytest.raises(Closed):
            await mailbox.take()

    async with trio.open_nursery() as tasks:
        tasks.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.end(Closed("over"))


async def test_what_is_not_for_its_reader_is_handled_with_what_came_before_it():
    mailbox = Mailbox(100, at(0))
    mailbox.pass_by(at(1), 10)
    assert (mailbox.position, mailbox.handled, mailbox.handled_size) == (at(1), 1, 10)
    mailbox.put(Event("e", 1), at(2), 5)
    mailbox.pass_by(at(3), 10)
    mailbox.pass_by(at(4), 10)
    assert mailbox.position == at(1)
    await mailbox.take()
    mailbox.pass_by(at(5), 10)
    assert (mailbox.position, mailbox.handled) == (at(1), 1)
    mailbox.settle()
    assert (mailbox.position, mailbox.handled, mailbox.handled_size) == (at(5), 5, 45)


async def test_a_gap_is_held_with_all_that_is_behind_it(autojump_clock):
    mailbox = filled(0)
    with mailbox.holding_gaps():
        mailbox.put(Gap("moved", 1), at(1, "b"))
        mailbox.put(Event("e", "after"), at(2, "b"))
        with trio.move_on_after(1) as scope:
            await mailbox.take()
        assert scope.cancelled_caught
    with pytest.raises(Gap):
        await mailbox.take()
    assert (await mailbox.take()).data == "after"
    mailbox.settle()
    assert mailbox.position == at(2, "b")


async def test_a_gap_that_cannot_be_held_any_longer_is_told_and_told_again_when_it_may_be(autojump_clock):
    mailbox = filled(0)
    with mailbox.holding_gaps():
        mailbox.put(Gap("moved", 1), at(1, "b"))
        mailbox.hold_no_longer()
        with pytest.raises(Gap):
            await mailbox.take()
        mailbox.put(Event("e", "between"), at(2, "b"))
        assert (await mailbox.take()).data == "between"
    with pytest.raises(Gap) as told:
        await mailbox.take()
    assert (told.value.reason, told.value.last) == ("moved", 1)
    mailbox.settle()
    assert mailbox.position == at(2, "b")


async def test_a_gap_is_told_again_also_where_a_full_mailbox_could_not_hold_it():
    mailbox = filled(0, limit=2)
    with mailbox.holding_gaps():
        mailbox.put(Gap("moved", 1), at(1, "b"))
        mailbox.put(Event("e", "after"), at(2, "b"))
        with pytest.raises(Gap):
            await mailbox.take()
    assert (await mailbox.take()).data == "after"
    with pytest.raises(Gap):
        await mailbox.take()
