"""Many messages at once: those of the peer, and what of them waits to be taken. `streams` has the theory."""

from __future__ import annotations

from collections.abc import Callable

from trio_hub.wire.stream_words import CREDIT, STOP, fault, number_of, parting

__all__ = ["Arriving", "Inbound"]


class Arriving:
    """One of the peer's messages on its way in, of some `kind`.

    `ended` says that no more will come of it, `over` with which code and reason it was given up. `heed` is called when
    there is more to take or it has ended; it must not wait.
    """

    __slots__ = ("_data", "_due", "_granted", "_received", "_settled", "ended", "heed", "kind", "number", "over")

    def __init__(self, number: int, kind: int, granted: int) -> None:
        self.number = number
        self.kind = kind
        self.ended = False
        self.over: tuple[int, str] | None = None
        self.heed: Callable[[], object] = _nothing
        self._data: bytes | bytearray = b""
        self._received = 0
        self._granted = granted
        self._due = 0  # taken, and not granted anew
        self._settled = False  # had to its end: another one may come

    def _add(self, data: bytes, *, last: bool) -> None:
        self._received += len(data)
        if self._received > self._granted:
            raise fault(f"more of message {self.number} than its credit of {self._granted} bytes")
        self.ended = last
        if self.over is None:  # or it is dropped
            if not self._data:
                self._data = data
            else:  # in one piece: a list of a great many tiny ones would take far more than the window
                self._data = self._data if isinstance(self._data, bytearray) else bytearray(self._data)
                self._data += data


class Inbound:
    """The peer's messages: `window` bytes of each, and so many of them, may wait for those who take them."""

    def __init__(self, window: int, messages: int) -> None:
        self._window = window
        self._allowed = messages
        self._begun = 0
        self._done = 0  # settled, and not allowed anew
        self._live: dict[int, Arriving] = {}
        self._due: dict[Arriving, None] = {}  # in order: those of which there is something to say

    @property
    def live(self) -> list[Arriving]:
        """Those that have not ended."""
        return list(self._live.values())

    def begin(self, kind: int, data: bytes, *, last: bool) -> Arriving:
        """The peer begins its next message; return that."""
        if self._begun == self._allowed:
            raise fault(f"message {self._begun + 1} begins, and {self._allowed} are allowed by now")
        self._begun += 1
        arriving = Arriving(self._begun, kind, self._window)
        arriving._add(data, last=last)
        if not last:
            self._live[self._begun] = arriving
        return arriving

    def add(self, number: int, data: bytes, *, last: bool) -> None:
        """The peer sends more of one."""
        arriving = self._one(number)
        arriving._add(data, last=last)
        if last:
            self._end(arriving)
        else:
            self._note_credit(arriving)
        arriving.heed()

    def reset(self, number: int, code: int, reason: str) -> None:
        """The peer gives one up: what had come of it and was not taken is dropped."""
        arriving = self._one(number)
        arriving._data = b""
        arriving.over = arriving.over or (code, reason)
        self._end(arriving)
        arriving.heed()

    def _one(self, number: int) -> Arriving:
        arriving = self._live.get(number)
        if arriving is None:
            raise fault(f"message {number} goes on, and is not under way")
        return arriving

    def _end(self, arriving: Arriving) -> None:
        arriving.ended = True
        del self._live[arriving.number]
        self._due.pop(arriving, None)
        if arriving._settled:  # by `stop`
            self._done += 1

    def take(self, arriving: Arriving) -> bytes:
        """Return all that has come of a message and was not taken; nothing where there is nothing (yet, or any more).

        What it has, it may then have more of; and once all of it is had, the peer may begin another one.
        """
        data, arriving._data = bytes(arriving._data), b""
        if arriving.ended:
            self._settle(arriving)
        elif data:
            arriving._due += len(data)
            self._note_credit(arriving)
        return data

    def _settle(self, arriving: Arriving) -> None:
        if not arriving._settled:
            arriving._settled = True
            self._done += arriving.ended

    def _note_credit(self, arriving: Arriving) -> None:
        """Grant in large portions, but before the peer has to wait."""
        if arriving._due and arriving._due >= arriving._granted - arriving._received:
            self._due[arriving] = None

    def stop(self, arriving: Arriving, code: int, reason: str) -> None:
        """Give up what has come of a message and what still will; the peer is told, unless it has sent all of it."""
        arriving.over = arriving.over or (code, reason)
        if arriving._settled:
            return
        arriving._data, arriving._due = b"", 0
        if not arriving.ended:
            self._due[arriving] = None
        self._settle(arriving)
        arriving.heed()

    @property
    def has_to_say(self) -> bool:
        """Whether `draw` would return anything."""
        return bool(self._due) or 0 < self._done >= self._allowed - self._begun

    def draw(self) -> list[bytes]:
        """Return the frames that are to be sent: what was refused, and what may come. Said once, however late."""
        frames = []
        for arriving in self._due:
            if arriving.over is not None:
                frames.append(parting(STOP, arriving.number, *arriving.over))
            else:
                frames.append(CREDIT + number_of(arriving.number) + number_of(arriving._due))
                arriving._granted += arriving._due
                arriving._due = 0
        self._due.clear()
        if 0 < self._done >= self._allowed - self._begun:
            frames.append(CREDIT + number_of(0) + number_of(self._done))
            self._allowed += self._done
            self._done = 0
        return frames


def _nothing() -> None:
    """Heed nothing."""
