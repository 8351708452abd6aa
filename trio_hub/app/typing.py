"""Who is typing: told to those who have the topic open, now, or not at all.

It is the least of all events: only for who is connected and keeps up, not kept, not for the author's own devices, and
no more often than anybody looks.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import attrs
import trio
from attrs import validators

from trio_hub.delivery import volatile
from trio_hub.hub.hub import Hub
from trio_hub.messages import Event
from trio_hub.peer.connection import Connection
from trio_hub.targets import beside, topic, user

__all__ = ["Typing", "TypingOptions"]

_OPEN = "open"


@attrs.frozen(kw_only=True)
class TypingOptions:
    """How often it is told that somebody types."""

    every: float = attrs.field(default=2.0, validator=validators.gt(0))
    """Seconds between two such events of one author in one topic. Clients show one for about five."""


class Typing:
    """Tells of those who type."""

    def __init__(self, hub: Hub, options: TypingOptions | None = None) -> None:
        self._hub = hub
        self._every = (options or TypingOptions()).every
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()  # when, by author and topic; the oldest first
        self.is_paused = False

    def open(self, connection: Connection, name: str) -> None:
        """Note that somebody looks at this topic on this device. Raises `Misuse` beyond the topics that it may have."""
        self._hub.roster.subscribe(connection, beside(_OPEN, name))

    def close(self, connection: Connection, name: str) -> None:
        """Note that nobody does any more."""
        self._hub.roster.unsubscribe(connection, beside(_OPEN, name))

    def tell(self, author: str, name: str, details: dict[str, Any]) -> bool:
        """Tell those who have the topic open that the author types there; False where it was told just now, or this is
        not the time for such things. Never waits: where the hub's inbox is full, nobody is told.
        """
        now, told = trio.current_time(), self._told
        while told and next(iter(told.values())) <= now - self._every:
            told.popitem(last=False)
        if self.is_paused or (author, name) in told:
            return False
        event = Event("typing", {"user_id": author, **details}, {"topic": name, "channel_id": name})
        try:
            self._hub.publish_nowait(event, to=topic(beside(_OPEN, name)) - user(author), delivery=volatile())
        except trio.WouldBlock:
            return False
        told[author, name] = now
        return True
