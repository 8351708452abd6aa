"""The status of a link: who watches is told of each change, once, in order, and cannot hurt it."""

from __future__ import annotations

import logging

from tests.link.pairs import link_and_peer, linked_in_memory
from trio_hub.link.link import Link
from trio_hub.messages import CloseReason, LinkStatus
from trio_hub.testing import Cable

CONNECTING, READY, CLOSED = LinkStatus.CONNECTING, LinkStatus.READY, LinkStatus.CLOSED


async def test_a_link_is_connecting_then_ready_then_closed(autojump_clock):
    told = []
    cable = Cable()
    link = Link(cable.near, client=True)
    assert link.status is CONNECTING
    link.watch_status(lambda previous, new: told.append((previous, new)))
    async with link.running():
        assert link.status is READY
        cable.far.hang_up()
        async for _ in link:
            pass
        assert link.status is CLOSED
    assert told == [(CONNECTING, READY), (READY, CLOSED)]


async def test_closed_is_told_once_whoever_ends_it_and_knows_why(autojump_clock):
    told = []
    async with link_and_peer() as (link, _):
        link.watch_status(lambda previous, new: told.append((new, link.closed)))
        link.end(CloseReason(4000, "enough"))
        link.end(CloseReason(4001, "again"))
        link._die(CloseReason(1006))
    assert told == [(CLOSED, CloseReason(4000, "enough"))]


async def test_a_link_that_never_ran_is_closed_all_the_same(autojump_clock):
    async with linked_in_memory() as (client, _):
        assert client.status is CONNECTING
    assert client.status is CLOSED


async def test_who_stops_watching_is_told_nothing_more(autojump_clock):
    one, two = [], []
    async with link_and_peer() as (link, _):
        stop = link.watch_status(lambda *change: one.append(change))
        link.watch_status(lambda *change: two.append(change))
        stop()
        stop()
    assert (one, two) == ([], [(READY, CLOSED)])


async def test_a_watcher_that_raises_is_logged_and_the_others_are_told(autojump_clock, caplog):
    told = []
    async with link_and_peer() as (link, _):
        link.watch_status(lambda *change: 1 / 0)
        link.watch_status(lambda *change: told.append(change))
    assert told == [(READY, CLOSED)]
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info[0] is ZeroDivisionError
