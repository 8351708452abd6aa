"""The event-driven face of a link: what comes is handed to handlers, and so is how the link is.

Messages. One task reads. In order (the usual), it calls the handlers itself, and does not ask for the next message
before they are done. Otherwise each message gets a place in a lane, a task that works off its messages in order: a lane
for each key, or one for each message. There are as many places as `DispatchOptions.limit` says, and nothing is read
without a free one: so the peer is slowed down, and memory is bounded.

A message that no other may overtake on the link is handed over from its first fragment on, if one handler wants it and
can wait for chunks. Several handlers could not share them, and a lane would have to hold up the link: there it is read
whole first, once, and each handler gets a `WholeMessage` of its own. What came on a stream holds up nobody, and goes
into its lane as it is.

Status. A second task calls the handlers, so that they are told while a message is being handled. It holds no queue:
it tells of the latest status when those before it are told, so a slow handler may miss that a timeout came and went.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Hashable
from typing import Any

import trio

from trio_hub.errors import LinkLost, Misuse, PeerFault, StreamReset
from trio_hub.link.handlers import HandlerSets, MessageHandler, WholeMessage, takes_chunks
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.link.tasks import failures_in, is_of_the_link, open_tasks
from trio_hub.messages import CloseCode, CloseReason, LinkStatus
from trio_hub.options import DispatchOptions, Order

__all__ = ["Dispatcher", "KeyOf", "OnFailure"]

log = logging.getLogger("trio_hub.link")

KeyOf = Callable[[Incoming], Hashable]
"""Returns what messages have in common that must not overtake each other. Plain: it is called before they are handled.
A message that came on no stream is a `WholeMessage`."""
OnFailure = Callable[[Exception, Link], None]
"""Is told what a handler raised, and on which link. Plain."""


class Dispatcher(HandlerSets):
    """Hands what comes on a link to handlers: those of its own, and sets that are applied and revoked at any time.

    ::

        async def handler(link):                  # as of `serve_links`
            dispatcher = Dispatcher(link)
            dispatcher.apply(chat)
            await dispatcher.run()

    Every handler of a message is called, one after the other; a message that nobody takes is dropped. What a handler
    raises is logged and told to `on_failure`, and the link goes on, or ends with 1011 where `options` say so.

    `messages` is where they come from, if not from ``link.messages()``. `key` is for `Order.BY_KEY`, where the number
    of a message's stream is not what matters. `beneath` are sets that apply as well.
    """

    def __init__(
        self,
        link: Link,
        *,
        messages: AsyncIterable[Incoming] | None = None,
        options: DispatchOptions | None = None,
        key: KeyOf | None = None,
        on_failure: OnFailure | None = None,
        beneath: HandlerSets | None = None,
    ) -> None:
        super().__init__(beneath)
        self._link = link
        self._messages = messages
        self._options = options or DispatchOptions()
        self._key = key
        self._on_failure = on_failure
        self._told = LinkStatus.CONNECTING
        self._changed = trio.Event()
        self._over = False  # no message is handled any more
        self._ran = False

    async def run(self) -> CloseReason:
        """Read, and call handlers, until the link has ended and every handler is done; return how it ended.

        READY is told before anything is read, and CLOSED when all else is done: once, and last. Raises nothing for the
        link's end or its peer's faults. Nothing else may read from the link. For one call. Whoever runs the link closes
        it, as always.

        If cancelled, running handlers are cancelled, the link is ended with 1001, and CLOSED is told: async handlers
        of it have `LinkOptions.close_timeout` for themselves, then as always.
        """
        if self._ran:
            raise Misuse("a dispatcher runs once")
        self._ran = True
        stop_watching = self._link.watch_status(self._note_change)
        try:
            await self._tell()
            async with open_tasks() as following:
                following.start_soon(self._follow_status)
                async with open_tasks() as tasks:
                    await self._take_all(tasks)
                self._over = True
                self._changed.set()
        except BaseException:
            self._link.end(CloseReason(CloseCode.GOING_AWAY))
            raise
        finally:
            stop_watching()
            self._link.end(CloseReason(CloseCode.NORMAL))  # where `messages` ended before it
            with trio.move_on_after(self._link.options.close_timeout, shield=True):
                await self._tell_of(LinkStatus.CLOSED)
        assert self._link.closed is not None
        return self._link.closed

    # -- messages

    async def _take_all(self, tasks: trio.Nursery) -> None:
        in_order = self._options.order is Order.IN_ORDER
        lanes = _Lanes(self._options.limit, tasks, self._hand_over)
        messages = aiter(self._messages or self._link.messages())
        try:
            while True:
                await lanes.wait_for_place()
                message = await anext(messages, None)
                if message is None:
                    return
                if in_order:
                    await self._hand_over(message)
                else:
                    await self._put_in_lane(message, lanes)
        except (LinkLost, PeerFault) as error:
            self._blame(error)
        finally:
            await _close(messages)  # noqa: ASYNC102 - ours waits for nothing, and others may be cancelled

    async def _put_in_lane(self, message: Incoming, lanes: _Lanes) -> None:
        if message.stream is None:
            if not self.takers(message.kind):
                return
            try:
                message = await self._whole(message)
            except StreamReset as error:
                self._blame(error)
                return
        try:
            lane = self._lane_of(message)
        except Exception as error:
            self._fail(error)
            _stop(message, CloseCode.INTERNAL)
        else:
            lanes.put(lane, message)

    def _lane_of(self, message: Incoming) -> Hashable:
        if self._options.order is Order.CONCURRENT:
            return object()
        lane = message.stream if self._key is None else self._key(message)
        hash(lane)  # or it is the caller's fault, here and now
        return lane

    async def _hand_over(self, message: Incoming) -> None:
        """Call everybody who takes this message, one after the other. Raises nothing of what they do.

        What they leave of it is not wanted: a sender that can be told so is told.
        """
        takers = self.takers(message.kind)
        try:
            if len(takers) == 1 and takes_chunks(takers[0]):
                await self._call(takers[0], message, alone=message.can_be_stopped)
            elif takers:
                await self._hand_whole_to(takers, message)
            elif not message.can_be_stopped:
                await _drop(message)
        except (LinkLost, PeerFault, StreamReset) as error:
            self._blame(error, alone=message.can_be_stopped)
        finally:
            _stop(message, CloseCode.NORMAL)

    async def _hand_whole_to(self, takers: list[MessageHandler], message: Incoming) -> None:
        whole = await self._whole(message)
        for taker in takers:
            await self._call(taker, WholeMessage(whole.kind, whole.data, stream=whole.stream))

    async def _whole(self, message: Incoming) -> WholeMessage:
        """Read a message whole, within the time that one may take: the heart is content with any piece of it.

        On a stream it may take longer, for it holds up nobody.
        """
        if isinstance(message, WholeMessage):
            return message
        within = self._link.options.finish_within if message.stream is None else math.inf
        with trio.move_on_after(within):
            return WholeMessage(message.kind, await message.read(), stream=message.stream)
        raise PeerFault(CloseCode.POLICY, "the message was not finished in time")

    # -- status

    def _note_change(self, previous: LinkStatus, new: LinkStatus) -> None:
        self._changed.set()

    async def _follow_status(self) -> None:
        while not self._over:
            await self._changed.wait()
            self._changed = trio.Event()
            await self._tell()

    async def _tell(self) -> None:
        while (new := self._link.status) is not self._told and new is not LinkStatus.CLOSED:
            await self._tell_of(new)

    async def _tell_of(self, new: LinkStatus) -> None:
        previous, self._told = self._told, new
        for observer in self.observers():
            await self._call(observer, previous, new)

    # -- what handlers raise

    async def _call(self, handler: Callable[..., Any], *said: Any, alone: bool = False) -> None:
        try:
            result = handler(*said, self._link)
            if result is not None and isinstance(result, Awaitable):
                await result
        except Exception as error:
            self._blame(error, alone=alone)
        except BaseExceptionGroup as group:  # it is cancelled, and something in its nursery has failed as well
            cancelled, others = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(others, ExceptionGroup):
                raise
            self._blame(others, alone=alone)
            raise cancelled from None

    def _blame(self, error: Exception, *, alone: bool = False) -> None:
        """Take it for the peer's doing, or the world's, where all that is in it can be; or else for the handler's.

        A fault of the peer's ends the link, but for one in a message that stands `alone`, on a stream.
        """
        failures = failures_in(error)
        if not is_of_the_link(error, has_ended=self._link.closed is not None):
            self._fail(failures[0] if len(failures) == 1 else error)
            return
        log.debug("a message was not handled to its end: %s", error)
        for each in failures:
            if isinstance(each, PeerFault) and not alone:
                self._link.end(CloseReason(each.code, each.reason))

    def _fail(self, error: Exception) -> None:
        log.error("a handler has failed", exc_info=error)
        try:
            if self._on_failure is not None:
                self._on_failure(error, self._link)
        except Exception:
            log.exception("whoever is told of failures has failed")
        if self._options.end_on_failure:
            self._link.end(CloseReason(CloseCode.INTERNAL))


class _Lanes:
    """Messages that are being handled, or wait for those before them in their lane; a task for each lane."""

    def __init__(self, places: int, tasks: trio.Nursery, handle: Callable[[Incoming], Awaitable[None]]) -> None:
        self._places = places
        self._tasks = tasks
        self._handle = handle
        self._taken = 0
        self._lanes: dict[Hashable, deque[Incoming]] = {}
        self._room = trio.lowlevel.ParkingLot()

    async def wait_for_place(self) -> None:
        while self._taken >= self._places:
            await self._room.park()

    def put(self, lane: Hashable, message: Incoming) -> None:
        self._taken += 1
        if lane in self._lanes:
            self._lanes[lane].append(message)
        else:
            self._lanes[lane] = deque([message])
            self._tasks.start_soon(self._work_off, lane)

    async def _work_off(self, lane: Hashable) -> None:
        waiting = self._lanes[lane]
        while waiting:
            await self._handle(waiting.popleft())
            self._taken -= 1
            self._room.unpark()
        del self._lanes[lane]


def _stop(message: Incoming, code: int) -> None:
    """Want no more of a message, where there is more and its sender can be told."""
    if message.can_be_stopped:
        message.stop(code, "nobody wants the rest of it")


async def _drop(message: Incoming) -> None:
    """Let go what nobody takes; on a stream it would otherwise be kept for whoever comes to read it."""
    if message.stream is not None:
        async for _ in message:
            pass


async def _close(messages: AsyncIterator[Incoming]) -> None:
    """Close an async generator, which would otherwise be left to the garbage collector."""
    if isinstance(messages, AsyncGenerator):
        await messages.aclose()
