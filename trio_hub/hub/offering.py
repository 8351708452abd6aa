"""Offering: a burst of publishes goes into the outbox of everyone it is for. Plain calls; nobody is waited for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from trio_hub.hub.editing import Editing
from trio_hub.hub.inbox import Inbox, Publication
from trio_hub.hub.receipts import Receipt
from trio_hub.hub.roster import Roster
from trio_hub.hub.statistics import Counts
from trio_hub.options import HubOptions
from trio_hub.peer.broadcast import broadcast
from trio_hub.peer.connection import Connection
from trio_hub.wire.bodies import Body, Tally
from trio_hub.wire.kept import Run
from trio_hub.wire.outbox import Offer

__all__ = ["Offering", "Touched"]

Touched = dict[Connection, None]
"""Connections that are owed something new, and are still to be flushed; in their order."""


class Offering:
    """Offers what was taken from `inbox` to those of `roster` it is for.

    Where events are `observed`, by plugins, each is offered by itself, which costs a few times as much.
    """

    def __init__(
        self, inbox: Inbox, roster: Roster, tally: Tally, counts: Counts, options: HubOptions, *, observed: bool
    ) -> None:
        self._tally = tally
        self._inbox = inbox
        self._roster = roster
        self._counts = counts
        self._observed = observed
        self._step = options.yield_every
        self._piece_size = options.link.piece_size

    async def offer(self, burst: list[Publication], touched: Touched) -> None:
        """Offer a burst to everyone it is for. Yields now and then, so that many recipients hold up nobody.

        A burst that is alone (`touched` and the inbox are empty) is written at once where that is possible: nothing
        else would be written with it.
        """
        began = trio.current_time()
        recipients = self._roster.select(burst[0].target)
        offer = self._offering_of(burst, is_alone=not (touched or self._inbox))
        step = self._step
        try:
            for start in range(0, len(recipients), step):
                if start:
                    await trio.lowlevel.checkpoint()
                touched.update(dict.fromkeys(offer(recipients[start : start + step])))
        finally:
            self._counts.fan_out.note(trio.current_time() - began)
            self._counts.broadcast += len(burst)
            for publication in burst:
                self._counts.offered += publication.offered
                if publication.receipt is not None:
                    publication.receipt.nobody_else(publication.offered)

    def _offering_of(
        self, burst: list[Publication], *, is_alone: bool
    ) -> Callable[[list[Connection]], list[Connection]]:
        """Return how this burst is offered: a function of recipients that returns whom to flush.

        Those who have ended since they were selected are passed over (nothing can go straight to them).
        """
        if burst[0].editing is not None:
            return partial(self._offer_edited, burst[0], burst[0].editing)
        run = Run([publication.body for publication in burst])
        if self._observed or not all(publication.is_plain for publication in burst):
            return partial(self._offer_each, burst)
        if is_alone and run.size <= self._piece_size:
            return partial(self._offer_straight, burst, run)
        return partial(self._offer_plain, burst, run)

    def _offer_straight(self, burst: list[Publication], run: Run, recipients: list[Connection]) -> list[Connection]:
        """Write all to every recipient who keeps up; the others are offered it."""
        behind = broadcast(run, recipients)
        for publication in burst:
            publication.offered += len(recipients) - len(behind)
        return self._offer_plain(burst, run, behind)

    def _offer_plain(self, burst: list[Publication], run: Run, recipients: list[Connection]) -> list[Connection]:
        """Offer all to every recipient: one call for each recipient, not for each event."""
        here = [connection for connection in recipients if not connection.has_ended]
        full = [connection for connection in here if not connection.outbox.offer_all(run.bodies, run.size)]
        for publication in burst:
            publication.offered += len(here) - len(full)
        self._offer_each(burst, full)
        return here

    def _offer_each(self, burst: list[Publication], recipients: list[Connection]) -> list[Connection]:
        """Offer every event to every recipient."""
        here = [connection for connection in recipients if not connection.has_ended]
        for connection in here:
            for publication in burst:
                publication.offered += self._owe(connection, publication.body, publication.receipt)
        return here

    def _offer_edited(
        self, publication: Publication, editing: Editing, recipients: list[Connection]
    ) -> list[Connection]:
        """Offer one event to every recipient, in the form that its editors make for them."""
        heard: list[Connection] = []
        failures = editing.failures
        for connection in recipients:
            body = None if connection.has_ended else editing.body_for(connection)
            if body is None:
                continue
            body.count_in(self._tally)
            body.mark = publication.body.mark
            publication.offered += self._owe(connection, body, publication.receipt)
            heard.append(connection)
        self._counts.editor_failures += editing.failures - failures
        return heard

    def _owe(self, connection: Connection, body: Body, receipt: Receipt | None) -> bool:
        """Owe one event to a recipient, whatever it takes; False where it was dropped, as it allows."""
        if body.delivery.volatile and not connection.attached:
            self._counts.dropped["away"] += 1
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
        if offer is Offer.TAKEN and self._observed:
            connection.observe(body.event)
        return offer is Offer.TAKEN
