"""Replies that a client may ask for again, until it says that it has them: bounded by number and by size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from trio_hub.options import HubOptions

__all__ = ["Replies"]


class Replies:
    """The replies to requests by their numbers; of those that were streamed only that they have ended."""

    __slots__ = ("_options", "_replies", "_size", "_streamed")

    def __init__(self, options: HubOptions) -> None:
        self._options = options
        self._replies: OrderedDict[int, str | bytes] = OrderedDict()
        self._size = 0
        self._streamed: dict[int, None] = {}

    def keep(self, seq: int, message: str | bytes) -> None:
        """Keep this one, and let the oldest go where there are too many; the latest stays, whatever its size."""
        replies, options = self._replies, self._options
        self._size += len(message) - len(replies.pop(seq, b""))
        replies[seq] = message
        while self._size > options.kept_replies_size or len(replies) > options.kept_replies:
            if len(replies) == 1:
                return
            _, oldest = replies.popitem(last=False)
            self._size -= len(oldest)

    def note_streamed(self, seq: int) -> None:
        """Note that the items of this one, and their end, are on their way as events."""
        self._streamed[seq] = None
        if len(self._streamed) > self._options.kept_replies:
            del self._streamed[next(iter(self._streamed))]

    def was_streamed(self, seq: int) -> bool:
        """Whether there is nothing to be repeated here, since its items and its end are events."""
        return seq in self._streamed

    def packed(self) -> tuple[dict[int, str | bytes], list[int]]:
        """Return the replies that are kept, and the requests whose replies were streamed."""
        return dict(self._replies), list(self._streamed)

    def unpack(self, replies: Mapping[int, str | bytes], streamed: Iterable[int]) -> None:
        """Keep what others have packed, too."""
        for seq, message in replies.items():
            self.keep(seq, message)
        for seq in streamed:
            self.note_streamed(seq)

    def get(self, seq: int) -> str | bytes | None:
        """Return the reply to this request, if it is kept."""
        return self._replies.get(seq)

    def forget(self, number: int) -> None:
        """Forget all up to this number: the client has them."""
        for seq in [seq for seq in self._replies if seq <= number]:
            self._size -= len(self._replies.pop(seq))
        for seq in [seq for seq in self._streamed if seq <= number]:
            del self._streamed[seq]
