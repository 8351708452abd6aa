"""Messages on their way in, each to be had from its first piece on, while several may be under way.

Nobody reads ahead: whoever wants a piece that has not come reads the link, once at a time, and lays what comes for
others where they find it. So what waits is what came in one read; unless webson's streams bring pieces of one message
while somebody waits for those of another. Of such pieces `most` bytes may wait. What brings more is given up, since
webson has no way to ask for a pause of one stream alone: only that message is lost, and who reads it is told. Other
messages of the same read are not held against it, for nobody can have taken them yet: so what waits may be more by one
read. What nobody can read any more does not count: where a message is let go, what waits of it goes with it. Small
chunks that wait are joined, or they would take more than what is in them.

Whole messages, too, may begin while somebody waits for more of another: private control frames may come amid any. A
peer that sends very many of them breaks the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final
from weakref import ref

import trio

from trio_hub.errors import LinkLost, PeerFault, StreamReset, again
from trio_hub.link.incoming import Incoming
from trio_hub.messages import CloseCode, Kind
from trio_hub.wire.frames import CLOSE
from trio_hub.wire.pieces import Piece

__all__ = ["Arrivals"]

_SMALL: Final = 1024
_MOST_BEGUN: Final = 4096  # messages that wait to be taken, some 600 bytes each, beside those of one read


class _Arrival:
    """One message under way: the chunks that wait, whether they are all, and why no more will come.

    `fresh` is the size of those that the read in hand has brought.
    """

    __slots__ = ("chunks", "ended", "failure", "fresh")

    def __init__(self) -> None:
        self.chunks: deque[str | bytes] = deque()
        self.ended = False
        self.failure: StreamReset | None = None
        self.fresh = 0

    def add(self, chunk: str | bytes) -> None:
        """Have this waiting as well."""
        self.fresh += len(chunk)
        if self.chunks and len(self.chunks[-1]) + len(chunk) <= _SMALL:
            latest: Any = self.chunks.pop()
            chunk = latest + chunk
        self.chunks.append(chunk)

    @property
    def is_settled(self) -> bool:
        return bool(self.chunks) or self.ended or self.failure is not None


class Arrivals:
    """Messages as they come: iterating yields them, and stops when the link has ended.

    `hear` waits for pieces of them; it raises `LinkLost` at the link's end, and `PeerFault`. `refuse` ends the link
    for a fault that is found here. `max_message` is what `Incoming.read` takes, `most` is None where messages come one
    after the other. `early` are messages that came whole before.
    """

    def __init__(
        self,
        hear: Callable[[], Awaitable[list[Piece]]],
        refuse: Callable[[PeerFault], None],
        *,
        max_message: int,
        most: int | None,
        early: Iterable[str | bytes] = (),
    ) -> None:
        self._hear = hear
        self._refuse = refuse
        self._max_message = max_message
        self._most = most
        self._size = 0  # of all chunks that wait, but fresh ones
        self._begun: deque[tuple[_Arrival, Incoming]] = deque()
        self._under_way: dict[int, _Arrival] = {}
        self._streamed: dict[ref[Incoming], _Arrival] = {}
        self._latest: _Arrival | None = None
        self._is_heard = False
        self._came = trio.lowlevel.ParkingLot()
        self._end: LinkLost | PeerFault | None = None
        kinds = {str: Kind.TEXT, bytes: Kind.BINARY}
        self._take_all([Piece(kinds[type(message)], message, True, True) for message in early])

    def __aiter__(self) -> Arrivals:
        return self

    async def __anext__(self) -> Incoming:
        """Wait for the next message that begins; what is left of the one before is dropped, unless it has a stream.

        Raises `PeerFault`. If cancelled, nothing is lost.
        """
        if self._latest is not None:
            self._give_up(self._latest, "the message after it was asked for")
            self._latest = None
        await self._wait_until(lambda: bool(self._begun))
        if not self._begun:
            if isinstance(self._end, PeerFault):
                raise again(self._end)
            raise StopAsyncIteration
        arrival, message = self._begun.popleft()
        if message.stream is None:
            self._latest = arrival
        else:
            self._streamed[ref(message, self._note_let_go)] = arrival
        return message

    async def _next_chunk(self, arrival: _Arrival) -> str | bytes | None:
        await self._wait_until(lambda: arrival.is_settled)
        if arrival.chunks:
            chunk = arrival.chunks.popleft()
            self._size -= len(chunk)
            return chunk
        if arrival.ended:
            return None
        if arrival.failure is not None:
            raise arrival.failure
        assert self._end is not None
        raise again(self._end)

    async def _wait_until(self, is_so: Callable[[], bool]) -> None:
        """Read until it is so, or nothing more can come; or wait until another has read."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not is_so() and self._end is None:
            if self._is_heard:
                await self._came.park()
            else:
                await self._read()

    async def _read(self) -> None:
        self._is_heard = True
        try:
            self._check_begun()
            self._take_all(await self._hear())
        except (LinkLost, PeerFault) as error:
            self._end = error
        finally:
            self._is_heard = False
            self._came.unpark_all()

    def _check_begun(self) -> None:
        if len(self._begun) > _MOST_BEGUN:
            fault = PeerFault(CloseCode.POLICY, "too many messages wait to be read")
            self._refuse(fault)
            raise fault

    def _take_all(self, pieces: list[Piece]) -> None:
        """Lay out what one read has brought."""
        touched = [self._take(piece) for piece in pieces]
        for arrival in touched:
            self._size += arrival.fresh
            arrival.fresh = 0

    def _take(self, piece: Piece) -> _Arrival:
        arrival = self._begin(piece) if piece.first else self._under_way[piece.stream]
        if (piece.last or piece.given_up) and piece.kind < CLOSE:
            del self._under_way[piece.stream]
        if arrival.failure is not None:
            return arrival
        arrival.ended = piece.last
        if piece.data:
            arrival.add(piece.data)
        if piece.given_up:
            arrival.failure = StreamReset(CloseCode.GOING_AWAY, "its sender gave it up")
        if self._most is not None and self._size + arrival.fresh > self._most:
            self._give_up(arrival, "too much of it waited to be read")
        return arrival

    def _begin(self, piece: Piece) -> _Arrival:
        arrival = _Arrival()
        if piece.kind < CLOSE:  # a control frame is all there, and may come amid a message
            self._under_way[piece.stream] = arrival
        next_chunk = partial(self._next_chunk, arrival)
        stream = piece.stream or None
        message = Incoming(piece.kind, next_chunk, max_message=self._max_message, stream=stream)
        self._begun.append((arrival, message))
        return arrival

    def _note_let_go(self, message: ref[Incoming]) -> None:
        self._give_up(self._streamed.pop(message), "nobody can read it any more")

    def _give_up(self, arrival: _Arrival, reason: str) -> None:
        self._size -= sum(map(len, arrival.chunks)) - arrival.fresh
        arrival.fresh = 0
        arrival.chunks.clear()
        arrival.failure = StreamReset(CloseCode.TOO_SLOW, reason)
        arrival.ended = False
