"""Connection ids, hellos, and who was here before.

An id is 26 lower-case letters and digits (134 bits) from a secure source. Its first six are the same for all ids of
one hub: so a hub that was restarted knows that it cannot know a connection, and can say so.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections import OrderedDict
from typing import Any, Final

import attrs

from trio_hub.messages import HELLO, Event
from trio_hub.options import HubOptions
from trio_hub.wire.bodies import Body, Tally

__all__ = ["Former", "Greeter", "is_connection_id"]

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_LENGTH: Final = 26
_ORIGIN: Final = 6
_is_id = re.compile(f"[a-z0-9]{{{_LENGTH}}}").fullmatch


def is_connection_id(text: str) -> bool:
    """Whether this could be a connection id."""
    return _is_id(text) is not None


def _random(length: int) -> str:
    number, letters = secrets.randbelow(len(_ALPHABET) ** length), []
    for _ in range(length):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(letters)


@attrs.frozen
class Former:
    """An id that is no more: why, the last number written under it, and the id that its connection got instead."""

    reason: str
    last: int | None
    successor: str | None = None


class Greeter:
    """Makes ids and hellos, and remembers, for a bounded number of former ids, what became of them.

    What it makes is counted in `tally`; `origin` is what its ids begin with.
    """

    def __init__(self, version: str, options: HubOptions, tally: Tally) -> None:
        self.tally = tally
        self.origin = _random(_ORIGIN)
        self._remembered = options.remembered
        self._former: OrderedDict[str, Former] = OrderedDict()
        self._facts: dict[str, Any] = {
            "server_version": version,
            "server_hostname": socket.gethostname(),
            "window": options.window,
            "ping_interval": options.link.ping_interval,
            "max_message": options.link.max_message,
        }

    def new_id(self) -> str:
        """Return an id that nobody can guess."""
        return self.origin + _random(_LENGTH - _ORIGIN)

    def hello(self, id: str, gap: Former | None = None, requests: int | None = None) -> Body:
        """Return event 0 of this id, telling of the gap it closes, if any.

        `requests` is the highest request of a connection that goes on under this id; None for a new connection.
        """
        data = {"connection_id": id, **self._facts}
        if requests is not None:
            data["requests"] = requests
        if gap is not None:
            data["gap"] = {"reason": gap.reason, "last": gap.last}
        body = Body(Event(HELLO, data))
        body.count_in(self.tally)
        return body

    def remember(self, id: str, former: Former) -> None:
        """Note what became of an id. The oldest is forgotten when there are too many."""
        self._former[id] = former
        while len(self._former) > self._remembered:
            self._former.popitem(last=False)

    def former(self, id: str) -> Former:
        """Return what became of an id that is not in use."""
        former = self._former.get(id)
        if former is None:
            former = Former("unknown" if id.startswith(self.origin) else "restarted", None)
        return former
