"""Many messages at once: ours, and whose turn it is. `streams` has the theory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from trio_hub.errors import Misuse
from trio_hub.wire.stream_words import BEGIN, KINDS, LAST, MORE, RESET, WHOLE, fault, number_of, parting

__all__ = ["Departing", "Outbound"]


class Departing:
    """One of our messages on its way out, of some `kind`. `number` is 0 until it has begun.

    `data` is what waits to leave, None when nothing does and more may be offered. `over` is the code and the reason
    with which it was given up. `heed` is called when either changes; it must not wait.
    """

    __slots__ = ("_credit", "_last", "data", "heed", "kind", "number", "over")

    def __init__(self, kind: int) -> None:
        if kind not in KINDS:
            raise Misuse(f"a message cannot be of kind {kind}")
        self.kind = kind
        self.number = 0
        self.data: bytes | memoryview | None = None
        self.over: tuple[int, str] | None = None
        self.heed: Callable[[], object] = _nothing
        self._credit = 0
        self._last = False

    @property
    def _may_go(self) -> bool:
        return self.data is not None and (self._credit > 0 or not (self.number and self.data))


class Outbound:
    """Our messages. They take turns: each leaves by at most `chunk` bytes at a time.

    None may begin before the peer has said `hello`.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._window = 0
        self._allowed = 0
        self._begun = 0
        self._live: dict[int, Departing] = {}  # begun, and not ended
        self._ready: deque[Departing] = deque()  # in turn
        self._early: deque[Departing] = deque()  # not begun, for too many are under way
        self._resets: list[bytes] = []  # no more than were live when `draw` emptied it

    def hello(self, window: int, messages: int) -> None:
        """The peer allows so many messages, and so many bytes of each."""
        self._window = window
        self._allowed = messages

    def credit(self, number: int, amount: int) -> None:
        """The peer allows more."""
        if number == 0:
            self._allowed += amount
        elif (departing := self._one(number)) is not None:
            could_go = departing._may_go
            departing._credit += amount
            if departing._may_go and not could_go:
                self._ready.append(departing)

    def stop(self, number: int, code: int, reason: str) -> None:
        """The peer wants no more of one: it is over, and the peer is told so."""
        if number == 0:
            raise fault("message 0 is no message")
        departing = self._one(number)
        if departing is not None:
            self.reset(departing, code, reason)

    def _one(self, number: int) -> Departing | None:
        if number > self._begun:
            raise fault(f"message {number} is spoken of, and has not begun")
        return self._live.get(number)

    def whole(self, kind: int, data: bytes) -> bytes | None:
        """Return the frame of a small message that may leave at once; None where it has to wait, or to be cut."""
        if self._ready or self._early or len(data) > self._chunk or len(data) > self._window:
            return None
        if self._begun == self._allowed:
            return None
        self._begun += 1
        return WHOLE[kind] + data

    def offer(self, departing: Departing, data: bytes, *, last: bool = False) -> None:
        """Have `data` leave next of a message; nothing more may be offered until it has, and nothing after the last."""
        departing.data = data
        departing._last = last
        if not departing.number and (self._early or self._begun == self._allowed):
            self._early.append(departing)
        elif departing._may_go:
            self._ready.append(departing)

    def reset(self, departing: Departing, code: int, reason: str) -> None:
        """Give a message up, and tell the peer, unless it has not heard of it or has all of it."""
        if departing.over is not None or (departing.number and departing.number not in self._live):
            return
        for queue in (self._ready, self._early):
            if departing in queue:
                queue.remove(departing)
        departing.data = None
        departing.over = (code, reason)
        if departing.number:
            del self._live[departing.number]
            self._resets.append(parting(RESET, departing.number, code, reason))
        departing.heed()

    @property
    def has_to_say(self) -> bool:
        """Whether `draw` may return anything."""
        return bool(self._resets or self._ready or (self._early and self._begun < self._allowed))

    def draw(self, most: int) -> list[bytes]:
        """Return the frames that are to be sent, of `most` bytes and the chunk that exceeds it: one turn of each."""
        frames, self._resets = self._resets, []
        for _ in range(min(len(self._early), self._allowed - self._begun)):
            self._ready.append(self._early.popleft())
        for _ in range(len(self._ready)):
            departing = self._ready.popleft()
            if not departing.number and self._begun == self._allowed:
                self._early.append(departing)
                continue
            frames.append(self._next_frame(departing))
            most -= len(frames[-1])
            if departing._may_go:
                self._ready.append(departing)
            elif departing.data is None:
                departing.heed()
            if most <= 0:
                break
        return frames

    def _next_frame(self, departing: Departing) -> bytes:
        data, is_new = departing.data, not departing.number
        assert data is not None
        if is_new:
            self._begun = departing.number = self._begun + 1
            departing._credit = self._window
            self._live[departing.number] = departing
        size = min(len(data), self._chunk, departing._credit)
        departing._credit -= size
        departing.data = memoryview(data)[size:] if size < len(data) else None
        ends = departing._last and departing.data is None
        if ends:
            del self._live[departing.number]
        if is_new:
            head = (WHOLE if ends else BEGIN)[departing.kind]
        else:
            head = (LAST if ends else MORE) + number_of(departing.number)
        return head + data[:size]


def _nothing() -> None:
    """Heed nothing."""
