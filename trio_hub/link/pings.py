"""Pings of ours that wait for their pongs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_bytes

import trio

__all__ = ["Pings"]


class Pings:
    """The pings on their way, by payload. With `any_pong`, a pong without a payload answers one: webson's first version
    leaves it out.
    """

    def __init__(self, *, any_pong: bool) -> None:
        self._any_pong = any_pong
        self._waiting: dict[bytes, trio.Event] = {}

    @contextmanager
    def one(self) -> Iterator[tuple[bytes, trio.Event]]:
        """Yield the payload of one more ping, and the event of its answer, or of the link's end."""
        payload = token_bytes(8)
        answered = self._waiting[payload] = trio.Event()
        try:
            yield payload, answered
        finally:
            del self._waiting[payload]

    def note(self, payload: bytes) -> bool:
        """Note a pong; False where it answers none, or one that was answered."""
        answered = self._waiting.get(payload)
        if answered is None and not payload and self._any_pong:
            answered = next((each for each in self._waiting.values() if not each.is_set()), None)
        if answered is None or answered.is_set():
            return False
        answered.set()
        return True

    def end(self) -> None:
        """Have nobody wait any more."""
        for answered in self._waiting.values():
            answered.set()
