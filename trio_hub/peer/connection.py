"""The hub's side of one peer: a stay that outlives its links.

Its life is one task (`live`) in one nursery: it reads from the link it has, and when that ends waits for the next,
within the window. The link's writer, the hook task and the tasks of requests stand beside it in the same nursery and
end with it.

    attached --link ends--> away --a link comes within the window--> attached
                            away --window closes, or too much is owed--> gone

`hand_over` is where a newer link arrives, also while the old one still looks alive: one plain call detaches the one
and attaches the other, so no event can fall between them. The newest link always wins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.link.writer import Writer
from trio_hub.messages import CloseCode, CloseReason, Event, Resumed
from trio_hub.options import HubOptions
from trio_hub.peer.hearing import Hearing
from trio_hub.peer.hooks import Hooks, Plugin
from trio_hub.peer.luggage import Luggage
from trio_hub.peer.patience import Patience
from trio_hub.peer.requests import Handler
from trio_hub.session import Session
from trio_hub.wire.bodies import Body, Tally
from trio_hub.wire.codecs import Codec, Framing
from trio_hub.wire.outbox import Fate, Heed, Outbox, OutboxStatistics

__all__ = ["Connection", "ConnectionStatistics"]

log = logging.getLogger("trio_hub.peer")

_TAKEN_OVER = CloseReason(CloseCode.TAKEN_OVER, "a newer link took over")
_LEAVING = CloseReason(CloseCode.GOING_AWAY, "the server is leaving")


@attrs.frozen
class ConnectionStatistics:
    """What one connection holds at this moment."""

    attached: bool
    links: int
    running_requests: int
    outbox: OutboxStatistics


class Connection:
    """One peer's stay with the hub. Made by the hub; what an application may use of it is `id`, `session`, `user`,
    `topics`, `address` (where its latest link came from), `attached`, `statistics` and `end`.

    `topics` is kept by the hub's index, `asked` counts its requests; `writer` and `framing` are those of the link it
    has, for `broadcast`. `allow` says whether one more request of about so many bytes may be carried out, `answered` is
    called with the status of each reply. `left` is called, with the reason, at the moment from which nobody can come
    back to it, `changed` whenever it has another link, or none any more; none of these must wait.
    """

    def __init__(
        self,
        id: str,
        session: Session,
        codec: Codec,
        hello: Body,
        *,
        gap: str | None,
        options: HubOptions,
        handler: Handler,
        heart: Heart,
        plugins: Sequence[Plugin],
        allow: Callable[[float], bool] | None,
        answered: Callable[[int], None],
        tally: Tally,
        left: Callable[[Connection, str], None],
        changed: Callable[[Connection], None],
    ) -> None:
        self.id = id
        self.session = session
        self.address: str | None = None
        self.since = time.time()  # also where it has gone on at another node
        self.is_idle = False  # nobody sits at this device
        self.codec = codec
        self.topics: set[str] = set()
        self.topics_beside: set[str] = set()  # of these: what it hears of in them beside what is said there
        self.gap = gap  # the reason of the gap that the hello of this id tells of, if it does
        self.outbox = Outbox(hello, options.outbox, acknowledged=codec.acknowledges)
        self._options = options
        self._heart = heart
        self._left = left
        self._changed = changed
        self._hooks = Hooks(self, plugins, options.hook_queue) if plugins else None
        self.link: Link | None = None  # the one it has at this moment
        self.writer: Writer | None = None  # of that link
        self.framing: Framing = codec  # as that link wants it
        self._links = 0
        self._reading: Link | None = None  # the link that the life task reads from, and sees to the end of
        self._change = trio.Event()  # set when an away connection gets a link, or is to end
        self.has_ended = False  # nobody can come back to it any more
        self._drawn: dict[Heed, bool] = {}  # see `_heed_fate`
        self._writing = Patience(options.outbox.age)
        self._acknowledging = Patience(options.outbox.acknowledge_within)
        self._tasks: trio.Nursery | None = None
        self._tally = tally
        self._hearing = Hearing(self, handler, options, hooks=self._hooks, allow=allow, answered=answered, tally=tally)

    @property
    def user(self) -> str:
        """The id of the user it belongs to."""
        return self.session.user

    @property
    def attached(self) -> bool:
        """Whether it has a link at this moment."""
        return self.link is not None

    @property
    def asked(self) -> int:
        """How many requests it made."""
        return self._hearing.asked

    @property
    def highest_request(self) -> int:
        """The highest number of a request that it made (v1)."""
        return self._hearing.requests.highest

    def statistics(self) -> ConnectionStatistics:
        """Return what it holds at this moment."""
        running = self._hearing.requests.running
        return ConnectionStatistics(self.attached, self._links, running, self.outbox.statistics())

    # -- what it is owed

    def flush(self) -> None:
        """Write what is owed, as far as the link takes it now. Never waits."""
        if self.writer is not None:
            self.writer.flush()

    async def wait_written(self) -> None:
        """Wait until its link, if it has one, has taken what it may take, or has ended."""
        if self.writer is not None:
            await self.writer.wait_idle()

    def _draw(self, most: int) -> tuple[bytes, bool]:
        """Return what is to be written next. Being asked says that the system has taken all that was drawn before."""
        outbox = self.outbox
        if self._drawn:
            self._tell_drawn()
        if outbox.may_expire:
            outbox.drop_expired(trio.current_time())
        first = outbox.next_number
        bodies = outbox.take(most)
        if not bodies:
            return b"", False
        return self.framing.frames(bodies, first), bool(outbox.owed or self._drawn)

    def observe(self, event: Event) -> None:
        """Have plugins told of an event that it is owed now."""
        if self._hooks is not None:
            self._hooks.copy("event", event)

    def restart(self, id: str, hello: Body, reason: str) -> None:
        """Go on under this id, with nothing owed but its hello, which tells of the gap."""
        self.id = id
        self.gap = reason
        self._lose_drawn()
        self.outbox.restart(hello)
        self._writing = Patience(self._options.outbox.age)
        self._acknowledging = Patience(self._options.outbox.acknowledge_within)
        self._hearing.begin_anew()
        self._tell("gap", reason)

    def follow(self, body: Body, heed: Heed) -> None:
        """Have `heed` told what becomes of an event that it is owed; `WRITTEN` when the system has its bytes."""
        if self.has_ended:
            heed(Fate.LOST)
        else:
            self.outbox.watch(body, partial(self._heed_fate, heed))

    def _heed_fate(self, heed: Heed, fate: Fate) -> None:
        """Hold back that an event is written until the system has its bytes; it may be forgotten before that."""
        if fate is Fate.WRITTEN:
            self._drawn[heed] = False
        elif fate is Fate.FORGOTTEN and heed in self._drawn:
            self._drawn[heed] = True
        else:
            self._drawn.pop(heed, None)
            heed(fate)

    def _tell_drawn(self) -> None:
        drawn, self._drawn = self._drawn, {}
        for heed in drawn:
            heed(Fate.WRITTEN)

    def _lose_drawn(self) -> None:
        """The link is gone with what it had not written: what was forgotten is lost, the rest is drawn again."""
        drawn, self._drawn = self._drawn, {}
        for heed, forgotten in drawn.items():
            if forgotten:
                heed(Fate.LOST)

    def is_owed_too_long(self, now: float) -> bool:
        """Whether it is owed something that should have been written by now. To be asked now and then."""
        written = self.outbox.next_number
        return self._writing.has_run_out(now, done=written, due=written + len(self.outbox.owed))

    def press(self, now: float) -> None:
        """Give its link up if nothing was acknowledged for too long. To be called now and then."""
        if self.link is None or not self.codec.acknowledges or self.outbox.next_number == 1:
            return  # a hello alone is handled with what follows
        oldest = self.outbox.first_kept
        due = oldest + (oldest < self.outbox.next_number)
        if self._acknowledging.has_run_out(now, done=oldest, due=due):
            self.link.end(CloseReason(CloseCode.LOST_PATIENCE, "nothing was acknowledged for too long"))

    # -- links come and go

    def resume(self, wanted: int) -> bool:
        """Have its next link go on at event `wanted`; False, and nothing is changed, where that is not held."""
        self._lose_drawn()
        return self.outbox.resume(wanted)

    def hand_over(self, link: Link, *, resumed: bool = False) -> None:
        """Attach a newer link, detaching the one before it, alive or not; `live` sees to the rest. Never waits.

        `resumed` says that the outbox was moved to where the client wants to go on.
        """
        previous = self.link
        self._hearing.stay()
        self._attach(link)
        self._links += 1
        self._acknowledging = Patience(self._options.outbox.acknowledge_within)
        if previous is not None:
            self._see_off(previous)
        if self._links > 1:
            self._tell("resumed")
        if resumed and self.codec.acknowledges:
            resumption = Resumed(self.id, self.outbox.next_number, self.highest_request, self._options.link.max_message)
            link.post(self.codec.encode(resumption))
        link.writer.draw_from(self._draw)
        link.writer.flush()
        self._change.set()

    def _see_off(self, link: Link) -> None:
        """End a link in whose place there is another one, here or elsewhere."""
        link.writer.draw_from(None)
        link.end(_TAKEN_OVER)
        if link is not self._reading and self._tasks is not None:
            self._tasks.start_soon(link.close)
        self._tell("taken_over")

    def _attach(self, link: Link | None) -> None:
        """Note the link it has from now on, and what `broadcast` needs to know of that."""
        self.link = link
        self.writer = None if link is None else link.writer
        if link is not None:
            self.framing = self.codec if link.deflater is None else self.codec.deflating(link.deflater)
        self._changed(self)

    def end(self, close: CloseReason) -> None:
        """End it for good: say so on its link, and let nobody resume. Never waits.

        What it has asked is cancelled. A handler that ends the connection that asked is, too, at its next `await`.
        """
        if self.link is not None:
            self.link.end(close)
        self.give_up()

    def send_away(self, close: CloseReason) -> None:
        """End its link, and stay for when it comes back. Never waits."""
        if self.link is not None:
            self.link.end(close)

    def give_up(self) -> None:
        """Wait for no further link, and cancel what was asked. Never waits."""
        self.has_ended = True
        self._hearing.give_up()
        self._change.set()

    # -- going on at another node

    @property
    def links(self) -> int:
        """How many links it has had here."""
        return self._links

    def lose_link(self) -> None:
        """Have its link taken over from elsewhere. Never waits."""
        link = self.link
        if link is not None:
            self._attach(None)
            self._see_off(link)

    async def leave(self, patience: float) -> None:
        """Lose the link, and have what was asked come to an end, as `Requests.leave` says."""
        self.lose_link()
        self._lose_drawn()
        await self._hearing.leave(patience)

    def packed(self, heard: Mapping[str, int], reliably: Sequence[tuple[str, int]]) -> Luggage:
        """Return what it takes along, and what it has had: see `Luggage`. It must have left, and end at once."""
        next_number, kept, owed = self.outbox.packed()
        highest, replies, streamed = self._hearing.requests.packed()
        topics = [*self.topics, *self.topics_beside]
        return Luggage(
            next_number,
            kept,
            owed,
            topics,
            highest,
            replies,
            streamed,
            heard,
            since=self.since,
            is_idle=self.is_idle,
            reliably=reliably,
        )

    def unpack(self, luggage: Luggage) -> None:
        """Go on with what it has brought along, behind which stands what it has been owed here meanwhile, but for what
        the other node has heard as well.
        """
        _, _, owed_here = self.outbox.packed()
        news = [body for body in owed_here[1:] if not luggage.knows(body)]
        for body in (*luggage.kept, *luggage.owed):
            body.count_in(self._tally)
        self.outbox.unpack(luggage.next_number, luggage.kept, [*luggage.owed, *news])
        self._hearing.requests.unpack(luggage.highest, luggage.replies, luggage.streamed)
        self.gap = None
        self.since, self.is_idle = luggage.since, luggage.is_idle

    async def live(self) -> None:
        """The life task: from the first link, handed over already, to the end. Raises nothing of its own."""
        async with open_tasks() as tasks:
            self._tasks = tasks
            self._hearing.requests.run_in(tasks)
            if self._hooks is not None:
                tasks.start_soon(self._hooks.run)
            self._tell("connected")
            if self.gap is not None:
                self._tell("gap", self.gap)
            try:
                while self.link is not None:
                    await self._live_on(self.link)
                    await self._wait_for_link()
            finally:
                self._over()

    async def _live_on(self, link: Link) -> None:
        """Read from this link until it ends, or a newer one takes over."""
        assert self._tasks is not None
        self._reading = link
        self._heart.watch(link)
        link.writer.run_in(self._tasks)
        try:
            await self._hearing.read(link)
        finally:
            self._heart.forget(link)
            link.end(_LEAVING)  # of importance only when we are cancelled
            link.writer.draw_from(None)
            self._tasks.start_soon(link.close)
        if self.link is link:
            self._attach(None)
            self._tell("disconnected", link.closed)

    async def _wait_for_link(self) -> None:
        """Wait for a newer link, as long as the window allows."""
        with trio.move_on_after(self._options.window):
            while self.link is None and not self.has_ended:
                self._change = trio.Event()
                await self._change.wait()

    def _over(self) -> None:
        """Leave everything in order; what waits for us ends by itself, within bounds."""
        assert self._tasks is not None
        self.give_up()
        self._left(self, "expired")
        link = self.link
        self._attach(None)
        if link is not None:  # we are cancelled
            link.end(_LEAVING)
            if link is not self._reading:
                self._tasks.start_soon(link.close)
            self._tell("disconnected", link.closed)
        self._lose_drawn()
        self.outbox.clear()
        self._hearing.let_go()
        self._tell("expired")
        if self._hooks is not None:
            self._hooks.end(self._options.hooks_end_within)

    def _tell(self, moment: str, *details: Any) -> None:
        """Have plugins told. Where they cannot follow any more the connection ends, so that nothing is left untold."""
        if self._hooks is not None and not self._hooks.tell(moment, *details) and not self.has_ended:
            log.error("plugins are too slow: connection %s is given up", self.id)
            self._left(self, "overflow")
            self.end(CloseReason(CloseCode.INTERNAL, "something cannot follow here; see the server's log"))
