"""What a hub sees to beside delivering: that nobody holds too much, or anything for too long."""

from __future__ import annotations

import logging

import trio

from trio_hub.hub.roster import Roster
from trio_hub.hub.statistics import Counts
from trio_hub.options import OutboxOptions
from trio_hub.peer.connection import Connection
from trio_hub.wire.bodies import Tally
from trio_hub.wire.codecs import let_go

__all__ = ["keep_watch", "relieve"]

log = logging.getLogger("trio_hub.hub")

_LOOKS = 8  # at each connection, within the time that it has for something
_TURN = 512  # connections looked at before other tasks get a turn


async def keep_watch(roster: Roster, options: OutboxOptions) -> None:
    """Look at every connection now and then: is it owed something, or to acknowledge something, for too long?"""
    while True:
        await trio.sleep(min(options.age, options.acknowledge_within) / _LOOKS)
        for count, connection in enumerate(roster.connections(), 1):
            try:
                _look_at(connection, roster)
            except Exception:
                log.exception("connection %s cannot be looked after", connection.id)
            if count % _TURN == 0:
                await trio.lowlevel.checkpoint()
        let_go()


def _look_at(connection: Connection, roster: Roster) -> None:
    now = trio.current_time()
    connection.outbox.drop_expired(now)
    if connection.is_owed_too_long(now):
        roster.overflow(connection)
        connection.flush()
    connection.press(now)


def relieve(roster: Roster, tally: Tally, enough: int, counts: Counts) -> None:
    """Have connections forget what they hold, in the order that `HubOptions.budget` states, until that is `enough`."""
    let_go()
    holders = [connection for connection in roster.connections() if connection.outbox.holds_more_than_a_hello]
    for connection in sorted(holders, key=lambda each: (each.attached, -each.outbox.size)):
        if tally.size <= enough:
            return
        roster.overflow(connection)
        connection.flush()
        counts.relieved += 1
