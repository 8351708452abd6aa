"""What a link says: whole messages, messages in fragments, control frames; in turns, since they share one way out.

A message in fragments has that way for itself until it has ended (RFC 6455 section 5.4), control frames apart, those of
private kinds too; whoever has another waits for its turn, and what may not wait (`post`) is put aside. Only webson's
streams let several be under way. Frames are made when they are put into the queue, never before: a sealed frame is good
for one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager

import trio

from trio_hub.dialect import PRIVATE_CONTROL
from trio_hub.errors import LinkLost, Misuse
from trio_hub.link.sources import Source, pieces_of
from trio_hub.link.writer import Writer
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import LinkOptions
from trio_hub.wire.framing import Fragments, Framer

__all__ = ["SENDS_IN_A_TURN", "Outgoing"]

SENDS_IN_A_TURN = 8
"""A turn of the loop takes as long as a write: so there is not one for each, and still nobody is kept waiting."""


class Outgoing:
    """Puts what one end says into its writer's queue. `end` ends the link, where that alone can say what happened."""

    __slots__ = (
        "_aside",
        "_aside_size",
        "_end",
        "_framer",
        "_options",
        "_sends",
        "_sources",
        "_turn",
        "_writer",
        "closed",
    )

    def __init__(
        self, writer: Writer, framer: Framer, options: LinkOptions, end: Callable[[CloseReason], None]
    ) -> None:
        self._writer = writer
        self._framer = framer
        self._options = options
        self._end = end
        self._aside: list[tuple[str | bytes, int | None]] = []  # until a message in fragments has ended
        self._aside_size = 0
        self._turn: trio.lowlevel.ParkingLot | None = None  # most links have no message in fragments ever
        self._sources: set[trio.CancelScope] = set()  # in which messages in fragments wait for more of theirs
        self._sends = 0
        self.closed: CloseReason | None = None

    async def send_all(self, messages: Iterable[str | bytes], kind: int | None) -> None:
        """Do what `Link.send_all` says."""
        if isinstance(messages, str | bytes):
            raise Misuse("`send_all` takes several messages; `send` takes one")
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.wait_for_turn(kind)
        for framed in self._framer.messages(messages, kind):
            self._writer.post(framed)
        self._writer.flush()
        self._sends += 1
        if self._sends % SENDS_IN_A_TURN == 0:  # they are taken: too late to be cancelled
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def send_stream(self, kind: int, source: Source) -> None:
        """Do what `Link.send_stream` says."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.wait_for_turn()
        fragments = self._framer.begin(kind)
        try:
            with self._while_linked():
                async with aclosing(pieces_of(kind, source, self._fragment_size)) as pieces:
                    async for piece in pieces:
                        await self._post_fragment(fragments, piece)
                await self._post_fragment(fragments, b"", last=True)
        except BaseException:
            self._give_up(fragments)
            raise
        finally:
            self._take_turns()

    @contextmanager
    def _while_linked(self) -> Iterator[None]:
        """Whatever is waited for within the block is waited for until the link ends. Raises `LinkLost` then."""
        scope = trio.CancelScope()
        self._sources.add(scope)
        try:
            with scope:
                yield
        finally:
            self._sources.discard(scope)
        if scope.cancelled_caught and self.closed is not None:
            raise LinkLost(self.closed)

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may, aside or in the queue."""
        return self._writer.is_full or self._aside_size >= self._options.owed_size

    def post(self, message: str | bytes, kind: int | None) -> None:
        """Put a message into the queue, or aside until there is a turn for it. Never waits."""
        if self._must_wait(kind):
            self._framer.checked(message, kind)  # or it is found out when nobody can be told
            self._aside.append((message, kind))
            self._aside_size += len(message)
            return
        for framed in self._framer.messages((message,), kind):
            self._writer.post(framed)

    def framed(self, messages: Iterable[str | bytes]) -> bytes:
        """Do what `Link.framed` says."""
        return b"".join(self._framer.messages(messages))

    def say(self, opcode: int, payload: bytes) -> None:
        """Put a control frame into the queue; it leaves with the next `flush`. Never waits."""
        self._writer.post(self._framer.control(opcode, payload))

    def last_words(self, close: CloseReason) -> bytes:
        """Return the close frame. Raises `Misuse` for a code that may not be sent."""
        return self._framer.close(close)

    def stop(self, close: CloseReason) -> None:
        """Note that the link has ended: whoever waits for a turn waits in vain."""
        self.closed = close
        self._aside.clear()
        for scope in self._sources:
            scope.cancel()
        if self._turn is not None:
            self._turn.unpark_all()

    @property
    def _fragment_size(self) -> int:
        return min(self._options.fragment_size, self._options.dialect.chunk_size or self._options.fragment_size)

    def _must_wait(self, kind: int | None) -> bool:
        return self._framer.is_occupied and kind not in PRIVATE_CONTROL

    async def wait_for_turn(self, kind: int | None = None) -> None:
        """Wait until a message of this kind may be put into the queue. Raises `LinkLost`."""
        while self.closed is None and (self._must_wait(kind) or self._writer.is_full):
            if self._must_wait(kind):
                self._turn = self._turn or trio.lowlevel.ParkingLot()
                await self._turn.park()
            else:
                await self._writer.wait_for_room()
        if self.closed is not None:
            raise LinkLost(self.closed)

    def _take_turns(self) -> None:
        """Let those go on who waited for the end of a message in fragments."""
        aside, self._aside, self._aside_size = self._aside, [], 0
        if self._turn is not None:
            self._turn.unpark_all()
        for message, kind in aside:
            self.post(message, kind)
        self._writer.flush()

    async def _post_fragment(self, fragments: Fragments, piece: bytes, *, last: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        await self._writer.wait_for_room()
        if self.closed is not None:
            raise LinkLost(self.closed)
        self._writer.post(fragments.piece(piece, last=last))
        self._writer.flush()

    def _give_up(self, fragments: Fragments) -> None:
        last_words = fragments.give_up()
        if last_words:
            self._writer.post(last_words)
            self._writer.flush()
        if last_words is None or self._framer.is_spent:
            self._end(CloseReason(CloseCode.INTERNAL, "a message was given up midway"))
