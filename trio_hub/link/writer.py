"""The only way out of a link: one queue, one source behind it, and two doors of which one is open at a time.

`flush` is the quick door: a plain call that hands the socket everything owed, without waiting. What the socket does
not take goes to the writer task (`run`), and until that is rid of it the quick door stays shut. Nobody else writes,
and nobody who may be cancelled is ever in the middle of a write: that is why a cancelled `send` cannot tear a frame.

Most links never owe more than their socket takes. So whoever owns the link's tasks says where `run` may run (`run_in`),
and it, and the channel on which it waits for what is left, are there from the first time that something is.

The queue holds what belongs to this link alone (replies, pongs, the close frame, what `Link.send` was given). When it
is empty the `source` is asked for more: a hub's connection hands in its outbox, so events stay there, where they can
still be dropped or replaced, until the socket has room for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from trio_hub.errors import LinkLost
from trio_hub.link.transport import Transport, lost
from trio_hub.messages import CloseReason
from trio_hub.options import LinkOptions

__all__ = ["Writer"]

Source = Callable[[int], tuple[bytes, bool]]
"""Returns about so many bytes of finished frames that are to be written now, and whether there may be more."""


class Writer:
    """Writes to one transport. `on_failure` is called once when that fails.

    `busy` says that bytes wait for the socket; `written` counts those that `run` wrote. `is_idle` says that a source is
    drawn from, and nothing else is to be written before what it has.
    """

    __slots__ = (
        "_in_hand",
        "_last",
        "_on_failure",
        "_options",
        "_queue",
        "_queue_size",
        "_rest",
        "_room",
        "_source",
        "_stopped",
        "_tasks",
        "_transport",
        "_write_now",
        "busy",
        "is_idle",
        "running",
        "written",
    )

    def __init__(self, transport: Transport, options: LinkOptions, on_failure: Callable[[CloseReason], None]) -> None:
        self._transport = transport
        self._write_now = transport.write_now  # not called any more once stopped
        self._options = options
        self._on_failure = on_failure
        self._queue: deque[bytes] = deque()
        self._queue_size = 0
        self._source: Source | None = None
        self._last = False  # the last words are in the queue
        self._stopped = False
        self._in_hand = memoryview(b"")  # what `run` is writing
        self._rest: tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]] | None = None
        self._tasks: trio.Nursery | None = None
        self._room = trio.lowlevel.ParkingLot()
        self.busy = False
        self.is_idle = False
        self.running = False
        self.written = 0

    def post(self, framed: bytes, *, last: bool = False) -> None:
        """Put finished frames into the queue; they leave with the next `flush`. After the `last` nothing is taken."""
        if not self._last:
            self.is_idle = False
            self._queue.append(framed)
            self._queue_size += len(framed)
            if last:
                self._last = True
                self._room.unpark_all()  # whoever waits for room waits in vain

    def draw_from(self, source: Source | None) -> None:
        """Ask `source` for more whenever the queue is empty. What it has returned counts as written."""
        self._source = source
        self._note_idle()

    def _note_idle(self) -> None:
        # Noted where it may change, and not worked out where it is read: that is for each delivery.
        self.is_idle = not (self.busy or self._queue or self._last or self._source is None)

    def flush(self) -> None:
        """Write what is owed, in one system call if the socket takes it; leave the rest to `run`. Never waits."""
        if self.busy or self._stopped:
            return
        more = True
        while more:
            data, more = self._next_piece()
            more = bool(data) and self.write_through(data) and more
        self._note_idle()

    def write_through(self, data: bytes) -> bool:
        """Write finished frames now, while nothing else is to be written; False when `run` has the rest of them."""
        try:
            taken = self._write_now(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self._fail(lost(error))
            return False
        if taken == len(data):
            return True
        self.busy, self.is_idle = True, False
        to_run, _ = self._channel()
        to_run.send_nowait(data[taken:] if taken else data)
        self.run_in(self._tasks)
        return False

    def _channel(self) -> tuple[trio.MemorySendChannel[bytes], trio.MemoryReceiveChannel[bytes]]:
        if self._rest is None:
            self._rest = trio.open_memory_channel[bytes](1)
        return self._rest

    def run_in(self, tasks: trio.Nursery | None) -> None:
        """Have `run` started in `tasks` as soon as there is something for it; None takes that back.

        To be called again, or with None, before those tasks end.
        """
        self._tasks = tasks
        if tasks is not None and self.busy and not self.running:
            tasks.start_soon(self.run)

    async def run(self) -> None:
        """The writer task: write what `flush` could not, and all that is owed by then, until stopped. Never raises.

        A cancel leaves the writer in order: another `run` goes on at the byte where this one stopped. A second one
        beside the first returns at once.
        """
        if self.running:
            return
        self.running = True
        _, rest = self._channel()
        try:
            while not self._stopped:
                if not self._in_hand:
                    self._in_hand = memoryview(await rest.receive())
                while self._in_hand:
                    taken = await self._transport.write(self._in_hand)
                    self.written += taken
                    self._in_hand = self._in_hand[taken:] or memoryview(self._next_piece()[0])
                self.busy = False
                self._note_idle()
                self._room.unpark_all()
        except trio.EndOfChannel:
            return
        except LinkLost as error:
            self._fail(error)
        finally:
            self.running = False

    def _next_piece(self) -> tuple[bytes, bool]:
        if self._queue:
            if self._options.dialect.is_webson:  # its peers take a header apart that comes in two reads
                data = self._queue.popleft()
            else:
                data = b"".join(self._queue)
                self._queue.clear()
            self._queue_size -= len(data)
            self._room.unpark_all()
            return data, True
        if self._source is not None and not self._last:
            return self._source(self._options.piece_size)
        return b"", False

    @property
    def owed_size(self) -> int:
        """Bytes that wait here, since the socket has not taken them."""
        return self._queue_size + len(self._in_hand)

    @property
    def is_full(self) -> bool:
        """Whether the queue has reached its bound, and there is hope that it will be written."""
        return self._queue_size >= self._options.owed_size and not self._last

    async def wait_for_room(self) -> None:
        """Wait until the queue is below its bound, or there is no hope."""
        while self.is_full:
            await self._room.park()

    async def wait_idle(self) -> None:
        """Wait until everything in the queue was taken by the socket, or there is no hope."""
        while self.busy and not self._stopped and not self._transport.torn:
            await self._room.park()

    def stop(self) -> None:
        """Forget everything: nothing can be written any more. `run` ends, at the latest with the transport."""
        self._stopped = self._last = True
        self.is_idle = False
        if self._rest is not None:
            self._rest[0].close()
        self._source = None
        self._queue.clear()
        self._room.unpark_all()

    def _fail(self, lost: LinkLost) -> None:
        self.stop()
        self._on_failure(lost.close)
