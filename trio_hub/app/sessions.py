"""Sessions that change while their connections stay: revoked, read anew, with other rights."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator

import trio

from trio_hub.app.topics import MaySubscribe
from trio_hub.errors import Misuse
from trio_hub.hub.expiry import session_of
from trio_hub.hub.hub import Hub
from trio_hub.hub.index import is_for
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.peer.connection import Connection
from trio_hub.session import Session
from trio_hub.targets import Target, plain

__all__ = ["ReadSession", "Sessions", "TopicsOf", "no_topics", "own_topics"]

log = logging.getLogger("trio_hub.server")

_READS = 16  # of sessions, at the same time

ReadSession = Callable[[Session], Awaitable[Session | None]]
"""Returns what became of a session by now; None where it is over. Of the same user."""
TopicsOf = Callable[[Session], Iterable[str]]
"""Returns the topics that connections of a session hear without asking. A plain function."""

_REVOKED = CloseReason(CloseCode.SESSION_REVOKED, "the session was revoked")
_UNREADABLE = CloseReason(CloseCode.TRY_AGAIN, '{"retry_after": 1}')


def no_topics(session: Session) -> Iterable[str]:
    """Nothing is heard without asking."""
    return ()


def own_topics(topics_of: TopicsOf, session: Session) -> list[str]:
    """Return what `topics_of` says. Raises `TypeError` where that is no list of names, as a single name is none."""
    names = topics_of(session)
    listed = list(names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in listed):
        raise TypeError(f"`topics_of` returns names of topics, not {names!r:.100}")
    return listed


class Sessions:
    """What may become of the sessions of a hub's connections. `server.sessions`."""

    def __init__(
        self,
        hub: Hub,
        *,
        may_subscribe: MaySubscribe,
        read: ReadSession | None = None,
        topics_of: TopicsOf = no_topics,
    ) -> None:
        self._hub = hub
        self._may_subscribe = may_subscribe
        self._read = read
        self._topics_of = topics_of
        options = hub.options
        self._read_within = options.authenticate_within
        self._forget_after = options.opening.deadline + 2 * options.authenticate_within  # who was on the way in is in
        self._revoked: deque[tuple[float, Target]] = deque()
        self._invalidated: deque[tuple[float, Target]] = deque()

    # -- coming in

    def is_revoked(self, session: Session, since: float) -> bool:
        """Whether the session was revoked after `since`, while whoever shows it was on the way in."""
        return _concerns(self._revoked, session, since)

    async def current(self, session: Session, since: float) -> Session | None:
        """Return what a session is now that was looked up since then; None where it is over. Waits only where something
        has changed since, and then raises what the application does.
        """
        while not self.is_revoked(session, since):
            if self._read is None or not _concerns(self._invalidated, session, since):
                return session
            since = trio.current_time()
            with trio.fail_after(self._read_within):
                read = await self._read(session)
            if read is None:
                return None
            session = read
        return None

    # -- changing

    async def renew(self, connection: Connection, session: Session, since: float) -> None:
        """Have a connection go on with this session, looked up since then, or with what has become of it meanwhile.

        Where that is over, the connection is.
        """
        now = await self.current(session, since)
        if connection.has_ended:
            return
        if now is None:
            connection.end(_REVOKED)
            return
        self._hub.roster.renew(connection, now)
        self.settle(connection)

    def revoke(self, of: Target) -> int:
        """Close every connection whose session this target selects, with 4501; return how many there were.

        That is ``session(id)``, ``user(id)``, ``everyone() & claim(...)`` and whatever else can be put together.
        Nobody of them can resume, and our clients do not come back by themselves; what they have asked is cancelled,
        the handler that calls this included, at its next `await`. Who is just being authenticated is turned away, too;
        whoever comes later is a matter of `authenticate`, which must know by then. Never waits.
        """
        self._note(self._revoked, of)
        return self._hub.close(of, _REVOKED)

    def _note(self, changes: deque[tuple[float, Target]], of: Target) -> None:
        """Remember a change for as long as somebody may be on the way in who was looked up before it."""
        now = trio.current_time()
        while changes and changes[0][0] < now - self._forget_after:
            changes.popleft()
        changes.append((now, of))

    async def invalidate(self, of: Target) -> None:
        """Read the sessions of these connections anew, each once, and have the connections go on with what they are.

        Whose session is over is closed with 4501. The others keep the topics that they still may hear, lose those that
        they may not, and are subscribed to those that are theirs without asking; a session that was read lasts from
        now on. Where the application fails to say, the connection is closed with 1013: it comes back, and is
        authenticated anew. If cancelled, some are done.
        """
        self._note(self._invalidated, of)
        by_session: dict[Hashable, list[Connection]] = {}
        for connection in self._hub.connections(of):
            by_session.setdefault(session_of(connection), []).append(connection)
        waiting = iter(by_session.values())
        async with open_tasks() as tasks:
            for _ in range(min(_READS, len(by_session))):
                tasks.start_soon(self._read_some, waiting)

    async def _read_some(self, waiting: Iterator[list[Connection]]) -> None:
        for stays in waiting:
            await self._read_one(stays)

    async def _read_one(self, stays: list[Connection]) -> None:
        """Read one session, and have all its connections go on with it; again where they have another one meanwhile."""
        while stays := [connection for connection in stays if not connection.has_ended]:
            old = {connection: connection.session for connection in stays}
            since, session = trio.current_time(), stays[0].session
            new: Session | None = session
            try:
                if self._read is not None:
                    with trio.fail_after(self._read_within):
                        new = await self._read(session)
                if new is not None and self.is_revoked(new, since):
                    new = None
                self._go_on([each for each in stays if each.session is old[each]], session, new)
            except Exception:
                log.exception("a session cannot be read anew; its connections are closed")
                _end_all([each for each in stays if each.session is old[each]], _UNREADABLE)
            stays = [each for each in stays if each.session is not old[each] and each.session is not new]

    def _go_on(self, connections: list[Connection], old: Session, new: Session | None) -> None:
        """Have connections go on with a session that was read; None says that it is over."""
        if new is None:
            _end_all(connections, _REVOKED)
            return
        for connection in connections:
            if new is not old:
                self._hub.roster.renew(connection, new)
            self.settle(connection)

    def settle(self, connection: Connection) -> None:
        """See that a connection hears what its session may hear by now: no topic to which it has no right any more,
        and each that it hears without asking. Never raises: what the application cannot say is no right.
        """
        roster, session = self._hub.roster, connection.session
        try:
            own = set(own_topics(self._topics_of, session))
        except Exception:
            log.exception("`topics_of` failed")
            own = set()
        for name in (connection.topics | connection.topics_beside) - own:
            if not self._may_hear(session, name):
                roster.unsubscribe(connection, name)
        try:
            for name in own:
                roster.subscribe(connection, name)
        except Misuse as error:
            log.error("connection %s does not hear all that is its own: %s", connection.id, error)

    def _may_hear(self, session: Session, name: str) -> bool:
        try:
            return self._may_subscribe(session, plain(name))
        except Exception:
            log.exception("`may_subscribe` failed")
            return False


def _end_all(connections: Iterable[Connection], close: CloseReason) -> None:
    for connection in connections:
        connection.end(close)


def _concerns(changes: Iterable[tuple[float, Target]], session: Session, since: float) -> bool:
    """Whether one of these changes, of this moment or later, is of this session. Of topics and connections nobody knows
    who is on the way to them: so such a change may be of anybody.
    """
    candidate = _Candidate(session)
    return any(
        when >= since and (target.is_of("topic") or target.is_of("connection") or is_for(target, candidate))
        for when, target in changes
    )


class _Candidate:
    """Somebody on the way in, as a target sees them."""

    def __init__(self, session: Session) -> None:
        self.id = ""
        self.session = session
        self.topics: set[str] = set()
        self.topics_beside: set[str] = set()

    @property
    def user(self) -> str:
        return self.session.user
