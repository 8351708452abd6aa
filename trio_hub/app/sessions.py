"""Sessions that change while their connections stay: revoked, read anew, with other rights."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator
from weakref import WeakKeyDictionary

import trio

from trio_hub.app.changes import Change, Newcomer, Selected, are_alike, selected
from trio_hub.app.topics import MaySubscribe
from trio_hub.errors import Misuse
from trio_hub.hub.expiry import session_of
from trio_hub.hub.hub import Hub
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.peer.connection import Connection
from trio_hub.session import Session
from trio_hub.targets import Target, everyone, plain

__all__ = ["ReadSession", "Sessions", "TopicsOf", "no_topics", "own_topics"]

log = logging.getLogger("trio_hub.server")

_READS = 16  # of sessions, at the same time

ReadSession = Callable[[Session], Awaitable[Session | None]]
"""Returns what became of a session by now; None where it is over. Of the same user."""
TopicsOf = Callable[[Session], Iterable[str]]
"""Returns the topics that connections of a session hear without asking. A plain function."""

_REVOKED = CloseReason(CloseCode.SESSION_REVOKED, "the session was revoked")
_COME_BACK = CloseReason.come_again(1)


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
        self._read_within = hub.options.authenticate_within
        self._latest = Change(everyone())
        self._tasks: trio.Nursery | None = None  # beside the hub: whoever asks for a change may be ended by it
        self._read_after: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()  # the number of a change
        if hub.carrier is not None:
            hub.carrier.heed("revoke", self._revoke_here)
            hub.carrier.heed("invalidate", self._invalidate_here)

    # -- coming in

    @property
    def moment(self) -> Change:
        """The latest change. To be held by whoever looks a session up, from before that on: see `current`."""
        return self._latest

    def newcomer(self, topics: Collection[str], resume: str | None) -> Newcomer:
        """Return somebody who comes in now, wishes these topics, and wants to resume the connection of this id."""
        resumes = None if resume is None else self._hub.roster.known_by(resume)
        return Newcomer(self._latest, lambda session: {*topics, *own_topics(self._topics_of, session)}, resumes)

    async def current(
        self, session: Session, since: Change, who: Newcomer | Connection
    ) -> tuple[Session, Change] | CloseReason:
        """Return what a session is now that was looked up since then, or why nobody may go on with it: it was revoked,
        or nobody can say. `who` is to go on with it.

        The change that is returned is the one after which it is known: whoever goes on with it is to `keep_up` from
        there. Waits only where something has changed since, and for one reading at most, so that nobody is kept out by
        changes that go on and on.
        """
        try:
            with trio.fail_after(self._read_within):
                return await self._current(session, since, who)
        except Exception:
            log.exception("a session cannot be read anew; its connection is closed")
            return _COME_BACK

    async def _current(
        self, session: Session, since: Change, who: Newcomer | Connection
    ) -> tuple[Session, Change] | CloseReason:
        found, after = session, since
        if self._read is not None and self._has_changed((session,), since, who):
            after = self._latest
            read = await self._read_as_now(session)
            if read is None:
                return _REVOKED
            found = read
        over = self._why_over((session, found), since, who)
        if over is not None:
            return over
        is_known = self._read is None or not self._has_changed((session, found), after, who)
        return found, self._latest if is_known else after

    def keep_up(self, connection: Connection, after: Change) -> None:
        """Have the session that a connection goes on with, known after this change, read anew if that was not the
        latest one. Never waits.
        """
        if after is not self._latest and self._tasks is not None:
            self._tasks.start_soon(self._read_some, iter([[connection]]), after)

    def _why_over(self, sessions: Iterable[Session], since: Change, who: Newcomer | Connection) -> CloseReason | None:
        """Return why nobody may go on with what was one of these sessions. Of who is not here yet it may be unknown
        whether a revocation was theirs: whoever comes back is one who has come after it.
        """
        verdicts = [self._is_of(of, each, who) for of in self._later(since, is_end=True) for each in sessions]
        return {Selected.NO: None, Selected.MAYBE: _COME_BACK, Selected.YES: _REVOKED}[
            max(verdicts, default=Selected.NO)
        ]

    def _is_of(self, of: Target, session: Session, who: Newcomer | Connection) -> Selected:
        """Whether a revocation was of somebody with this session. A connection that is still here was judged when it
        was made, by the topics and the id of that moment: another session is another matter only where they differ.
        """
        newcomer, here = (who, who.resumes) if isinstance(who, Newcomer) else (None, who)
        found = selected(of, session, newcomer)
        if found is Selected.MAYBE and here is not None and not here.has_ended and here.user == session.user:
            return Selected.NO if are_alike(of, session, here.session) else found
        return found

    def _has_changed(
        self, sessions: Iterable[Session], since: Change, who: Newcomer | Connection | None = None
    ) -> bool:
        """Whether what was one of these sessions may be something else by now."""
        newcomer = who if isinstance(who, Newcomer) else None
        targets = self._later(since, is_end=False)
        return any(selected(of, each, newcomer) is not Selected.NO for of in targets for each in sessions)

    def _later(self, since: Change, *, is_end: bool) -> list[Target]:
        return [self._hub.roster.by_current_ids(target) for target in since.later(is_end=is_end)]

    async def _read_as_now(self, session: Session) -> Session | None:
        if self._read is None:
            return session
        read = await self._read(session)
        if read is not None and read.user != session.user:
            raise Misuse(f"a session of {session.user!r} was read as one of {read.user!r}")
        return read

    # -- changing

    async def renew(self, connection: Connection, session: Session, since: Change) -> None:
        """Have a connection go on with this session, looked up since then, or with what has become of it meanwhile.

        Where that is over, the connection is.
        """
        found = await self.current(session, since, connection)
        if isinstance(found, CloseReason):
            connection.end(found)
        else:
            self._go_on(connection, *found, lasts_anew=True)
            self.keep_up(connection, found[1])

    def revoke(self, of: Target) -> int:
        """Close every connection whose session this target selects, with 4501; return how many there were.

        That is ``session(id)``, ``user(id)``, ``everyone() & claim(...)`` and whatever else can be put together.
        Nobody of them can resume, and our clients do not come back by themselves; what they have asked is cancelled,
        the handler that calls this included, at its next `await`. Who is just being authenticated is turned away, too,
        or told to come back (1013) where nobody can say whether it is them, as with a topic that they wish; whoever
        comes later is a matter of `authenticate`, which must know by then. Never waits.

        Other nodes do the same as soon as they hear of it; who is there is not counted.
        """
        if self._hub.carrier is not None:
            self._hub.carrier.tell("revoke", of)
        return self._revoke_here(of)

    def _revoke_here(self, of: Target) -> int:
        self._latest = self._latest.follow(of, is_end=True)
        return self._hub.close(of, _REVOKED)

    async def invalidate(self, of: Target) -> None:
        """Read the sessions of these connections anew, each once, and have the connections go on with what they are.

        Whose session is over is closed with 4501. The others keep the topics that they still may hear, lose those that
        they may not, and are subscribed to those that are theirs without asking; a session that was read lasts from
        now on. Where the application fails to say, the connection is closed with 1013: it comes back, and is
        authenticated anew.

        All of that is done also where the one who waits for it here is cancelled, as a handler is whose own connection
        is closed. Other nodes do the same as soon as they hear of it, which is not waited for.
        """
        if self._hub.carrier is not None:
            self._hub.carrier.tell("invalidate", of)
        done = self._invalidate_here(of)
        if done is None:
            await trio.lowlevel.checkpoint()  # the hub does not run: nobody is here, or all are being cut
        else:
            await done.wait()

    def _invalidate_here(self, of: Target) -> trio.Event | None:
        """Begin to read sessions anew; return what is set when that is done, or None where there is nobody."""
        since = self._latest
        self._latest = since.follow(of, is_end=False)
        by_session: dict[Hashable, list[Connection]] = {}
        for connection in self._hub.connections(of):
            by_session.setdefault(session_of(connection), []).append(connection)
        if self._tasks is None:
            return None
        done = trio.Event()
        self._tasks.start_soon(self._read_all, by_session.values(), since, done)
        return done

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Read what there is to be read, until cancelled. Runs beside the hub."""
        try:
            async with open_tasks() as self._tasks:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._tasks = None

    async def _read_all(self, by_session: Collection[list[Connection]], since: Change, done: trio.Event) -> None:
        waiting = iter(by_session)
        try:
            async with open_tasks() as tasks:
                for _ in range(min(_READS, len(by_session))):
                    tasks.start_soon(self._read_some, waiting, since)
        finally:
            done.set()

    async def _read_some(self, waiting: Iterator[list[Connection]], since: Change) -> None:
        for stays in waiting:
            try:
                await self._read_one(stays, since)
            except Exception:
                log.exception("connections cannot go on with what was read; they are closed")
                for each in stays:
                    each.end(_COME_BACK)

    async def _read_one(self, stays: list[Connection], since: Change) -> None:
        """Read the session of these connections, and have all of them go on with it; but for those whose session was
        read later than that. Those who have another one meanwhile are read again, each session by itself.
        """
        while stays := [each for each in stays if not each.has_ended]:
            session, began, of = stays[0].session, self._latest, session_of(stays[0])
            old = {each: each.session for each in stays if session_of(each) == of}
            found = await self._found(session)
            stays = [each for each in stays if self._read_after.get(each, -1) < began.number]
            for each in stays:
                if each.session is old.get(each):
                    over = self._why_over((found,), since, each) if isinstance(found, Session) else found
                    self._go_on(each, over or found, began, lasts_anew=found is not old[each])
            if not self._was_missed(session, found, began):
                stays = [each for each in stays if self._read_after.get(each, -1) < began.number]

    def _was_missed(self, before: Session, found: Session | CloseReason, since: Change) -> bool:
        """Whether a later change is of the session that was found, and was not of what it was until then."""
        is_of_found = isinstance(found, Session) and self._has_changed((found,), since)
        return is_of_found and not self._has_changed((before,), since)

    async def _found(self, session: Session) -> Session | CloseReason:
        """Return what is found where a session is read, or why it is over."""
        try:
            with trio.fail_after(self._read_within):
                return await self._read_as_now(session) or _REVOKED
        except Exception:
            log.exception("a session cannot be read anew; its connections are closed")
            return _COME_BACK

    def _go_on(
        self, connection: Connection, found: Session | CloseReason, read_after: Change, *, lasts_anew: bool
    ) -> None:
        """Have a connection go on with a session that was read after a change, or end it."""
        if connection.has_ended:
            return
        if isinstance(found, CloseReason):
            connection.end(found)
            return
        self._read_after[connection] = read_after.number
        if lasts_anew:
            self._hub.roster.renew(connection, found)
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
