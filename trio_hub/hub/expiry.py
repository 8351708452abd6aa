"""Sessions run out: one task looks once a second, so that no connection needs a timer of its own."""

from __future__ import annotations

import math

import attrs
import trio

from trio_hub.messages import CloseCode, CloseReason
from trio_hub.peer.connection import Connection

__all__ = ["Expiry"]

_BEAT = 1.0  # s
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
        """Look, until cancelled. A connection is ended within a second of its session's end, never before."""
        while True:
            while not self._terms:
                self._wanted = trio.Event()
                await self._wanted.wait()
            await trio.sleep(_BEAT)
            self._extend(trio.current_time())
            self._end_all(trio.current_time())

    def _extend(self, now: float) -> None:
        """Have the time of every extended session begin anew with which anything was asked."""
        active = set()
        for connection, term in self._terms.items():
            if connection.asked != term.asked:
                term.asked = connection.asked
                if connection.session.extended:
                    active.add(_session_of(connection))
        if active:
            for connection, term in self._terms.items():
                if connection.session.extended and _session_of(connection) in active:
                    term.ends_at = now + connection.session.lasts

    def _end_all(self, now: float) -> None:
        over = [connection for connection, term in self._terms.items() if term.ends_at <= now]
        for connection in over:
            del self._terms[connection]
            connection.end(_RUN_OUT)


def _session_of(connection: Connection) -> tuple[str, str] | Connection:
    """Return what connections of one session have in common; one without an id is its own."""
    session = connection.session
    return (session.user, session.id) if session.id else connection
