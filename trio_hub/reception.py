"""From a stream to a connection: a stranger's way in, in one task and within one deadline.

The head is read, and what is no upgrade is handed back, for the side door. An upgrade is checked (path, Origin, query,
place, token), and refused with an HTTP status while that is still possible. Then the link is opened, a missing token is
asked for in band, and the hub is given the link: for a new connection, or for the one it belongs to, whose own task
takes it over.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import AbstractAsyncContextManager, ExitStack, nullcontext

import attrs
import trio

from trio_hub.app.auth import Authenticate
from trio_hub.app.callers import Proxies, address_of, peer_of, speaks_for_itself
from trio_hub.app.challenge import challenge
from trio_hub.app.changes import Newcomer
from trio_hub.app.entry import Entry, Wish
from trio_hub.app.sessions import Sessions
from trio_hub.errors import LinkLost, Misuse, PeerFault
from trio_hub.hub.hub import Hub
from trio_hub.hub.roster import Full, TooManySessions
from trio_hub.link.heads import HTTPFault, RequestHead, read_head
from trio_hub.link.link import Link
from trio_hub.link.opening import accept_link
from trio_hub.link.serving import say_no
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.peer.connection import Connection
from trio_hub.session import Credentials, Session

__all__ = ["Arrival", "Reception", "come_back"]

log = logging.getLogger("trio_hub.server")

_LAST_WORD = 1.0  # s, for an answer to somebody who took too long already
_TOO_LATE = HTTPFault(408, "The request head was not finished in time")
_NOBODY_KNOWS = HTTPFault(503, "Nobody can say who you are at the moment", {"Retry-After": "5"})


@attrs.frozen
class Arrival:
    """A link that was just opened. `place` is to be closed when it is a connection's, or no more."""

    link: Link
    wish: Wish
    shown: Credentials
    session: Session | None
    newcomer: Newcomer
    place: ExitStack


class Reception:
    """Lets strangers in. `leaving_within` is set when the server is about to leave: nobody new is let in then, and who
    just came is told to come back within so many seconds.
    """

    def __init__(
        self,
        hub: Hub,
        entry: Entry,
        sessions: Sessions,
        authenticate: Authenticate,
        proxies: Proxies,
        *,
        guests_only: bool,
    ) -> None:
        self._hub = hub
        self._options = hub.options
        self._entry = entry
        self._sessions = sessions
        self._authenticate = authenticate
        self._proxies = proxies
        self._guests_only = guests_only
        self.leaving_within: float | None = None

    async def arrive(self, stream: trio.abc.Stream) -> Arrival | RequestHead | None:
        """Return an opened link, or the head of a request for the side door, or None where nothing came of it."""
        with ExitStack() as place:
            head, answered = None, False
            with trio.move_on_after(self._options.opening.deadline):
                try:
                    head = await read_head(stream, self._options.opening)
                    return await self._open(stream, head, place) if head.wants_upgrade else head
                except HTTPFault as fault:
                    answered = True
                    await say_no(stream, fault)
                    return None
                except LinkLost as lost:
                    log.debug("nothing came of a stream: %s", lost)
                    return None
            if not answered:
                if head is not None:
                    log.error("`authenticate` took more than %g s", self._options.opening.deadline)
                with trio.move_on_after(_LAST_WORD):
                    await say_no(stream, _TOO_LATE if head is None else _NOBODY_KNOWS)
        return None

    async def _open(self, stream: trio.abc.Stream, head: RequestHead, place: ExitStack) -> Arrival:
        """Open the link that is asked for; `place` is where its place is kept. Raises `HTTPFault` to refuse it."""
        peer = peer_of(stream)
        if self._guests_only and not speaks_for_itself(peer, head):
            raise HTTPFault(403, "Guests call this machine by its own name")
        address = address_of(peer, head, self._proxies)
        wish = self._entry.wish(head)
        if self.leaving_within is not None:
            raise HTTPFault(503, "The server is leaving", {"Retry-After": str(math.ceil(self.leaving_within) or 1)})
        try:
            place.callback(self._hub.roster.take_place(wish.resume, address))
        except Full as full:
            raise HTTPFault(503, str(full), {"Retry-After": "5"}) from full
        newcomer = self._sessions.newcomer(wish.topics, None if wish.resume is None else wish.resume[0])
        shown = self._entry.credentials(head, address)
        session = await self._entry.session(shown)
        if session is not None:
            self._entry.topics(session, wish)  # or they are refused
        link = accept_link(stream, head, subprotocol=wish.codec.subprotocol, options=self._options.link)
        return Arrival(link, wish, shown, session, newcomer, place.pop_all())

    async def join(self, arrival: Arrival) -> Connection | None:
        """Authenticate if need be, and hand the link over to the hub; return its connection if that is a new one."""
        with arrival.place:
            return await self._join(arrival)

    async def _join(self, arrival: Arrival) -> Connection | None:
        link, wish, session = arrival.link, arrival.wish, arrival.session
        handed_over = False
        try:
            if session is None:
                session = await self._challenge(arrival)
            if session is None:
                return None
            async with self._expecting(session, wish):
                found = await self._sessions.current(session, arrival.newcomer.since, arrival.newcomer)
                if isinstance(found, CloseReason):
                    link.end(found)
                    return None
                session, known_after = found
                topics = self._entry.topics(session, wish)
                connection, is_new = self._hub.roster.admit(
                    link, session, wish.codec, resume=wish.resume, address=arrival.shown.address
                )
                handed_over = True
                self.send_away(connection)
                if wish.resume is not None:
                    self._sessions.settle(connection)
                for name in topics:
                    self._hub.roster.subscribe(connection, name)
                self._sessions.keep_up(connection, known_after)
                return connection if is_new else None
        except HTTPFault as fault:
            link.end(CloseReason(CloseCode.POLICY, fault.message))
        except PeerFault as fault:
            link.end(CloseReason(fault.code, fault.reason))
        except Full:
            link.end(CloseReason.come_again(5))
        except TooManySessions as error:
            link.end(CloseReason(CloseCode.TOO_MANY_SESSIONS, str(error)))
        except Misuse as error:  # a resumed connection with other topics already
            link.end(CloseReason(CloseCode.POLICY, str(error)))
        except LinkLost as lost:
            log.debug("a link ended before it was authenticated: %s", lost)
        except Exception:
            log.exception("a link failed; the others go on")
            link.end(CloseReason(CloseCode.INTERNAL, "something failed here; see the server's log"))
        finally:
            if not handed_over:
                await link.close()  # noqa: ASYNC102 - bounded by itself; when cancelled it cuts
        return None

    def send_away(self, connection: Connection) -> None:
        """Tell a client to come back, where we are about to leave; where there are other nodes, to one of them."""
        if self.leaving_within is None:
            return
        close = come_back(self.leaving_within)
        if self._hub.carrier is not None and self._hub.carrier.has_others:
            connection.send_away(close)
        else:
            connection.end(close)

    def _expecting(self, session: Session, wish: Wish) -> AbstractAsyncContextManager[None]:
        """Have what other nodes say to somebody come here, from before their hello on, and what they resume."""
        carrier = self._hub.carrier
        if carrier is None:
            return nullcontext()
        resume = None if wish.resume is None else wish.resume[0]
        return carrier.expecting(session, self._entry.topics(session, wish), wish.codec, resume)

    async def _challenge(self, arrival: Arrival) -> Session | None:
        """Ask in band, and return who it is; None, and the link has ended, where that is not known."""
        link, within = arrival.link, self._options.authenticate_within
        link.writer.flush()
        async with open_tasks() as tasks:
            link.writer.run_in(tasks)
            try:
                session = await challenge(link, arrival.wish.codec, self._authenticate, arrival.shown, within)
                with trio.move_on_after(within):  # a writer that is cancelled in the midst of a write may tear a frame
                    await link.writer.wait_idle()
            finally:
                link.writer.run_in(None)
            tasks.cancel_scope.cancel()
        if link.writer.busy:
            link.end(CloseReason(CloseCode.TOO_SLOW, "the replies were not read"))
            return None
        return session


def come_back(spread: float) -> CloseReason:
    """Tell one peer to come back within so many seconds, at a time of its own."""
    return CloseReason.come_again(round(random.uniform(0, spread), 2), CloseCode.RESTART)
