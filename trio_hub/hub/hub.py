"""The hub: a supervised task that owns one index of connections, and tells them things.

What goes through its inbox, and what does not. Publishes do: `publish` puts a body into a bounded queue, and the
hub task takes all that is there, offers each to its recipients' outboxes (a plain call each), and then flushes every
touched connection once. So a burst costs each recipient one system call, and nobody waits for anybody. Arriving,
leaving, subscribing are plain calls on the index, made at once by whoever has reason to: there is one thread.

If the hub's own loop fails, it is started again with its index, and what it failed at is left behind; failing more
than five times within ten seconds ends it with that error.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import islice

import attrs
import trio

from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Closed, Misuse
from trio_hub.hub.editing import Editing, Editor, check_name
from trio_hub.hub.greeting import Former, Greeter
from trio_hub.hub.index import Index, IndexStatistics
from trio_hub.hub.receipts import Published, Reach, Receipt
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Event
from trio_hub.options import HubOptions
from trio_hub.peer.connection import Connection
from trio_hub.peer.hooks import Plugin
from trio_hub.peer.requests import Handler
from trio_hub.session import Session
from trio_hub.targets import Target, everyone
from trio_hub.version import VERSION
from trio_hub.wire.codecs import Body, Codec, Tally
from trio_hub.wire.outbox import Offer

__all__ = ["Hub", "HubStatistics"]

log = logging.getLogger("trio_hub.hub")

_MOST_FAILURES = 5
_FAILURE_SPAN = 10.0  # s
_LOOKS = 8  # at each connection, within the time that it has for something
_TURN = 512  # connections looked at before other tasks get a turn


@attrs.frozen
class HubStatistics:
    """What the hub holds at this moment, and what has happened in it since it began.

    Held: `inbox` publishes; for all connections together `owed_count` and `kept_count` events of `owed_size` and
    `kept_size` bytes, as if none were shared; and `held_size` bytes of events in all, each counted once, which is
    what `HubOptions.budget` limits.

    Happened: `published` events, `offered` to so many recipients in all, `dropped` as their `Delivery` allows;
    `resumed` connections, `gaps` told of, `relieved` connections of what they held for the budget's sake.
    """

    index: IndexStatistics
    inbox: int
    owed_count: int
    owed_size: int
    kept_count: int
    kept_size: int
    held_size: int
    published: int
    offered: int
    dropped: int
    resumed: int
    gaps: int
    relieved: int
    editor_failures: int
    restarts: int


@attrs.define(eq=False)
class _Publication:
    """A publish on its way through the inbox. `served` and `receipt` are there only where somebody waits for them."""

    body: Body
    target: Target
    editing: Editing | None
    served: trio.Event | None = None
    receipt: Receipt | None = None
    offered: int = 0


@attrs.define
class _Counts:
    published: int = 0
    offered: int = 0
    dropped: int = 0
    resumed: int = 0
    gaps: int = 0
    relieved: int = 0
    editor_failures: int = 0
    restarts: int = 0


class Hub:
    """Connections, and the task that tells them things. Run `run` in a nursery; `Server` does.

    `handler` carries out requests, `plugins` hear of connections' moments.
    """

    def __init__(self, handler: Handler, *, options: HubOptions | None = None, plugins: Sequence[Plugin] = ()) -> None:
        self.options = options or HubOptions()
        self._handler = handler
        self._plugins = tuple(plugins)
        self._index: Index[Connection] = Index()
        self._tally = Tally()
        self._greeter = Greeter(VERSION, self.options, self._tally)
        self._heart = Heart(self.options.link)
        self._inbox: deque[_Publication] = deque()
        self._receipts: set[Receipt] = set()  # that somebody waits for
        self._news = trio.lowlevel.ParkingLot()  # where the hub task waits
        self._room = trio.lowlevel.ParkingLot()  # where publishers wait
        self._at_rest = trio.lowlevel.ParkingLot()  # where those wait who want it to be done with everything
        self._rests = False  # whether it is
        self._counts = _Counts()
        self._closed = False

    def statistics(self) -> HubStatistics:
        """Return what the hub holds at this moment, and its counters. Looks at every connection: 1 ms per thousand."""
        outboxes = [connection.outbox.statistics() for connection in self.connections()]
        counts = attrs.asdict(self._counts)
        counts["dropped"] += sum([each.dropped for each in outboxes])
        return HubStatistics(
            index=self._index.statistics(),
            inbox=len(self._inbox),
            owed_count=sum([each.owed_count for each in outboxes]),
            owed_size=sum([each.owed_size for each in outboxes]),
            kept_count=sum([each.kept_count for each in outboxes]),
            kept_size=sum([each.kept_size for each in outboxes]),
            held_size=self._tally.size,
            **counts,
        )

    # -- publishing

    async def publish(
        self,
        event: Event,
        *,
        to: Target,
        delivery: Delivery = MUST,
        editors: Sequence[Editor] = (),
        wait_for: Reach = Reach.ACCEPTED,
        within: float = math.inf,
    ) -> Published:
        """Have `event` delivered to everyone `to` selects, changed by `editors`, and say how far it got.

        `delivery` says what may become of it while it is owed to somebody. Two publishes by one task reach a
        recipient in that order. Waits while the hub's inbox is full; if cancelled then, the event was not taken
        (cancelled later, while waiting for more than `ACCEPTED`, it was). Once it is taken, no more than `within`
        seconds are spent on waiting for more: how far it got by then is what is returned.

        Raises `Misuse` for an event that cannot be encoded, and `Closed` after the hub has ended.
        """
        publication = self._publication(event, to, delivery, editors)
        if wait_for is Reach.OFFERED:
            publication.served = trio.Event()
        elif wait_for is not Reach.ACCEPTED:
            publication.receipt = Receipt(wait_for)
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._put(publication)
        with trio.move_on_after(within):
            if publication.served is not None:
                return await self._served(publication)
            if publication.receipt is not None:
                return await self._followed(publication.receipt)
        if publication.receipt is not None:
            return publication.receipt.published()
        await trio.lowlevel.cancel_shielded_checkpoint()  # it is taken: too late to be cancelled
        return Published(Reach.ACCEPTED)

    async def publish_all(self, events: Sequence[tuple[Event, Target, Delivery]]) -> list[Published]:
        """Publish several events in their order, none of them if one cannot be, and wait until all were offered.

        Other publishes may come between them. If cancelled, the first of them were taken. Raises as `publish` does.
        """
        publications = [self._publication(event, to, delivery, ()) for event, to, delivery in events]
        for publication in publications:
            publication.served = trio.Event()
            await self._put(publication)
        return [await self._served(publication) for publication in publications]

    def publish_nowait(
        self, event: Event, *, to: Target, delivery: Delivery = MUST, editors: Sequence[Editor] = ()
    ) -> Published:
        """Publish without waiting. Raises `trio.WouldBlock` while the inbox is full, else as `publish` does."""
        publication = self._publication(event, to, delivery, editors)
        if len(self._inbox) >= self.options.inbox:
            raise trio.WouldBlock
        self._take(publication)
        return Published(Reach.ACCEPTED)

    async def wait_written(self) -> None:
        """Wait until what was published so far has been offered, and every link has taken what it may take of it."""
        while (self._inbox or not self._rests) and not self._closed:
            await self._at_rest.park()
        for connection in self.connections():
            await connection.wait_written()

    def _publication(self, event: Event, to: Target, delivery: Delivery, editors: Sequence[Editor]) -> _Publication:
        check_name(event)
        self._index.select(to)  # raises where nobody knows how
        if event.broadcast is None:
            event = Event(event.name, event.data, to.public())
        encode = partial(Body, delivery=delivery, expires_at=trio.current_time() + delivery.lifetime, tally=self._tally)
        body = encode(event)
        if body.size > self.options.outbox.size // 2:
            raise Misuse(f"an event of {body.size} bytes; a connection may be owed {self.options.outbox.size} in all")
        return _Publication(body, to, Editing(event, editors, encode) if editors else None)

    async def _put(self, publication: _Publication) -> None:
        """Put a publish into the inbox, waiting for room."""
        while len(self._inbox) >= self.options.inbox and not self._closed:
            await self._room.park()
        self._take(publication)

    async def _served(self, publication: _Publication) -> Published:
        assert publication.served is not None
        await publication.served.wait()
        if self._closed:
            raise Closed("the hub has ended")
        return Published(Reach.OFFERED, publication.offered)

    async def _followed(self, receipt: Receipt) -> Published:
        self._receipts.add(receipt)
        try:
            await receipt.complete.wait()
        finally:
            self._receipts.discard(receipt)
        if self._closed:
            raise Closed("the hub has ended")
        return receipt.published()

    def _take(self, publication: _Publication) -> None:
        if self._closed:
            raise Closed("the hub has ended")
        self._inbox.append(publication)
        self._counts.published += 1
        self._news.unpark()

    # -- the task

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The hub task, until cancelled. Supervised: see the module's theory."""
        failures: deque[float] = deque(maxlen=_MOST_FAILURES)
        try:
            async with open_tasks() as tasks:
                tasks.start_soon(self._heart.run)
                tasks.start_soon(self._keep_watch)
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
                        log.exception("the hub failed; it goes on with its index")
        finally:
            self._close()

    def _close(self) -> None:
        self._closed = True
        for publication in self._inbox:
            if publication.served is not None:
                publication.served.set()
        for receipt in self._receipts:
            receipt.complete.set()
        self._inbox.clear()
        self._at_rest.unpark_all()
        self._room.unpark_all()

    async def _deliver_all(self) -> None:
        while True:
            while not self._inbox:
                self._rests = True
                self._at_rest.unpark_all()
                await self._news.park()
            self._rests = False
            touched: dict[Connection, None] = {}
            left = min(len(self._inbox), self.options.batch)
            try:
                while left:
                    burst = self._next_burst(left)
                    left -= len(burst)
                    await self._deliver(burst, touched)
                await self._flush(touched)
                if self._tally.size > self.options.budget:
                    self._relieve()
            finally:
                self._room.unpark_all()
                for connection in touched:  # where something has failed
                    connection.flush()

    async def _flush(self, touched: dict[Connection, None]) -> None:
        """Flush every connection, and take it out; yields as `_deliver` does."""
        while touched:
            for connection in list(islice(touched, self.options.yield_every)):
                del touched[connection]
                connection.flush()
            await trio.lowlevel.checkpoint()

    def _next_burst(self, most: int) -> list[_Publication]:
        """Take from the inbox what can be offered in one go: publishes to one target, or one that is edited."""
        inbox = self._inbox
        burst = [inbox.popleft()]
        if burst[0].editing is None:
            while len(burst) < most and inbox[0].target == burst[0].target and inbox[0].editing is None:
                burst.append(inbox.popleft())
        return burst

    async def _deliver(self, burst: list[_Publication], touched: dict[Connection, None]) -> None:
        """Offer a burst to everyone it is for. Yields now and then, so that many recipients hold up nobody."""
        recipients = list(self._index.select(burst[0].target))
        offer = self._offer if burst[0].editing is None else self._offer_edited
        step = self.options.yield_every
        try:
            for start in range(0, len(recipients), step):
                if start:
                    await trio.lowlevel.checkpoint()
                offer(burst, recipients[start : start + step], touched)
        finally:
            for publication in burst:
                self._counts.offered += publication.offered
                if publication.served is not None:
                    publication.served.set()
                if publication.receipt is not None:
                    publication.receipt.nobody_else()

    def _offer(self, burst: list[_Publication], recipients: list[Connection], touched: dict[Connection, None]) -> None:
        """Offer every event to every recipient: one call for each recipient, not for each event."""
        bodies = [publication.body for publication in burst]
        size = sum([body.size for body in bodies])
        is_plain = all(each.body.delivery is MUST and each.receipt is None for each in burst)
        is_alone = len(burst) == 1 and burst[0].receipt is None and not touched and not self._inbox
        queued: list[Connection] = []
        for connection in recipients:
            if is_alone and connection.pass_on(bodies[0]):  # nothing else will be written with it
                continue
            if not (is_plain and connection.outbox.offer_all(bodies, size)):
                for publication in burst:
                    publication.offered -= not self._owe(connection, publication.body, publication.receipt)
            queued.append(connection)
        touched.update(dict.fromkeys(queued))
        for publication in burst:
            publication.offered += len(recipients)

    def _offer_edited(
        self, burst: list[_Publication], recipients: list[Connection], touched: dict[Connection, None]
    ) -> None:
        """Offer one event to every recipient, in the form that its editors make for them."""
        (publication,) = burst
        editing = publication.editing
        assert editing is not None
        failures = editing.failures
        for connection in recipients:
            body = editing.body_for(connection)
            if body is None:
                continue
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
            self._overflow(connection)
            connection.outbox.offer(body)
        if offer is not Offer.DROPPED and receipt is not None:
            receipt.follow(connection, body)
        return offer is not Offer.DROPPED

    def _overflow(self, connection: Connection) -> None:
        """Too much is owed. Who is here is told in band and stays; who is away is given up, and told on return."""
        if self._index.get(connection.id) is not connection:
            return  # it has left meanwhile
        if connection.attached:
            self._restart(connection, "overflow")
        else:
            self._left(connection, "overflow")
            connection.give_up()

    def _relieve(self) -> None:
        """Have connections forget what they hold, in the order that `HubOptions.budget` states."""
        waiting = sum([publication.body.size for publication in self._inbox])
        enough = self.options.budget * 7 // 8 + waiting
        for connection in sorted(self.connections(), key=lambda each: (each.attached, -each.outbox.size)):
            if self._tally.size <= enough:
                return
            self._overflow(connection)
            self._counts.relieved += 1
            connection.flush()

    async def _keep_watch(self) -> None:
        """Look at every connection now and then: is it owed something, or to acknowledge something, for too long?"""
        options = self.options.outbox
        while True:
            await trio.sleep(min(options.age, options.acknowledge_within) / _LOOKS)
            for count, connection in enumerate(self.connections(), 1):
                now = trio.current_time()
                connection.outbox.drop_expired(now)
                if connection.is_owed_too_long(now):
                    self._overflow(connection)
                    connection.flush()
                connection.press(now)
                if count % _TURN == 0:
                    await trio.lowlevel.checkpoint()

    # -- who is here

    def admit(
        self, link: Link, session: Session, codec: Codec, *, resume: tuple[str, int] | None = None
    ) -> tuple[Connection, bool]:
        """Give a link to the connection it asks for, or to a new one; return that, and whether it is new.

        `resume` is the connection id and the number of the next event that the client expects. The caller must run
        a new connection's `live`; a living one sees to the link itself. Either way the client is told, before
        anything else, if anything is lost.
        """
        gap = None
        if resume is not None:
            found = self._resume(link, session, codec, *resume)
            if isinstance(found, Connection):
                return found, False
            gap = found
        id = self._greeter.new_id()
        connection = Connection(
            id,
            session,
            codec,
            self._greeter.hello(id, gap),
            tells_gap=gap is not None,
            options=self.options,
            handler=self._handler,
            heart=self._heart,
            plugins=self._plugins,
            left=self._left,
        )
        self._index.add(connection)
        self._counts.gaps += gap is not None
        connection.hand_over(link)
        return connection, True

    def _resume(self, link: Link, session: Session, codec: Codec, id: str, wanted: int) -> Connection | Former:
        """Hand the link over to the connection with this id, or return why there is none for this client."""
        connection, former = self._find(id)
        if connection is None:
            return former or Former("unknown", None)
        if connection.user != session.user or connection.codec is not codec:
            return Former("unknown", None)  # somebody else's: it must not even be told that it exists
        connection.session = session
        outbox = connection.outbox
        resumed = former is None and outbox.resume(wanted)
        if resumed:
            self._counts.resumed += 1
        elif former is None:
            self._restart(connection, "overflow" if wanted < outbox.first_kept else "unknown")
        elif not outbox.untouched:  # it never saw the hello of the id that it has by now
            self._restart(connection, former.reason, former.last)
        connection.hand_over(link, resumed=resumed)
        return connection

    def _find(self, id: str) -> tuple[Connection | None, Former | None]:
        """Return the connection that has this id, or had it; and what became of the id, if that is no more."""
        former = None
        while (connection := self._index.get(id)) is None:
            found = self._greeter.former(id)
            former = former or found
            if found.successor is None:
                break
            id = found.successor
        return connection, former

    def _restart(self, connection: Connection, reason: str, last: int | None = None) -> None:
        """Have the connection begin anew with a hello that tells of the gap: under a new id, if it saw the old one."""
        outbox = connection.outbox
        if outbox.untouched and connection.tells_gap:
            outbox.shed()
            return
        self._counts.gaps += 1
        id = connection.id
        gap = Former(reason, None)
        if not outbox.untouched:
            id = self._greeter.new_id()
            gap = Former(reason, outbox.next_number - 1 if last is None else last, id)
            self._greeter.remember(connection.id, gap)
            self._index.rename(connection, id)
        connection.restart(id, self._greeter.hello(id, gap, connection.highest_request), reason)

    def _left(self, connection: Connection, reason: str) -> None:
        """Take a connection out of the index, and remember why, if it is still there."""
        if self._index.get(connection.id) is connection:
            self._greeter.remember(connection.id, Former(reason, connection.outbox.next_number - 1))
            self._index.remove(connection)
            self._counts.dropped += connection.outbox.statistics().dropped

    def subscribe(self, connection: Connection, topic: str) -> bool:
        """Subscribe a connection to a topic, from the next publish on; False if it was. Never waits.

        Raises `Misuse` beyond the number of topics that a connection may have.
        """
        if len(connection.topics) >= self.options.topics and topic not in connection.topics:
            raise Misuse(f"a connection may subscribe to {self.options.topics} topics")
        return self._index.subscribe(connection, topic)

    def unsubscribe(self, connection: Connection, topic: str) -> bool:
        """End a subscription; False if there was none. Never waits."""
        return self._index.unsubscribe(connection, topic)

    def select(self, target: Target) -> list[Connection]:
        """Return the connections that a target stands for at this moment."""
        return list(self._index.select(target))

    def has_room_for(self, resume: tuple[str, int] | None) -> bool:
        """Whether one more may come: the hub is not full, or it has a place here already."""
        if self._index.statistics().connections < self.options.connections:
            return True
        return resume is not None and self._find(resume[0])[0] is not None

    def connections(self) -> list[Connection]:
        """Return every connection, away or not."""
        return self.select(everyone())
