"""A pool: links by name and group, of clients and servers alike, with handlers for them all.

Who runs what. A link that was given to `keep` is run by the task that gave it; the pool reads from it there. Everything
else stands in the pool's own nursery: the heart, links that nobody ran, and a task for each member that is dialled.

A link leaves its member as soon as it is closed, so its name is free then, for whoever comes back. Its handlers may
take a little longer; `wait` and `close` wait for them, and `member_of` knows until then whose it was.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from trio_hub.errors import Closed, Misuse
from trio_hub.link.crowd import Crowd
from trio_hub.link.dialing import Address, OpenStream, dial, way_to
from trio_hub.link.dispatching import Dispatcher, KeyOf, OnFailure
from trio_hub.link.handlers import HandlerSets
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.members import Member
from trio_hub.link.opening import VerifyAnswer, check_headers
from trio_hub.link.redial import Redial
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason, LinkStatus
from trio_hub.options import PoolOptions
from trio_hub.wire.frames import close_frame

__all__ = ["Pool", "PoolStatistics", "open_pool"]


@attrs.frozen(kw_only=True)
class PoolStatistics:
    """What a pool holds, and what has happened in it.

    `members` are all there are, of whom `clients` are at links of which this side is the client, and `linked` have a
    link at the moment; `groups` have members. `taken`, `dropped` and `ended` count as `Sent` does, over all that was
    sent; `dials` counts attempts.
    """

    members: int
    clients: int
    linked: int
    groups: int
    taken: int
    dropped: int
    ended: int
    dials: int


class Pool(Crowd, HandlerSets):
    """Links by name and group, to be sent to all at once, and handlers for whatever comes on any of them.

    Made by `open_pool`. Handlers and sets that are applied take part on all links there are, and on all to come; they
    are given the link, and `member_of` says whose it is.
    """

    def __init__(
        self,
        tasks: trio.Nursery,
        options: PoolOptions,
        *,
        key: KeyOf | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        Crowd.__init__(self, options.size, options.when_full)
        HandlerSets.__init__(self)
        self._tasks = tasks
        self._options = options
        self._key = key
        self._on_failure = on_failure
        self._heart = Heart(options.link)
        tasks.start_soon(self._heart.run)
        self._redials: dict[Member, Redial] = {}
        self._lives: dict[Member, trio.CancelScope] = {}
        self._ended = trio.lowlevel.ParkingLot()
        self._past_dials = 0
        self._closing: CloseReason | None = None

    # -- in and out

    async def keep(self, link: Link, *, name: str | None = None, groups: str | Iterable[str] = ()) -> CloseReason:
        """Have a link in the pool, and read from it, until it has ended; return how.

        For links that somebody else runs, as in a handler of `serve_links`: ``await pool.keep(link, name="ann")``. The
        name is unique, and random if none is said. Handlers are called in this task, or below it.

        Raises `NoPlace` where the pool is full or the name is taken, `Closed` where the pool is closed, and `Misuse`
        for a link that is in the pool; the link is as it was then. If cancelled, the link is ended with 1001.
        """
        await self._stay(self._admit_link(link, name, groups), partial(self._live_on, link))
        assert link.closed is not None
        return link.closed

    def add(self, link: Link, *, name: str | None = None, groups: str | Iterable[str] = ()) -> Member:
        """Have a link in the pool, read from in a task of the pool's, and return its member. Never waits.

        A link that nobody runs yet is run, watched by the pool's heart, and closed. Raises as `keep` does, and `Misuse`
        for a link that has ended.
        """
        if link.closed is not None:
            raise Misuse(f"the link has ended: {link.closed}")
        member = self._admit_link(link, name, groups)
        live = self._run if link.status is LinkStatus.CONNECTING else self._live_on
        self._tasks.start_soon(self._stay, member, partial(live, link))
        return member

    def dial(
        self,
        url: str,
        *,
        name: str | None = None,
        groups: str | Iterable[str] = (),
        subprotocols: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        verify: VerifyAnswer | None = None,
        ssl_context: ssl.SSLContext | None = None,
        open_stream: OpenStream | None = None,
    ) -> Member:
        """Have a member with a link to `url`, dialled now, and again whenever it is lost. Never waits.

        ``await member.wait_linked()`` waits for a link. When there is no sense in another dial (the server says so, or
        `PoolOptions.retries` are used up), the member has left the pool, and ``member.left`` says why. The rest is as
        in `open_link` and `keep`. Raises `Misuse` for a URL that is none, and headers that cannot be sent.
        """
        address = Address.parse(url)
        way = way_to(address, ssl_context, open_stream)
        check_headers(headers, subprotocols)
        member = self._admit(name, groups, is_client=True)
        opened = partial(
            dial,
            address,
            subprotocols=subprotocols,
            headers=headers,
            verify=verify,
            open_stream=way,
            options=self._options.link,
            opening=self._options.opening,
        )
        redial = self._redials[member] = Redial(opened, partial(self._run_next, member), self._options)
        self._tasks.start_soon(self._stay, member, redial.run)
        return member

    def cast_out(self, who: Link | str, close: CloseReason | None = None) -> bool:
        """Let go a member, by its link or its name, and return whether there was one. Never waits.

        Its name and its place are free at once; it is sent nothing more, and not dialled again. Its link is ended with
        `close`, if that is said; or else it goes on, and its messages go to the pool's handlers, until it ends.
        """
        if close is not None:
            close_frame(close)  # or what may not be said is found when the member is gone
        member = self._find(who)
        if member is None:
            return False
        self.discard(member, close or CloseReason(CloseCode.NORMAL, "cast out"))
        self._stop_dialling(member)
        link = member.link
        member.take(None)
        if link is not None and close is not None:
            link.end(close)
        return True

    async def wait(self) -> None:
        """Wait until the pool is empty, and the handlers of all links that were in it are done."""
        await trio.lowlevel.checkpoint()
        while self._lives:
            await self._ended.park()

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End all links, at once and politely, and wait until everything is done; nobody is taken any more.

        Takes at most `PoolOptions.close_within`; then, or when cancelled, the rest is cut, and handlers that still run
        are cancelled. So is one that calls this, since its own link cannot be done before: a handler should rather
        wake somebody else to do it.
        """
        close_frame(CloseReason(code, reason))  # before anything is done that could not be taken back
        self._closing = CloseReason(code, reason)
        for member in list(self._lives):
            self._stop_dialling(member)
        for link in list(self._whose):
            link.end(self._closing)
        try:
            with trio.move_on_after(self._options.close_within):
                await self.wait()
        finally:
            for life in list(self._lives.values()):
                life.cancel()
        await self.wait()  # what was cut has only to tell of it

    def statistics(self) -> PoolStatistics:
        """Return what the pool holds at the moment, and what has happened in it so far."""
        members = self._members.values()
        return PoolStatistics(
            members=len(members),
            clients=sum(each.is_client for each in members),
            linked=sum(each.link is not None for each in members),
            groups=len(self._groups),
            taken=self.taken,
            dropped=self.dropped,
            ended=self.ended,
            dials=self._past_dials + sum(each.dials for each in self._redials.values()),
        )

    # -- a member's life

    def _admit(self, name: str | None, groups: str | Iterable[str], *, is_client: bool) -> Member:
        if self._closing is not None:
            raise Closed("the pool is closed", self._closing)
        member = self.admit(name, groups, is_client=is_client)
        self._lives[member] = trio.CancelScope()
        return member

    def _admit_link(self, link: Link, name: str | None, groups: str | Iterable[str]) -> Member:
        if link in self._whose:
            raise Misuse(f"the link is in the pool already, as {self._whose[link].name!r}")
        member = self._admit(name, groups, is_client=link.is_client)
        self._give(member, link)
        return member

    async def _stay(self, member: Member, live: Callable[[], Awaitable[CloseReason]]) -> None:
        """Live until that is over, or cut."""
        close = CloseReason(CloseCode.GOING_AWAY)
        try:
            with self._lives[member]:
                close = await live()
        finally:
            del self._lives[member]
            redial = self._redials.pop(member, None)
            self._past_dials += redial.dials if redial is not None else 0
            self.discard(member, close)
            self._ended.unpark_all()

    def _give(self, member: Member, link: Link) -> None:
        self._whose[link] = member
        member.take(link)
        link.watch_status(partial(self._note_status, member, link))

    def _note_status(self, member: Member, link: Link, previous: LinkStatus, new: LinkStatus) -> None:
        member.stir()
        if new is LinkStatus.CLOSED and member.link is link:
            member.take(None)
            if member not in self._redials:
                assert link.closed is not None
                self.discard(member, link.closed)

    async def _run_next(self, member: Member, link: Link) -> CloseReason:
        """Run the next link of a member that is dialled."""
        if member.left is None:
            self._give(member, link)
        if member.left is not None or self._closing is not None:  # as of the last moment
            link.end(self._closing or CloseReason(CloseCode.NORMAL))
        return await self._run(link)

    async def _run(self, link: Link) -> CloseReason:
        with self._heart.watching(link):
            async with link.running():
                return await self._live_on(link)

    async def _live_on(self, link: Link) -> CloseReason:
        options, key, on_failure = self._options.dispatch, self._key, self._on_failure
        try:
            return await Dispatcher(link, options=options, key=key, on_failure=on_failure, beneath=self).run()
        finally:
            self._whose.pop(link, None)

    def _stop_dialling(self, member: Member) -> None:
        redial = self._redials.get(member)
        if redial is not None:
            redial.stop()


@asynccontextmanager
async def open_pool(
    options: PoolOptions | None = None, *, key: KeyOf | None = None, on_failure: OnFailure | None = None
) -> AsyncIterator[Pool]:
    """Have a pool for the length of the block; leaving it closes the pool: 1000, 1011 after an exception, 1001 when
    cancelled.

    `key` and `on_failure` are as for `Dispatcher`, for all its links.
    """
    async with open_tasks() as tasks:
        pool = Pool(tasks, options or PoolOptions(), key=key, on_failure=on_failure)
        code: int = CloseCode.NORMAL
        try:
            yield pool
        except Exception:
            code = CloseCode.INTERNAL
            raise
        except BaseException:
            code = CloseCode.GOING_AWAY
            raise
        finally:
            await pool.close(code)  # noqa: ASYNC102 - bounded by itself; when cancelled it cuts
            tasks.cancel_scope.cancel()
