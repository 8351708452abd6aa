"""Offering: a burst of publishes goes into the outbox of everyone it is for. Plain calls; nobody is waited for."""

from __future__ import annotations

import trio

from trio_hub.hub.inbox import Inbox, Publication
from trio_hub.hub.receipts import Receipt
from trio_hub.hub.roster import Roster
from trio_hub.hub.statistics import Counts
from trio_hub.peer.connection import Connection
from trio_hub.wire.codecs import Body, Tally
from trio_hub.wire.outbox import Offer

__all__ = ["Offering", "Touched"]

Touched = dict[Connection, None]
"""Connections that are owed something new, and are still to be flushed; in their order."""


class Offering:
    """Offers what was taken from `inbox` to those of `roster` it is for, to `step` of them before others get a turn."""

    def __init__(self, inbox: Inbox, roster: Roster, tally: Tally, counts: Counts, *, step: int) -> None:
        self._tally = tally
        self._inbox = inbox
        self._roster = roster
        self._counts = counts
        self._step = step

    async def offer(self, burst: list[Publication], touched: Touched) -> None:
        """Offer a burst to everyone it is for. Yields now and then, so that many recipients hold up nobody.

        An event that is alone (`touched` and the inbox are empty) is written at once where that is possible: nothing
        else would be written with it.
        """
        recipients = self._roster.select(burst[0].target)
        offer = self._offer if burst[0].editing is None else self._offer_edited
        step = self._step
        try:
            for start in range(0, len(recipients), step):
                turn = recipients[start : start + step]
                if start:
                    await trio.lowlevel.checkpoint()
                    turn = [connection for connection in turn if not connection.has_ended]
                offer(burst, turn, touched)
        finally:
            for publication in burst:
                self._counts.offered += publication.offered
                if publication.receipt is not None:
                    publication.receipt.nobody_else(publication.offered)

    def _offer(self, burst: list[Publication], recipients: list[Connection], touched: Touched) -> None:
        """Offer every event to every recipient: one call for each recipient, not for each event."""
        bodies = [publication.body for publication in burst]
        size = sum([body.size for body in bodies])
        is_plain = all(publication.is_plain for publication in burst)
        is_alone = is_plain and len(burst) == 1 and not touched and not self._inbox
        queued: list[Connection] = []
        for connection in recipients:
            if is_alone and connection.pass_on(bodies[0]):
                continue
            if not (is_plain and connection.outbox.offer_all(bodies, size)):
                for publication in burst:
                    publication.offered -= not self._owe(connection, publication.body, publication.receipt)
            queued.append(connection)
        touched.update(dict.fromkeys(queued))
        for publication in burst:
            publication.offered += len(recipients)

    def _offer_edited(self, burst: list[Publication], recipients: list[Connection], touched: Touched) -> None:
        """Offer one event to every recipient, in the form that its editors make for them."""
        (publication,) = burst
        editing = publication.editing
        assert editing is not None
        failures = editing.failures
        for connection in recipients:
            body = editing.body_for(connection)
            if body is None:
                continue
            body.count_in(self._tally)
            publication.offered += self._owe(connection, body, publication.receipt)
            touched[connection] = None
        self._counts.editor_failures += editing.failures - failures

    def _owe(self, connection: Connection, body: Body, receipt: Receipt | None) -> bool:
        """Owe one event to a recipient, whatever it takes; False where it was dropped, as it allows."""
        if body.delivery.volatile and not connection.attached:
            self._counts.dropped += 1
            return False
        offer = connection.outbox.offer(body)
        if offer is Offer.FULL:
            connection.outbox.drop_expired(trio.current_time())
            offer = connection.outbox.offer(body)
        if offer is Offer.FULL:
            self._roster.overflow(connection)
            offer = connection.outbox.offer(body)
        if offer is Offer.TAKEN and receipt is not None and receipt.follows:
            receipt.follow(connection, body)
        return offer is Offer.TAKEN
