"""A message on its way in: its kind is known with its first fragment, its data comes chunk by chunk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import CloseCode
from trio_hub.wire.pieces import Parts

__all__ = ["Incoming", "NextChunk", "Stop"]

NextChunk = Callable[[], Awaitable[str | bytes | None]]
"""Waits for the next chunk of one message; None at its end. Raises where the message is cut short."""
Stop = Callable[[int, str], None]
"""Tells the sender of one message, with a code and a reason, that no more of it is wanted. Never waits."""


class Incoming:
    """A message on its way in: ``async for chunk in message`` yields `str` where its `kind` is text, else `bytes`.

    The iteration stops where the message ends, and only there: what was cut short raises, `LinkLost` where the link
    ended and `StreamReset` where its sender gave it up. A chunk has no meaning of its own: fragments may be joined or
    cut on their way. Chunks are never empty, and none is kept: memory is flat, however long the message.

    `stream` is the number of the stream it came on, where the link has several messages at once, else None. A message
    may be had once, by one task.
    """

    __slots__ = ("__weakref__", "_ended", "_max_message", "_next_chunk", "_stop", "kind", "stream")

    def __init__(
        self,
        kind: int,
        next_chunk: NextChunk,
        *,
        max_message: int,
        stream: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.kind = kind
        self.stream = stream
        self._next_chunk = next_chunk
        self._max_message = max_message
        self._stop = stop
        self._ended = False

    def __repr__(self) -> str:
        of_stream = "" if self.stream is None else f" on stream {self.stream}"
        return f"<message of kind {self.kind}{of_stream}>"

    def __aiter__(self) -> Incoming:
        return self

    async def __anext__(self) -> str | bytes:
        chunk = None if self._ended else await self._next_chunk()
        if chunk is None:
            self._ended = True
            raise StopAsyncIteration
        return chunk

    async def read(self) -> str | bytes:
        """Return what is left of the message, joined.

        Raises `PeerFault` (1009) where that is more than `LinkOptions.max_message`, in bytes or characters; the rest
        can still be had by iterating. If cancelled, what had come is lost.
        """
        chunks = Parts(self.kind)
        async for chunk in self:
            chunks.add(chunk)
            if chunks.size > self._max_message:
                raise PeerFault(CloseCode.TOO_BIG, f"message is larger than {self._max_message} bytes")
        whole: str | bytes = chunks.joined()
        return whole

    @property
    def can_be_stopped(self) -> bool:
        """Whether there is more of it, maybe, and its sender can be told that it is not wanted."""
        return self._stop is not None and not self._ended

    def stop(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Refuse what is left of the message; its sender's `send_stream` raises `StreamReset`. Never waits.

        So does the iteration here. `code` is a close code or a number of the application's own, the reason is cut at
        123 bytes. A sender that has sent all of it, or given it up, is told nothing. Raises `Misuse` where the message
        did not come by `Streams`.
        """
        if self._stop is None:
            raise Misuse("only a message that came by `Streams` can be stopped")
        if not 0 <= code < 1 << 30:
            raise Misuse(f"a code is between 0 and {(1 << 30) - 1}, not {code}")
        self._stop(code, reason)
