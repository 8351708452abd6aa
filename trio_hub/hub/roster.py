"""Who is here, and who was: how connections come, come back, begin anew and leave. Plain calls, made at once.

Whoever comes back goes on where it was, or is told that something is lost, before anything else. The decision is
made here, in one place, from what the outbox still holds and from what is remembered of those who have left.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from ipaddress import IPv6Address

import trio

from trio_hub.bucket import Bucket
from trio_hub.errors import HubError, Misuse
from trio_hub.hub.allowances import Allowances
from trio_hub.hub.expiry import Expiry
from trio_hub.hub.greeting import Former, Greeter
from trio_hub.hub.index import Index, IndexStatistics
from trio_hub.hub.places import Place, who_goes
from trio_hub.hub.statistics import Counts
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import HubOptions
from trio_hub.peer.connection import Connection
from trio_hub.peer.hooks import Plugin
from trio_hub.peer.requests import Handler
from trio_hub.session import Session
from trio_hub.targets import Target, everyone
from trio_hub.wire.codecs import Codec

__all__ = ["Full", "Roster", "TooManySessions"]

log = logging.getLogger("trio_hub.hub")

_TOO_MANY_FROM_THERE = "There are too many connections from your address"
_REPLACED = CloseReason(CloseCode.SESSION_REPLACED, "another session of this user took its place")


class Full(HubError):
    """There is no place for one more connection."""


class TooManySessions(HubError):
    """There is no place for one more connection of this user."""


class Roster:
    """The connections of one hub, away ones included.

    Those in `on_change` are called with each that came, left, lost its link, got another one, has another id, or hears
    other topics than before. They must not wait.
    """

    def __init__(
        self,
        greeter: Greeter,
        counts: Counts,
        options: HubOptions,
        *,
        handler: Handler,
        heart: Heart,
        expiry: Expiry,
        plugins: Sequence[Plugin],
    ) -> None:
        self._greeter = greeter
        self._counts = counts
        self._options = options
        self._handler = handler
        self._heart = heart
        self._plugins = plugins
        self._expiry = expiry
        self._allowances = Allowances(options, counts)
        self._arrivals = None if options.arrivals is None else Bucket(options.arrivals)
        self._index: Index[Connection] = Index()
        self.on_change: list[Callable[[Connection], None]] = []
        self._at: Counter[str] = Counter()  # connections by where they came from last
        self._strangers: Counter[str] = Counter()  # who is on the way in, likewise
        self._stranger_count = 0  # of all of them

    def statistics(self) -> IndexStatistics:
        """Return how many connections, users and topics there are."""
        return self._index.statistics()

    # -- coming and leaving

    def take_place(self, resume: tuple[str, int] | None, address: str) -> Callable[[], None]:
        """Have one more stranger on the way in from this address, and return what gives their place back: until that is
        called, they count as a connection. Raises `Full` where there is no place.

        Every one that is asked for counts as an arrival.
        """
        area = _area_of(address)
        why_not = self._why_not(resume, area)
        if why_not is not None:
            self.count_refused()
            raise Full(why_not)
        self._strangers[area] += 1
        self._stranger_count += 1
        return partial(self._give_place, area)

    def count_refused(self) -> None:
        """Count an arrival for which there was no place."""
        self._counts.refused += 1

    def _give_place(self, area: str) -> None:
        self._strangers[area] -= 1
        self._stranger_count -= 1
        if not self._strangers[area]:
            del self._strangers[area]

    def _why_not(self, resume: tuple[str, int] | None, area: str) -> str | None:
        """Return why one more may not come, or come back, from this area at the moment; None where they may."""
        options, strangers = self._options, self._strangers[area]
        if self._arrivals is not None and not self._arrivals.take(1, trio.current_time()):
            return "Too many come at once"
        if strangers >= options.connections_of_address:
            return _TOO_MANY_FROM_THERE
        if resume is not None and self._find(resume[0])[0] is not None:
            return None  # who has a place here already may come to it
        if len(self._index) + self._stranger_count >= options.connections:
            return "There are too many connections"
        return _TOO_MANY_FROM_THERE if self._at[area] + strangers >= options.connections_of_address else None

    def admit(
        self, link: Link, session: Session, codec: Codec, *, resume: tuple[str, int] | None = None, address: str = ""
    ) -> tuple[Connection, bool]:
        """Give a link to the connection it asks for, or to a new one; return that, and whether it is new here.

        `resume` is the connection id and the number of the next event that the client expects, `address` is where it
        comes from. The caller must run
        a new connection's `live`; a living one sees to the link itself. Either way the client is told, before
        anything else, if anything is lost. Raises `Full` and `TooManySessions`, with the link untouched, where there is
        no place for it.
        """
        gap = None
        if resume is not None:
            self._counts.returned += 1
            found = self._resume(link, session, codec, *resume)
            if isinstance(found, Connection):
                self._note_address(found, address)
                return found, found.links == 1
            gap = found
        if len(self._index) >= self._options.connections:
            self.count_refused()
            raise Full("there are too many connections")
        if self._at[_area_of(address)] >= self._options.connections_of_address:
            self.count_refused()
            raise Full("there are too many connections from this address")
        self._make_place(session.user)
        connection = self._connection(self._greeter.new_id(), session, codec, gap)
        self._index.add(connection)
        self._note_address(connection, address)
        self._expiry.watch(connection)
        if gap is not None:
            self._counts.gaps[gap.reason] += 1
        connection.hand_over(link)
        return connection, True

    def _connection(self, id: str, session: Session, codec: Codec, gap: Former | None) -> Connection:
        return Connection(
            id,
            session,
            codec,
            self._greeter.hello(id, gap),
            gap=None if gap is None else gap.reason,
            options=self._options,
            handler=self._handler,
            heart=self._heart,
            plugins=self._plugins,
            allow=self._allowances.of(session.user),
            answered=self._counts.note_answered,
            tally=self._greeter.tally,
            left=self._left,
            changed=self._changed,
        )

    def _resume(self, link: Link, session: Session, codec: Codec, id: str, wanted: int) -> Connection | Former:
        """Hand the link over to the connection with this id, or return why there is none for this client."""
        connection, former = self._find(id)
        if connection is None:
            return former or Former("unknown", None)
        if connection.user != session.user or connection.codec is not codec:
            return Former("unknown", None)  # somebody else's: it must not even be told that it exists
        self.renew(connection, session)
        outbox = connection.outbox
        resumed = former is None and connection.resume(wanted)
        if resumed:
            self._counts.resumed += 1
        elif former is None:
            self._restart(connection, "overflow" if wanted < outbox.first_kept else "unknown")
        elif not connection.resume(0):  # it never saw the hello of the id that it has by now
            self._restart(connection, former.reason, former.last)
        if connection.has_ended:  # it was just kicked out, or its plugins could not follow
            self._left(connection, "overflow")
            return self._greeter.former(id)
        connection.hand_over(link, resumed=resumed)
        return connection

    def _note_address(self, connection: Connection, address: str | None) -> None:
        """Note where a connection is from now on; None when it leaves."""
        for area, change in ((connection.address, -1), (address, 1)):
            if area is not None:
                area = _area_of(area)
                self._at[area] += change
                if not self._at[area]:
                    del self._at[area]
        if address is not None:
            connection.address = address

    def _make_place(self, user: str) -> None:
        """See that with one more connection this user has no more than may be; those who are away go first."""
        options = self._options
        if len(self._index.of_user(user)) < options.connections_of_user:
            return
        newcomer = Place("", math.inf, attached=True)
        going = who_goes([*self.places(user), newcomer], options.connections_of_user, newest_wins=options.newest_wins)
        if newcomer in going:
            self._counts.refused += 1
            raise TooManySessions(self._too_many)
        for place in going:
            self.end_surplus(place)

    def places(self, user: str) -> list[Place]:
        """Return what there is of a user here: all that somebody may come back to."""
        return [Place(each.id, each.since, each.attached) for each in self._index.of_user(user) if not each.has_ended]

    def end_surplus(self, place: Place) -> None:
        """End a connection here that is one more than its user may have."""
        connection = self._index.get(place.id)
        if connection is None or connection.has_ended:
            return
        if self._options.newest_wins or not connection.attached:
            connection.end(_REPLACED)
        else:
            self._counts.refused += 1
            connection.end(CloseReason(CloseCode.TOO_MANY_SESSIONS, self._too_many))

    @property
    def _too_many(self) -> str:
        return f"a user may have {self._options.connections_of_user} connections"

    def renew(self, connection: Connection, session: Session) -> None:
        """Have a connection go on with this session of the same user. Raises `Misuse` for another's.

        One that is gone is left as it is: nobody would ever look after its session.
        """
        if session.user != connection.user:
            raise Misuse(f"a connection of {connection.user!r} cannot become one of {session.user!r}")
        if self._index.get(connection.id) is connection:
            connection.session = session
            self._expiry.watch(connection)

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
        if outbox.untouched and connection.gap is not None:
            outbox.shed()
            return
        self._counts.gaps[reason] += 1
        id = connection.id
        gap = Former(reason, None)
        if not outbox.untouched:
            id = self._greeter.new_id()
            gap = Former(reason, outbox.next_number - 1 if last is None else last, id)
            self._greeter.remember(connection.id, gap)
            self._index.rename(connection, id)
        connection.restart(id, self._greeter.hello(id, gap, connection.highest_request), reason)
        if gap.successor is not None:
            self._changed(connection)

    def _left(self, connection: Connection, reason: str) -> None:
        """Take a connection out of the index, and remember why, if it is still there."""
        if self._index.get(connection.id) is connection:
            self._greeter.remember(connection.id, Former(reason, connection.outbox.next_number - 1))
            self._index.remove(connection)
            self._expiry.forget(connection)
            self._note_address(connection, None)
            self._counts.note_dropped(connection.outbox.statistics().dropped_by_reason)
            self._changed(connection)

    def overflow(self, connection: Connection) -> None:
        """Too much is owed. Who is here is told in band and stays; who is away is given up, and told on return."""
        if self._index.get(connection.id) is not connection:
            return  # it has left meanwhile
        if connection.attached:
            self._restart(connection, "overflow")
        else:
            self._left(connection, "overflow")
            connection.outbox.clear()
            connection.give_up()

    def tell_gap(self, target: Target) -> None:
        """Have everybody this is for begin anew: something went wrong here, and events for them may be lost."""
        for connection in self.select(target):
            try:
                self.overflow(connection)
                connection.flush()
            except Exception:
                log.exception("connection %s cannot go on", connection.id)
                self._left(connection, "unknown")
                connection.end(CloseReason(CloseCode.INTERNAL, "something failed here; see the server's log"))

    def heed(self, heed: Callable[[str, str, bool], None]) -> None:
        """Have `heed` called with each ``topic``, ``user`` and ``connection`` that is here, now and from now on."""
        self._index.heed = heed
        for kind, name in self._index.names():
            heed(kind, name, True)

    @property
    def origin(self) -> str:
        """What all ids begin with that are made here."""
        return self._greeter.origin

    # -- from and to other nodes

    def expect(self, id: str, session: Session, codec: Codec) -> Connection:
        """Return a connection of this id, which comes from another node: it is here, and owed things, but has neither
        luggage nor life yet. Raises `Misuse` where there is one already.
        """
        if self._index.get(id) is not None:
            raise Misuse(f"connection {id} is here")
        connection = self._connection(id, session, codec, None)
        self._index.add(connection)
        return connection

    def begin_anew(self, connection: Connection, reason: str) -> None:
        """Have a connection tell of a gap, with all that it has but its log."""
        self._restart(connection, reason)

    def dismiss(self, connection: Connection, reason: str) -> None:
        """Let a connection go: it has gone to another node, or has never come from there."""
        self._left(connection, reason)
        connection.give_up()
        connection.outbox.clear()

    # -- finding

    def subscribe(self, connection: Connection, topic: str) -> bool:
        """Subscribe a connection to a topic, from the next publish on; False if it was, or is gone. Never waits.

        Raises `Misuse` beyond the number of topics that a connection may have.
        """
        count = len(connection.topics) + len(connection.topics_beside)
        if count >= self._options.topics and topic not in connection.topics | connection.topics_beside:
            raise Misuse(f"a connection may subscribe to {self._options.topics} topics")
        is_new = self._index.subscribe(connection, topic)
        if is_new:
            self._changed(connection)
        return is_new

    def unsubscribe(self, connection: Connection, topic: str) -> bool:
        """End a subscription; False if there was none. Never waits."""
        was_there = self._index.unsubscribe(connection, topic)
        if was_there:
            self._changed(connection)
        return was_there

    def _changed(self, connection: Connection) -> None:
        for heed in self.on_change:
            heed(connection)

    def select(self, target: Target) -> list[Connection]:
        """Return the connections that a target stands for at this moment; one also by an id that it had before."""
        return list(self._index.select(self.by_current_ids(target)))

    def by_current_ids(self, target: Target) -> Target:
        """Return the same target, with what ids connections have by now in place of those that they had."""
        return target.renamed(self._current_id) if target.is_of("connection") else target

    def _current_id(self, id: str) -> str:
        """Return the id that the connection of this id has, or had last."""
        while self._index.get(id) is None and (successor := self._greeter.former(id).successor) is not None:
            id = successor
        return id

    def known_by(self, id: str) -> Connection | None:
        """Return the connection that has this id, or had it."""
        return self._index.get(self._current_id(id))

    def of_user(self, user_id: str) -> Collection[Connection]:
        """Return the connections of a user, away or not: a live view, so copy it before you wait."""
        return self._index.of_user(user_id)

    def connections(self) -> list[Connection]:
        """Return every connection, away or not."""
        return self.select(everyone())


def _area_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64, since whoever has one address there has all of them."""
    if ":" not in address:
        return address
    return IPv6Address(address.partition("%")[0]).exploded[:19]
