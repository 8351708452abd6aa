"""One WebSocket, after its upgrade: messages over a stream.

Who may do what. One task reads (`receive`), one task writes (`writer.run`, see `writer`); both belong to whoever runs
the link, who enters `running()` or starts them in a nursery of their own.

How it ends. `closed` says why, from the moment that is decided; `receive` raises it as `LinkLost`. `end` decides it
from our side, in a plain call that anybody may make; `close` does the polite rest within `close_timeout`, whoever
ended it, and always leaves the stream closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from trio_hub.bucket import Bucket
from trio_hub.errors import LinkLost, Misuse, PeerFault
from trio_hub.link.arrivals import Arrivals
from trio_hub.link.incoming import Incoming
from trio_hub.link.outgoing import Outgoing
from trio_hub.link.pings import Pings
from trio_hub.link.readers import pieces_from, reader_for
from trio_hub.link.sources import Source
from trio_hub.link.status import Watched
from trio_hub.link.tasks import open_tasks
from trio_hub.link.transport import transport_for
from trio_hub.link.writer import Writer
from trio_hub.messages import CloseCode, CloseReason, LinkStatus
from trio_hub.options import LinkOptions
from trio_hub.wire.deflate import Deflater, Parameters
from trio_hub.wire.frames import PING, PONG, Ping, Pong
from trio_hub.wire.framing import Framer
from trio_hub.wire.pieces import PieceReader, WholeReader
from trio_hub.wire.reading import FrameReader

if TYPE_CHECKING:
    from trio_hub.link.heads import RequestHead
    from trio_hub.wire.sealing import Seal

__all__ = ["Link"]

_MOMENT = 0.1  # s, in which a client of webson's has taken its stream from where the upgrade was read

_Reader = FrameReader | WholeReader | PieceReader


class Link(Watched):
    """One WebSocket. ``async for message in link`` yields `str` for text and `bytes` for binary, until it ends.

    `client` says which end this is, `unread` are bytes that came right behind the upgrade, `subprotocol` and
    `compression` are what was agreed. `writer` takes frames that are finished already, made with `deflater` where there
    is one; `send` is for everybody else.

    `request` is the head of the upgrade, at the end of a server of `serve_links`.

    `closed` is None while the link lives, then the reason of its end; `status` says a little more, and `watch_status`
    tells of its changes: READY from `running` on, CLOSED as soon as `closed` is set. For the heart: `listening` says
    that somebody waits for the peer, `heard` is set by whatever comes in (the heart clears it), `received` counts
    messages, `midway` says that the peer has begun one and not finished it.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        client: bool,
        unread: bytes = b"",
        subprotocol: str | None = None,
        compression: Parameters | None = None,
        options: LinkOptions | None = None,
        seal: Seal | None = None,
        streams: int = 0,
    ) -> None:
        super().__init__()
        self.options = options = options or LinkOptions()
        self.subprotocol = subprotocol
        self.request: RequestHead | None = None
        self.compression = compression
        self.closed: CloseReason | None = None
        self.listening = False
        self.heard = False
        self.received = 0
        self._client = client
        self._transport = transport_for(stream)
        self.writer = Writer(self._transport, options, self._die)
        self.deflater: Deflater | None = None
        inflater = None
        if compression is not None:
            self.deflater, inflater = compression.carried_out(options, client=client)
        sealer = seal.sealer if seal is not None else None
        self.framer = Framer(options.dialect, client=client, deflater=self.deflater, sealer=sealer, streams=streams)
        self._outgoing = Outgoing(self.writer, self.framer, options, self.end)
        self._frames: _Reader = reader_for(options, client=client, inflater=inflater, seal=seal, streams=streams > 0)
        self._control_frames: Bucket | None = None  # most links never see any
        self._pings = Pings(any_pong=options.dialect.is_webson)
        self._unread = unread
        self._held_back: list[str | bytes] = []  # the next message is the last
        self._arrivals: Arrivals | None = None
        self._goodbye_heard = False
        self._dead = False  # nothing can come or go any more
        self._parted: trio.Event | None = None  # set when whoever closes first is done
        self._unheard: trio.Event | None = None  # set when nobody reads any more, where that is waited for

    @property
    def is_client(self) -> bool:
        """Whether this is the end that dialled."""
        return self._client

    @property
    def midway(self) -> bool:
        """Whether the peer has begun a message and not finished it."""
        return self._frames.midway

    # -- in

    def prove(self) -> None:
        """Send what a server of a sealed link waits for: a first frame, which nobody without the key can make."""
        self._outgoing.say(PONG, b"")

    async def settle(self) -> None:
        """Wait until a server may say something, where the dialect has it wait.

        On a sealed link that is when the client has proved that it has the key; `PeerFault` where it has not. A client
        of webson's loses what comes too soon after the upgrade, so it is heard first, or given a moment.
        """
        dialect = self.options.dialect
        if dialect.secret is not None and isinstance(self._frames, WholeReader):
            await self._hear_proof(self._frames.pieces)
        elif dialect.is_webson:
            with trio.move_on_after(_MOMENT):
                self._unread = await self._read()

    async def _hear_proof(self, reader: PieceReader) -> None:
        try:
            while not reader.hold(await self._read()):
                if self.closed is not None:
                    raise LinkLost(self.closed)
        except PeerFault as fault:
            self._refuse(fault)
            raise

    async def receive(self) -> list[str | bytes]:
        """Return all the messages of one read, at least one. For one task at a time; nothing is lost when cancelled.

        Messages of private kinds are bytes; `messages` tells the kind. Pings are answered on the way. Raises
        `PeerFault` when the peer broke the protocol (it is being told), and `LinkLost` when the link has ended; what
        came before is returned first. Raises `Misuse` once `messages` was called.
        """
        if self._arrivals is not None:
            raise Misuse("this link's messages are read piece by piece: go on with `messages`")
        if self._held_back:
            await trio.lowlevel.checkpoint()
            held_back, self._held_back = self._held_back, []
            return held_back[::-1]
        while True:
            messages = cast("list[str | bytes]", await self._hear(self._frames))
            if messages:
                return messages

    async def _hear(self, reader: _Reader) -> list[Any]:
        """Return what came in one read, control frames apart, which are heeded. Raises as `receive` does."""
        if self.closed is not None:
            raise LinkLost(self.closed)
        try:
            received: list[Any] = reader.feed(await self._read())
        except PeerFault as fault:
            self._refuse(fault)
            raise
        if reader.had_control_frames:
            controls = [item for item in received if isinstance(item, Ping | Pong | CloseReason)]
            received = [item for item in received if not isinstance(item, Ping | Pong | CloseReason)]
            self._heed(controls)
        self.received += len(received)
        return received

    def _refuse(self, fault: PeerFault) -> None:
        self.end(CloseReason(fault.code, fault.reason))

    def hold_back(self, messages: Iterable[str | bytes]) -> None:
        """Have these messages returned by the next `receive`."""
        self._held_back += reversed(list(messages))

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        """Return the next message; the iteration stops when the link has ended, and `closed` says how.

        No checkpoint where the last read brought more than one: those that came together are had together.
        """
        if not self._held_back:
            try:
                self._held_back = (await self.receive())[::-1]
            except LinkLost:
                raise StopAsyncIteration from None
        return self._held_back.pop()

    def messages(self) -> AsyncIterator[Incoming]:
        """Return the iterator over messages, each from its first fragment on; it stops when the link has ended.

        One message after the other: asking for the next drops what is left of the one before. Where a dialect has
        streams, several are under way at once, and each may be read by a task of its own. Who calls this again goes on
        where the iteration is; `receive` is over. Iterating raises `PeerFault`; `Misuse` is raised where `receive` has
        read part of a message.
        """
        if self._arrivals is None:
            self._arrivals = self._arriving()
        return self._arrivals

    def _arriving(self) -> Arrivals:
        if not isinstance(self._frames, PieceReader):
            self._frames, unread = pieces_from(self._frames, self.options, client=self._client)
            self._unread = unread + self._unread
        held_back, self._held_back = self._held_back[::-1], []
        return Arrivals(
            partial(self._hear, self._frames),
            self._refuse,
            max_message=self.options.max_message,
            most=self.options.max_message if self.options.dialect.streams else None,
            early=held_back,
        )

    async def _read(self) -> bytes:
        if self._unread or self._frames.has_more or self._frames.fault is not None:
            await trio.lowlevel.checkpoint()  # before anything is taken: it may be cancelled
            data, self._unread = self._unread, b""
            return data
        self.listening = True
        try:
            data = await self._transport.read(self.options.read_size)
        except LinkLost as lost:
            self._die(lost.close)
            return b""
        finally:
            self.listening = False
            if self._unheard is not None:
                self._unheard.set()
        self.heard = True
        if not data and self.closed is None:  # or `end` has interrupted us
            self._die(CloseReason(CloseCode.ABNORMAL, "the stream ended without a goodbye"))
        return data

    def _heed(self, controls: list[Ping | Pong | CloseReason]) -> None:
        """Answer control frames. Each ping has its pong: the last alone would do (RFC 6455 section 5.5.3), but a peer
        may wait for one by its payload.
        """
        unasked = [item for item in controls if not (isinstance(item, Pong) and self._pings.note(item.payload))]
        if self._control_frames is None:
            self._control_frames = Bucket(self.options.control_frames)
        if unasked and not self._control_frames.take(len(unasked), trio.current_time()):
            self.end(CloseReason(CloseCode.POLICY, "too many control frames"))
            return
        for item in unasked:
            if isinstance(item, Ping) and not self.writer.is_full:  # who reads nothing gets no pongs either
                self._outgoing.say(PONG, item.payload)
        self.writer.flush()
        if isinstance(controls[-1], CloseReason):
            self._goodbye_heard = True
            self.end(controls[-1])

    # -- out

    async def send(self, message: str | bytes, kind: int | None = None) -> None:
        """Send a message: text for `str`, binary for `bytes`, or of a private `kind`. Waits while too much is waiting.

        If cancelled, the message was not sent; otherwise it is sent whole, after those sent before it. Returning says
        that it is on its way, not that it arrived. Raises `LinkLost` when the link has ended, `Misuse` for what cannot
        be sent.

        A checkpoint as far as cancelling goes; other tasks get a turn with every eighth call, or when it has to wait.
        """
        await self.send_all((message,), kind)

    async def send_all(self, messages: Iterable[str | bytes], kind: int | None = None) -> None:
        """Send messages as `send` does, all of them or none if cancelled; in as few writes as possible.

        Several cost little more than one: ``await link.send_all(await link.receive())`` is the quickest echo there is.
        However many they are, they are put into the queue at once.
        """
        await self._outgoing.send_all(messages, kind)

    async def send_stream(self, kind: int, source: Source) -> None:
        """Send one message of this kind in fragments, as its source brings them; memory stays flat.

        `source` is an async or plain iterable, a file (read in a thread) or a stream: of `str` for text, of `bytes` for
        every other kind. Each piece leaves at once, so the peer can have what was made so far. Until the message has
        ended all others wait, those of `post` too, but for private control frames; where the dialect has streams they
        need not.

        What the source raises is raised here, `LinkLost` as soon as the link ends: what the source waits for is
        cancelled then, but the read of a file, which is waited for. Then, or when cancelled, the peer learns that the
        message is not whole: by its stream's end, or else by that of the link, with 1011.
        """
        await self._outgoing.send_stream(kind, source)

    def framed(self, messages: Iterable[str | bytes]) -> bytes:
        """Return messages in finished frames, for a source of `writer`: to be written next, and in this order."""
        return self._outgoing.framed(messages)

    @property
    def is_full(self) -> bool:
        """Whether as much is waiting as may, so that `send` would wait."""
        return self._outgoing.is_full

    async def wait_for_turn(self) -> None:
        """Wait until `send` would not; no checkpoint where that is so. Raises `LinkLost` when the link has ended."""
        await self._outgoing.wait_for_turn()

    def post(self, message: str | bytes, kind: int | None = None) -> None:
        """Put a message into the queue, whatever its bound; it leaves with the next `writer.flush`."""
        self._outgoing.post(message, kind)

    async def ping(self) -> float:
        """Return how long a ping and its pong take, in seconds, while somebody receives.

        Raises `LinkLost` when the link ends before. How long to wait is the caller's to say.
        """
        asked = trio.current_time()
        with self._pings.one() as (payload, answered):
            self.probe(payload)
            if self.closed is None:
                await answered.wait()
        if self.closed is not None:
            raise LinkLost(self.closed)
        return trio.current_time() - asked

    def probe(self, payload: bytes = b"") -> None:
        """Ask for a sign of life. Never waits."""
        self._outgoing.say(PING, payload)
        self.writer.flush()

    # -- the end

    def end(self, close: CloseReason) -> None:
        """Decide that the link ends so: reading stops, and a close frame goes out behind the queue. Never waits.

        The first to decide is right; later calls do nothing. `close` must follow. Raises `Misuse`, with nothing
        decided, for a code that may not be sent.
        """
        if self.closed is None:
            last_words = self._outgoing.last_words(close)
            self._note_end(close)
            self.writer.post(last_words, last=True)
            self.writer.flush()
            self.become(LinkStatus.CLOSED)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Leave politely: write what is queued, say goodbye, wait for the peer to do the same, close the stream.

        Takes at most `close_timeout`; then, or when cancelled, the stream is cut. A `receive` beside it ends. Several
        may close it: the first says how, and all wait until that is done. Raises `Misuse` for what may not be sent.
        """
        if reason and code in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):  # which are said by saying nothing
            raise Misuse(f"a reason cannot be sent with close code {code}")
        self.end(CloseReason(code, reason))
        if self._parted is not None:
            try:
                await self._parted.wait()
            finally:
                if not self._parted.is_set():
                    self._die(CloseReason(CloseCode.ABNORMAL))
                    self._transport.interrupt()
            return
        self._parted = trio.Event()
        try:
            with trio.move_on_after(self.options.close_timeout):
                async with trio.open_nursery() as tasks:
                    self.writer.run_in(tasks)
                    await self._part()
                    tasks.cancel_scope.cancel()
        finally:
            self._die(CloseReason(CloseCode.ABNORMAL))
            try:
                await self._transport.aclose()
            finally:
                self._parted.set()

    async def _part(self) -> None:
        """Wait until our goodbye is written and the peer's is heard.

        The server then closes the stream, and the client waits for that (RFC 6455 section 7.1.1). A peer that broke
        the protocol cannot be understood any more: it is told by the stream's end, and heard by the same.
        """
        try:
            await self.writer.wait_idle()
            if self.listening:  # it was interrupted, and has not had its turn yet
                self._unheard = trio.Event()
                await self._unheard.wait()
            if self._frames.fault is not None:
                await self._transport.end_writing()
            elif self._unread or self._frames.has_more:  # its goodbye may have come with what nobody has received
                self._listen_for_goodbye(self._unread)
            while not (self._dead or self._transport.torn or (self._goodbye_heard and not self._client)):
                data = await self._transport.read(self.options.read_size)
                if not data:
                    return
                if self._frames.fault is None and not self._goodbye_heard:
                    self._listen_for_goodbye(data)
        except LinkLost:
            return

    def _listen_for_goodbye(self, data: bytes) -> None:
        try:
            received: list[Any] = list(self._frames.feed(data))
            while self._frames.has_more:
                received = list(self._frames.feed(b""))
        except PeerFault:
            return  # it has been told that we are leaving; what it says wrong is of no interest now
        self._goodbye_heard = bool(received) and isinstance(received[-1], CloseReason)

    def _die(self, close: CloseReason) -> None:
        """Note that nothing can come or go any more, and why if nobody knew better."""
        self._dead = True
        if self.closed is None:
            self._note_end(close)
        self.writer.stop()
        self.become(LinkStatus.CLOSED)

    def _note_end(self, close: CloseReason) -> None:
        self.closed = close
        self._transport.interrupt()
        self._outgoing.stop(close)
        self._pings.end()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Link]:
        """Run the writer task within the block; leaving it closes the link.

        The close code is 1000, or 1011 after an exception, or 1001 when cancelled.
        """
        async with open_tasks() as tasks:
            self.writer.run_in(tasks)
            self.writer.flush()  # a sealed link's proof, say, for which its server waits
            self.become(LinkStatus.READY)
            try:
                yield self
            except Exception:
                self.end(CloseReason(CloseCode.INTERNAL))
                raise
            except BaseException:
                self.end(CloseReason(CloseCode.GOING_AWAY))
                raise
            finally:
                await self.close()  # noqa: ASYNC102 - bounded by itself; when cancelled it cuts
                tasks.cancel_scope.cancel()
