"""Many messages at once on one link: how their frames are spelled, and what either side may do. Pure.

Each frame is one binary message of the link, and so it passes through whatever WebSockets pass through::

    0x80 + kind   data                      a whole message
    0x40 + kind   data                      the beginning of one
    0x00  number  data                      MORE of it
    0x01  number  data                      the LAST of it
    0x02  number  code  reason              RESET: its sender has given it up
    0x03  number  code  reason              STOP: its receiver wants no more of it
    0x04  number  amount                    CREDIT: so many bytes more of it may come; of number 0: so many messages
    0x05  window  messages                  HELLO: the first frame of each side, said once

A number takes 1, 2, 4 or 8 bytes (RFC 9000 section 16), a reason is UTF-8 to the frame's end. Messages go one way. Each
side's are numbered from 1 in the order in which they begin; both count, so the frame that begins one need not say it.

Nothing is sent that the receiver has not allowed: `window` bytes of each message and then what its credit says, and so
many messages as `messages` and the credit of number 0 say together. The latter are given back when a message was had to
its end, so that what waits is bounded, however small: by `messages` times `window` bytes.

Every message ends with one last word of its sender: a whole, a LAST or a RESET. Who says STOP goes on counting the
message until that comes, and drops what comes before it: so all that may cross is known, and whatever else comes for a
message that is not there is a fault. The other way round there is nothing to remember: a STOP or a CREDIT for a message
that has ended crossed its last word, and does nothing.
"""

from __future__ import annotations

from typing import Final

from trio_hub.errors import PeerFault
from trio_hub.messages import CloseCode
from trio_hub.wire.inbound import Arriving, Inbound
from trio_hub.wire.outbound import Outbound
from trio_hub.wire.stream_words import (
    BEGINNINGS,
    CREDIT,
    HELLO,
    LAST,
    MORE,
    RESET,
    STOP,
    fault,
    number_in,
    number_of,
    reason_in,
)

__all__ = ["SUBPROTOCOL", "Multiplexer"]

SUBPROTOCOL: Final = "streams.trio-hub.v1"
"""How two sides agree to speak so."""


class Multiplexer:
    """One side's messages and the peer's, and all that is said of them."""

    def __init__(self, *, window: int, messages: int, chunk: int) -> None:
        self.inbound = Inbound(window, messages)
        self.outbound = Outbound(chunk)
        self._hello: bytes | None = HELLO + number_of(window) + number_of(messages)
        self._greeted = False

    @property
    def has_to_say(self) -> bool:
        """Whether `draw` may return anything."""
        return self._hello is not None or self.inbound.has_to_say or self.outbound.has_to_say

    def draw(self, most: int) -> list[bytes]:
        """Return the next frames to be sent, about `most` bytes of them: small words first, then data by turns."""
        hello, self._hello = self._hello, None
        frames = [] if hello is None else [hello]
        return frames + self.inbound.draw() + self.outbound.draw(most)

    def hear(self, frame: str | bytes) -> Arriving | None:
        """Heed a frame of the peer's; return the message that it begins, if it does.

        Raises `PeerFault` where it is none, or says what may not be said.
        """
        if isinstance(frame, str) or not frame:
            raise PeerFault(CloseCode.UNSUPPORTED, "a frame of many messages is binary, and not empty")
        if not self._greeted and frame[:1] != HELLO:
            raise fault("the first frame says hello")
        beginning = BEGINNINGS.get(frame[0])
        if beginning is None:
            if frame[:1] > HELLO:
                raise fault(f"no frame begins with {frame[0]:#04x}")
            self._heed(frame[:1], frame, *number_in(frame, 1))
            return None
        kind, is_whole = beginning
        return self.inbound.begin(kind, frame[1:], last=is_whole)

    def _heed(self, word: bytes, frame: bytes, number: int, at: int) -> None:
        if word in (MORE, LAST):
            self.inbound.add(number, frame[at:], last=word == LAST)
            return
        amount, at = number_in(frame, at)
        if word == RESET:
            self.inbound.reset(number, amount, reason_in(frame[at:]))
        elif word == STOP:
            self.outbound.stop(number, amount, reason_in(frame[at:]))
        elif at != len(frame):
            raise fault("a frame is longer than what it says")
        elif word == CREDIT:
            self.outbound.credit(number, amount)
        else:
            self._greet(number, amount)

    def _greet(self, window: int, messages: int) -> None:
        if self._greeted:
            raise fault("hello is said once")
        if not window:
            raise fault("with a window of 0 bytes nothing can be said")
        self._greeted = True
        self.outbound.hello(window, messages)
