"""The hub: a supervised task that tells connections things.

What goes through its inbox, and what does not. Publishes do: `publish` puts a body into a bounded queue, and the
hub task takes all that is there, offers each to its recipients' outboxes (a plain call each), and then flushes every
touched connection once. So a burst costs each recipient one system call, and nobody waits for anybody. Arriving,
leaving, subscribing are plain calls on the roster, made at once by whoever has reason to: there is one thread.

If the hub's own loop fails, it is started again with its roster, and those whom it failed to tell something are told of
a gap; failing more than five times within ten seconds ends it with that error.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Protocol

import attrs
import trio

from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Closed, Misuse
from trio_hub.hub.carrying import Carrier, Carry
from trio_hub.hub.companions import Companion, accompany
from trio_hub.hub.drafting import Drafting, expect
from trio_hub.hub.editing import Editor
from trio_hub.hub.editors import Edit, Editors
from trio_hub.hub.expiry import Expiry
from trio_hub.hub.greeting import Greeter
from trio_hub.hub.inbox import Inbox, Publication
from trio_hub.hub.offering import Offering, Touched
from trio_hub.hub.receipts import Published, Reach, Receipt
from trio_hub.hub.roster import Roster
from trio_hub.hub.statistics import Counts, HubStatistics
from trio_hub.hub.upkeep import keep_watch, relieve
from trio_hub.link.heart import Heart
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseReason, Event
from trio_hub.options import HubOptions
from trio_hub.peer.connection import Connection
from trio_hub.peer.hooks import Plugin
from trio_hub.peer.requests import Handler
from trio_hub.targets import Target, any_of, everyone
from trio_hub.version import VERSION
from trio_hub.wire.bodies import Body, Tally
from trio_hub.wire.codecs import let_go
from trio_hub.wire.frames import close_frame

__all__ = ["Hub", "Tracing"]

log = logging.getLogger("trio_hub.hub")

_MOST_FAILURES = 5
_FAILURE_SPAN = 10.0  # s
_EVERYONE = everyone()
_NOTHING = Body(Event("nothing", {}))  # for nobody
_ACCEPTED = Published(Reach.ACCEPTED)


class Tracing(Protocol):
    """What follows publishes from their publishers to their recipients, where somebody wants to know."""

    def publish(self, name: str) -> AbstractContextManager[Any]:
        """Return what an event of this name is accepted in; what that yields is a cause for `deliver`."""
        ...

    def deliver(self, published: Sequence[Any]) -> AbstractContextManager[Any]:
        """Return what events with these causes are offered in."""
        ...


class Hub:
    """Connections, and the task that tells them things. Run `run` in a nursery; `Server` does.

    `handler` carries out requests, `plugins` hear of connections' moments. `roster` knows who is here, `companions`
    run beside the hub, `editors` are known by name, `tracing` follows publishes, `carrier` is what carries them to
    other nodes, where there are any. Raises `Misuse` for a plugin that is a
    class, and not an object.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        options: HubOptions | None = None,
        plugins: Sequence[Plugin] = (),
        editors: Editors | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.options = options = options or HubOptions()
        for plugin in plugins:
            if isinstance(plugin, type):
                raise Misuse(f"a plugin is an object; make one of {plugin.__name__}")
        self._drafting = Drafting(editors or Editors(), options.outbox.size)
        self._tracing = tracing
        self._tally = Tally()
        self._counts = Counts()
        self._heart = Heart(options.link)
        self._expiry = Expiry()
        self.roster = Roster(
            Greeter(VERSION, options, self._tally),
            self._counts,
            options,
            handler=handler,
            heart=self._heart,
            expiry=self._expiry,
            plugins=tuple(plugins),
        )
        self._inbox = Inbox(options.inbox, self._tally)
        observed = any(hasattr(plugin, "event") for plugin in plugins)
        self._offering = Offering(self._inbox, self.roster, self._tally, self._counts, options, observed=observed)
        self._receipts: set[Receipt] = set()  # that somebody waits for
        self.carrier: Carrier | None = None
        self.companions: list[Companion] = []
        self._closed = False

    def connections(self, of: Target = _EVERYONE) -> list[Connection]:
        """Return every connection that `of` selects, away or not; all of them if nothing is said. Those that have ended
        are none any more.
        """
        return [connection for connection in self.roster.select(of) if not connection.has_ended]

    def close(self, of: Target, close: CloseReason) -> int:
        """End every connection that `of` selects, for good; return how many there were. Never waits.

        What they have asked is cancelled, the handler that calls this included, at its next `await`. With a code from
        4500 on our clients do not come back by themselves. Raises `Misuse`, with nobody closed, for a code that may not
        be sent.
        """
        close_frame(close)
        connections = self.connections(of)
        for connection in connections:
            connection.end(close)
        return len(connections)

    @property
    def inbox_fullness(self) -> float:
        """How full the inbox is, from 0 to 1."""
        return len(self._inbox) / self.options.inbox

    def statistics(self) -> HubStatistics:
        """Return what the hub holds at this moment, and its counters. Looks at every connection: 1 ms per thousand."""
        return HubStatistics.of(
            self._counts,
            self.roster.statistics(),
            self.connections(),
            inbox=len(self._inbox),
            held_size=self._tally.size,
        )

    # -- publishing

    async def publish(
        self,
        event: Event,
        *,
        to: Target,
        delivery: Delivery = MUST,
        editors: Sequence[Editor | Edit] = (),
        carry: Carry = Carry.FAST,
        wait_for: Reach = Reach.ACCEPTED,
        within: float = math.inf,
    ) -> Published:
        """Have `event` delivered to everyone `to` selects, changed by `editors`, and say how far it got.

        `delivery` says what may become of it while it is owed to somebody, `carry` how it gets to other nodes, after it
        was accepted here. What is waited for, and counted, is this node's part alone; but with `Carry.RELIABLY` the
        backplane is waited for, too. Two publishes by one task reach a recipient in that order. Waits while the hub's
        inbox is full; if cancelled then, the event was not taken (cancelled later, while waiting for more than
        `ACCEPTED`, it was). Once it is taken, no more than `within` seconds are spent on waiting for more: how far it
        got by then is what is returned.

        Raises `Misuse`, with nothing published, for an event that cannot be encoded or any other wrong argument, and
        `Closed` after the hub has ended.
        """
        publication = self._drafting.draft(event, to, delivery, editors)
        edits = self._edits(editors, carry)
        expect(wait_for, Reach)
        if not (isinstance(within, int | float) and within >= 0):
            raise Misuse(f"a publish is waited for for some seconds, not for {within!r}")
        if wait_for is not Reach.ACCEPTED:
            publication.receipt = Receipt(wait_for)
        await self._put(publication)
        self._carry(publication, edits, carry)
        if wait_for is Reach.ACCEPTED and carry is not Carry.RELIABLY:
            await trio.lowlevel.cancel_shielded_checkpoint()  # it is taken: too late to be cancelled
            return _ACCEPTED
        return await self._wait(publication, edits, carry, within)

    async def _wait(self, publication: Publication, edits: Sequence[Edit], carry: Carry, within: float) -> Published:
        """Wait for what was asked for, and return how far the event got."""
        receipt, carried = publication.receipt, None
        with trio.move_on_after(within) if within < math.inf else nullcontext():
            if carry is Carry.RELIABLY and self.carrier is not None:
                carried = False
                await self.carrier.carry_reliably(publication, edits)
                carried = True
            if receipt is not None:
                await self._wait_complete(receipt)
        published = _ACCEPTED if receipt is None else self._published(receipt)
        return attrs.evolve(published, carried=carried)

    def _edits(self, editors: Sequence[Editor | Edit], carry: Carry) -> list[Edit]:
        """Return what editors are as data. Raises `Misuse` where that is needed, and one is not."""
        expect(carry, Carry)
        edits = [each for each in editors if isinstance(each, Edit)]
        if self.carrier is not None and carry is not Carry.HERE and len(edits) < len(editors):
            raise Misuse("an editor that is no `Edit` by name stays here: name it, or publish with `Carry.HERE`")
        if edits and self.carrier is not None and carry is not Carry.HERE:
            self.carrier.check(edits)
        return edits

    def _carry(self, publication: Publication, edits: Sequence[Edit], carry: Carry) -> None:
        if self.carrier is not None and carry is Carry.FAST:
            self.carrier.carry(publication, edits)

    async def publish_carried(self, body: Body, name: str, *, to: Target, edits: Sequence[Edit]) -> None:
        """Deliver an event that another node has carried here. Waits while the inbox is full; if cancelled, it was not
        taken. Raises `Misuse` for edits that nobody here knows, and `Closed`.
        """
        await self._put(self._drafting.draft_carried(body, name, to, edits))

    async def publish_all(
        self, events: Sequence[tuple[Event, Target, Delivery, Sequence[Editor | Edit]]]
    ) -> list[Published]:
        """Publish several events in their order, none of them if one cannot be, and wait until all were offered.

        Each is what `publish` takes: event, target, delivery, editors. They are carried fast. Other publishes
        may come between them. If cancelled, the first of them were taken. Raises as `publish` does.
        """
        publications = [self._drafting.draft(event, to, delivery, editors) for event, to, delivery, editors in events]
        carried = [self._edits(editors, Carry.FAST) for _, _, _, editors in events]
        receipts = [Receipt(Reach.OFFERED) for _ in publications]
        for publication, receipt, edits in zip(publications, receipts, carried, strict=True):
            publication.receipt = receipt
            await self._put(publication)
            self._carry(publication, edits, Carry.FAST)
        for receipt in receipts:
            await self._wait_complete(receipt)
        return [self._published(receipt) for receipt in receipts]

    def publish_nowait(
        self,
        event: Event,
        *,
        to: Target,
        delivery: Delivery = MUST,
        editors: Sequence[Editor | Edit] = (),
        carry: Carry = Carry.FAST,
    ) -> Published:
        """Publish without waiting. Raises `trio.WouldBlock` while the inbox is full, `Misuse` for `Carry.RELIABLY`,
        else as `publish` does.
        """
        if carry is Carry.RELIABLY:
            raise Misuse("what is carried reliably is waited for")
        publication = self._drafting.draft(event, to, delivery, editors)
        edits = self._edits(editors, carry)
        if self._tracing is None:
            self._inbox.put_nowait(publication)
        else:
            with self._tracing.publish(event.name) as publication.cause:
                self._inbox.put_nowait(publication)
        self._counts.note_published(publication.name)
        self._carry(publication, edits, carry)
        return _ACCEPTED

    async def wait_offered(self) -> None:
        """Wait until what was published so far, here or by way of other nodes, has been offered."""
        receipt = Receipt(Reach.OFFERED)
        await self._inbox.put(Publication("", _NOTHING, any_of(), receipt=receipt))
        await self._wait_complete(receipt)

    async def wait_carried(self) -> None:
        """Wait until what was carried so far is with the backplane, whatever becomes of this node; or is lost, which
        is counted.
        """
        if self.carrier is not None:
            await self.carrier.wait_left()

    async def wait_written(self) -> None:
        """Wait until what was published so far has been offered, and every link has taken what it may take of it."""
        await self._inbox.wait_done()
        for connection in self.connections():
            await connection.wait_written()

    async def _put(self, publication: Publication) -> None:
        if self._tracing is None:
            await self._inbox.put(publication)
        else:
            with self._tracing.publish(publication.name) as publication.cause:
                await self._inbox.put(publication)
        self._counts.note_published(publication.name)

    async def _wait_complete(self, receipt: Receipt) -> None:
        self._receipts.add(receipt)
        try:
            await receipt.complete.wait()
        finally:
            self._receipts.discard(receipt)

    def _published(self, receipt: Receipt) -> Published:
        published = receipt.published()
        if published.reach is Reach.ACCEPTED and self._closed:
            raise Closed("the hub has ended before anybody was told")
        return published

    # -- the task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The hub task, until cancelled; once. Supervised: see the module's theory."""
        if self._closed:
            raise Misuse("a hub runs once; make another one")
        failures: deque[float] = deque(maxlen=_MOST_FAILURES)
        try:
            async with open_tasks() as tasks:
                tasks.start_soon(self._heart.run)
                tasks.start_soon(self._expiry.run)
                for companion in self.companions:
                    await tasks.start(accompany, companion)
                tasks.start_soon(keep_watch, self.roster, self.options.outbox)
                task_status.started()
                while True:
                    try:
                        await self._deliver_all()
                    except Exception:
                        now = trio.current_time()
                        if len(failures) == _MOST_FAILURES and now - failures[0] < _FAILURE_SPAN:
                            raise
                        failures.append(now)
                        self._counts.restarts += 1
                        log.exception("the hub failed; it goes on with its roster")
        finally:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._inbox.close()
        let_go()
        for receipt in self._receipts:
            receipt.complete.set()

    async def _deliver_all(self) -> None:
        while True:
            await self._inbox.wait()
            await self._deliver_batch()
            budget = self.options.budget
            if self._tally.size > budget:
                relieve(self.roster, self._tally, budget * 7 // 8 + self._inbox.size, self._counts)

    async def _deliver_batch(self) -> None:
        """Offer what is in the inbox, up to a bound, and flush each of those it is for once."""
        touched: Touched = {}
        left = min(len(self._inbox), self.options.batch)
        try:
            while left:
                burst = self._inbox.next_burst(left)
                left -= len(burst)
                try:
                    if self._tracing is None:
                        await self._offering.offer(burst, touched)
                    else:
                        with self._tracing.deliver([publication.cause for publication in burst]):
                            await self._offering.offer(burst, touched)
                except Exception:
                    self.roster.tell_gap(burst[0].target)  # nobody knows who has been offered it
                    raise
            await self._flush(touched)
        finally:
            self._inbox.admit()
            for connection in touched:  # where something has failed
                connection.flush()

    async def _flush(self, touched: Touched) -> None:
        """Flush every connection, and take it out. Yields now and then, so that many of them hold up nobody."""
        while touched:
            for connection in list(islice(touched, self.options.yield_every)):
                del touched[connection]
                connection.flush()
            await trio.lowlevel.checkpoint()
