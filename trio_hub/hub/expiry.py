"""Sessions run out: one task looks once a second, so that no connection needs a timer of its own."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator

import attrs
import trio

from trio_hub.messages import CloseCode, CloseReason
from trio_hub.peer.connection import Connection

__all__ = ["Expiry", "session_of"]

_BEAT = 1.0  # s
_TURN = 4096  # connections looked at before other tasks get a turn: less than a millisecond
_RUN_OUT = CloseReason(CloseCode.SESSION_EXPIRED, "the session has run out")


@attrs.define
class _Term:
    """When a connection's session ends, and how many requests it had made when that was looked at last."""

    ends_at: float
    asked: int


class Expiry:
    """Ends each connection when its session does. Those whose sessions last for ever cost nothing.

    A session that is `extended` lasts longer with every request of any of its connections.
    """

    def __init__(self) -> None:
        self._terms: dict[Connection, _Term] = {}
        self._wanted = trio.Event()

    def watch(self, connection: Connection) -> None:
        """Look after the session that a connection has from now on."""
        lasts = connection.session.lasts
        if lasts == math.inf:
            self._terms.pop(connection, None)
            return
        self._terms[connection] = _Term(trio.current_time() + lasts, connection.asked)
        self._wanted.set()

    def forget(self, connection: Connection) -> None:
        """Stop looking after a connection."""
        self._terms.pop(connection, None)

    async def run(self) -> None:
        """Look, until cancelled. A connection is ended within about a second of its session's end, never before."""
        while True:
            while not self._terms:
                self._wanted = trio.Event()
                await self._wanted.wait()
            await trio.sleep(_BEAT)
            await self._look()

    async def _look(self) -> None:
        """Look at all of them once."""
        terms, active = list(self._terms.items()), set[Hashable]()
        for start in range(0, len(terms), _TURN):
            active.update(_active_among(terms[start : start + _TURN]))
            await trio.lowlevel.checkpoint()
        for start in range(0, len(terms), _TURN):
            self._judge(terms[start : start + _TURN], active)
            await trio.lowlevel.checkpoint()

    def _judge(self, terms: list[tuple[Connection, _Term]], active: set[Hashable]) -> None:
        """Extend the sessions that are `active`, and end those whose time is over."""
        now = trio.current_time()
        for connection, term in terms:
            session = connection.session
            if active and session.extended and session_of(connection) in active:
                term.ends_at = now + session.lasts
            elif term.ends_at <= now and self._terms.get(connection) is term:  # and not renewed meanwhile
                del self._terms[connection]
                connection.end(_RUN_OUT)


def _active_among(terms: list[tuple[Connection, _Term]]) -> Iterator[Hashable]:
    """Yield the extended sessions with which anything was asked since this was asked last."""
    for connection, term in terms:
        if connection.asked != term.asked:
            term.asked = connection.asked
            if connection.session.extended:
                yield session_of(connection)


def session_of(connection: Connection) -> Hashable:
    """Return what connections of one session have in common; one without an id is its own."""
    session = connection.session
    return (session.user, session.id) if session.id else connection
