"""Many messages at once on one link between peers of ours: each comes at its own pace, and none delays another.

What is said and when is decided in `wire.streams`. Here one task reads the link; whoever sends or takes a message waits
for its own. What is to be said is drawn by the link's writer when the socket has room, a turn of each message at a
time: so a small one overtakes whatever large ones still have to say.
"""

from __future__ import annotations

import codecs
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final

import trio

from trio_hub.errors import LinkLost, Misuse, PeerFault, StreamReset, again
from trio_hub.link.dialing import OpenStream, open_link
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.link.outgoing import SENDS_IN_A_TURN
from trio_hub.link.sources import Source, encoded, pieces_of
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason, Kind
from trio_hub.options import LinkOptions, OpeningOptions, StreamsOptions
from trio_hub.wire.inbound import Arriving
from trio_hub.wire.outbound import Departing
from trio_hub.wire.stream_words import OVERHEAD
from trio_hub.wire.streams import SUBPROTOCOL, Multiplexer

__all__ = ["SUBPROTOCOL", "Streams", "open_streams"]

_CANCELLED: Final = (CloseCode.GOING_AWAY, "its sender was cancelled")


class Streams:
    """Many messages at once on `link`, while `running()`. ``async for message in streams`` yields each as it begins.

    Several tasks may iterate, and each has the messages that it was given; whoever has one reads it to its end or stops
    it, for it is one of the `StreamsOptions.messages` that may be there. `link` itself is for nobody else to receive
    from or to send to.

    Raises `Misuse` where the link does not speak ``streams.trio-hub.v1``, or could not take a window in one message.
    """

    def __init__(self, link: Link, options: StreamsOptions | None = None) -> None:
        self.options = options = options or StreamsOptions()
        self.link = link
        if link.subprotocol != SUBPROTOCOL:
            raise Misuse(f"many messages at once are for links that speak {SUBPROTOCOL}, not {link.subprotocol}")
        if options.window + OVERHEAD > link.options.max_message:
            raise Misuse(f"a window of {options.window} bytes does not fit into the link's `max_message`")
        self._multiplexer = Multiplexer(window=options.window, messages=options.messages, chunk=options.chunk)
        self._inbound = self._multiplexer.inbound
        self._outbound = self._multiplexer.outbound
        self._waiting: deque[Arriving] = deque()  # for somebody who takes them
        self._takers = trio.lowlevel.ParkingLot()
        self._sending: dict[Departing, None] = {}
        self._sends = 0
        self._fault: PeerFault | None = None
        self._left: CloseReason | None = None

    @property
    def closed(self) -> CloseReason | None:
        """None while messages can come and go, then why they cannot any more."""
        return self.link.closed or self._left

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Streams]:
        """Read the link, and write what is owed, within the block. Once; what is midway after it is lost.

        The link itself has to be running, and is left open.
        """
        writer = self.link.writer
        async with open_tasks() as tasks:
            writer.draw_from(self._draw)
            writer.flush()
            tasks.start_soon(self._read)
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()
                self._left = CloseReason(CloseCode.GOING_AWAY, "nobody runs its streams any more")
                self._wake_everybody()
                writer.draw_from(None)

    # -- in

    def __aiter__(self) -> AsyncIterator[Incoming]:
        return self

    async def __anext__(self) -> Incoming:
        """Return the next message as soon as it has begun; the iteration stops when the link has ended.

        No other task gets a turn where one waits already. Nothing is lost when cancelled. Raises `PeerFault` when the
        peer broke the protocol (it is being told).
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._waiting:
            if self._fault is not None:
                raise again(self._fault)
            if self.closed is not None:
                raise StopAsyncIteration
            await self._takers.park()
        arriving = self._waiting.popleft()
        reading = _Reading(self, arriving)
        return Incoming(
            arriving.kind,
            reading.next_chunk,
            max_message=self.link.options.max_message,
            stream=arriving.number,
            stop=reading.stop,
        )

    async def _read(self) -> None:
        try:
            while True:
                for frame in await self.link.receive():
                    arriving = self._multiplexer.hear(frame)
                    if arriving is not None:
                        self._waiting.append(arriving)
                        self._takers.unpark()
                self._say()
        except PeerFault as fault:
            self._fault = fault
            self.link.end(CloseReason(fault.code, fault.reason))
        except LinkLost:
            pass  # `closed` says why
        self._wake_everybody()

    def _wake_everybody(self) -> None:
        for arriving in self._inbound.live:
            arriving.heed()
        for departing in self._sending:
            departing.heed()
        self._takers.unpark_all()

    # -- out

    async def send(self, message: str | bytes) -> None:
        """Send a message: text for `str`, binary for `bytes`. Waits until all of it is on its way.

        Other messages are sent beside it, and a small one does not wait for large ones. If cancelled, a message of at
        most a chunk was not sent, and a larger one has no end: its receiver is told so. Raises `StreamReset` where its
        receiver stops it, and `LinkLost` when the link has ended.

        A checkpoint as `Link.send` is one.
        """
        kind = Kind.BINARY if isinstance(message, bytes) else Kind.TEXT
        data = encoded(kind, message)
        await trio.lowlevel.checkpoint_if_cancelled()
        frame = None if self.link.writer.busy or self.closed is not None else self._outbound.whole(kind, data)
        if frame is None:
            with self._sending_one(kind) as sending:
                await sending.hand_over(data, last=True)
            return
        self.link.post(frame)
        self.link.writer.flush()
        self._sends += 1
        if self._sends % SENDS_IN_A_TURN == 0:  # it is taken: too late to be cancelled
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_stream(self, kind: int, source: Source) -> None:
        """Send a message of this kind, from whatever it comes: `str`, `bytes`, a file, or what yields either.

        Nothing is kept of it: memory is flat, however long the message. It has no size that anybody must know, and no
        deadline. Returning says that all of it is on its way. Raises `StreamReset` where its receiver stops it, at
        once, `LinkLost` when the link has ended, `Misuse` where the source is none for this kind, and whatever the
        source raises.

        If cancelled, or if the source raises, the message is given up, and so is known not to be whole: its receiver's
        iteration raises `StreamReset`, with code 1001 or 1011.
        """
        with self._sending_one(kind) as sending:
            with sending.scope:
                if isinstance(source, str | bytes):
                    await sending.hand_over(encoded(kind, source), last=True)
                else:
                    async with aclosing(pieces_of(kind, source, self.options.chunk)) as pieces:
                        async for piece in pieces:
                            await sending.hand_over(piece)
                    await sending.hand_over(b"", last=True)
            if sending.scope.cancelled_caught:
                sending.check()

    @contextmanager
    def _sending_one(self, kind: int) -> Iterator[_Sending]:
        """A message that is sent within the block, or given up."""
        departing = Departing(kind)
        self._sending[departing] = None
        try:
            yield _Sending(self, departing)
        except Exception:
            self._outbound.reset(departing, CloseCode.INTERNAL, "its source failed")
            raise
        except BaseException:
            self._outbound.reset(departing, *_CANCELLED)
            raise
        finally:
            del self._sending[departing]
            self._say()

    def _say(self) -> None:
        if self._multiplexer.has_to_say:
            self.link.writer.flush()

    def _draw(self, size: int) -> tuple[bytes, bool]:
        """The writer's source."""
        framed = self.link.framed(self._multiplexer.draw(size))
        return framed, self._multiplexer.has_to_say


class _Sending:
    """One message that is being sent. `scope` is cancelled when nobody wants it any more."""

    def __init__(self, streams: Streams, departing: Departing) -> None:
        self._streams = streams
        self._departing = departing
        self._parked: trio.lowlevel.Task | None = None  # until what it handed over is on its way
        self.scope = trio.CancelScope()
        departing.heed = self._heed

    def _heed(self) -> None:
        if self._parked is not None:
            task, self._parked = self._parked, None
            trio.lowlevel.reschedule(task)
        if self._departing.over is not None or self._streams.closed is not None:
            self.scope.cancel()

    async def hand_over(self, data: bytes, *, last: bool = False) -> None:
        """Have more of it sent; wait until all of that is on its way. Raises as `check` does."""
        await trio.lowlevel.checkpoint()
        self.check()
        self._streams._outbound.offer(self._departing, data, last=last)
        self._streams._say()
        while self._departing.data is not None:
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
            self.check()

    def _give_up(self, raise_cancel: object) -> trio.lowlevel.Abort:
        """Give it up at the moment of the cancel: before the task hears of that, the writer might have drawn it."""
        self._parked = None
        self._departing.heed = lambda: None
        self._streams._outbound.reset(self._departing, *_CANCELLED)
        return trio.lowlevel.Abort.SUCCEEDED

    def check(self) -> None:
        """Raise `StreamReset` or `LinkLost` where no more can be sent."""
        if self._departing.over is not None:
            raise StreamReset(*self._departing.over)
        if self._streams.closed is not None:
            raise LinkLost(self._streams.closed)


class _Reading:
    """One message that is being taken."""

    __slots__ = ("_arriving", "_decode", "_is_awaited", "_streams")

    def __init__(self, streams: Streams, arriving: Arriving) -> None:
        self._streams = streams
        self._arriving = arriving
        self._is_awaited = False
        self._decode = codecs.getincrementaldecoder("utf-8")().decode if arriving.kind == Kind.TEXT else None

    async def next_chunk(self) -> str | bytes | None:
        """A `NextChunk`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_awaited:
            raise Misuse("another task reads this message already")
        while True:
            chunk = self._take()
            if self._arriving.over is not None:
                raise StreamReset(*self._arriving.over)
            if chunk:
                return chunk
            if self._arriving.ended:
                return None
            if self._streams.closed is not None:
                raise LinkLost(self._streams.closed)
            await self._wait()

    def _take(self) -> str | bytes:
        data = self._streams._inbound.take(self._arriving)
        self._streams._say()
        if self._decode is None:
            return data
        try:
            return self._decode(data, self._arriving.ended)
        except UnicodeDecodeError:
            self.stop(CloseCode.INVALID_DATA, "invalid UTF-8")
            return ""

    async def _wait(self) -> None:
        come = trio.lowlevel.ParkingLot()
        self._arriving.heed = come.unpark_all
        self._is_awaited = True
        try:
            await come.park()
        finally:
            self._is_awaited = False

    def stop(self, code: int, reason: str) -> None:
        """A `Stop`."""
        self._streams._inbound.stop(self._arriving, code, reason)
        self._streams._say()


@asynccontextmanager
async def open_streams(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_stream: OpenStream | None = None,
    options: StreamsOptions | None = None,
    link_options: LinkOptions | None = None,
    opening: OpeningOptions | None = None,
) -> AsyncIterator[Streams]:
    """Open a WebSocket to `url` for the length of the block, on which many messages may be sent and come at once.

    Leaving the block closes the link, as `open_link` does, and raises as that does: `Refused` where the server says no,
    and `LinkLost` where it cannot be reached, or does not speak ``streams.trio-hub.v1``. `open_stream` as there.
    """
    opened = open_link(
        url,
        subprotocols=[SUBPROTOCOL],
        headers=headers,
        ssl_context=ssl_context,
        open_stream=open_stream,
        options=link_options,
        opening=opening,
    )
    async with opened as link:
        if link.subprotocol != SUBPROTOCOL:
            close = CloseReason(CloseCode.PROTOCOL_ERROR, f"the server does not speak {SUBPROTOCOL}")
            link.end(close)
            raise LinkLost(close)
        async with Streams(link, options).running() as streams:
            yield streams
