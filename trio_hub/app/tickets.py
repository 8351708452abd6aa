"""Tickets: passes that open one link each, for those who cannot send a header.

A page asks its own back end for one, which knows the user by its own means, and dials with it in the query. A URL ends
up in logs, so a ticket is good once, and for seconds; what is stored is its hash, from which nobody can make a ticket.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import msgspec
import trio

from trio_hub.errors import HubError, Misuse
from trio_hub.session import Credentials, Session

__all__ = ["MemoryTickets", "TicketOffice", "TicketStore", "TooManyTickets"]


class TicketStore(Protocol):
    """Where tickets are until they are used. `trio_hub.testing.contracts.tickets` is what each must do."""

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        """Keep `value` under `key`, which is new, for `lasts` seconds."""
        ...

    async def take(self, key: str) -> bytes | None:
        """Return what is kept under `key` and keep it no more, at one stroke: of several who ask, one gets it.

        None where there is nothing, or it has been kept for too long.
        """
        ...


class TooManyTickets(HubError):
    """So many tickets wait to be used that no more are issued."""


class MemoryTickets:
    """Tickets of one process, `most` of them at once."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._kept: dict[str, tuple[float, bytes]] = {}

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        """Keep a ticket. Raises `TooManyTickets` while all the room is taken by those that are still good."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            del self._kept[next(iter(self._kept))]
        if len(self._kept) >= self._most:
            raise TooManyTickets(f"{self._most} tickets wait to be used")
        self._kept[key] = now + lasts, value

    async def take(self, key: str) -> bytes | None:
        """Return a ticket that is still good, once."""
        await trio.lowlevel.checkpoint()
        good_until, value = self._kept.pop(key, (-math.inf, b""))
        return value if trio.current_time() < good_until else None


@attrs.frozen
class _Ticket:
    """What is stored of a ticket. `lasts` is None for ever, which JSON has no number for."""

    user: str
    claims: Mapping[str, Any]
    session_id: str
    lasts: float | None
    extended: bool
    origin: str | None
    address: str | None


class TicketOffice:
    """Issues tickets, each good for one link within `lasts` seconds, and knows them again.

    ``ticket = await office.issue(Session("ann"))`` is for ``wss://.../ws?ticket=...``, where a server was made with
    ``authenticate=office.authenticate``, or with that among others (`first_of`).

    `store` is where tickets are until they are used: if nothing is said in memory, and where the server is one of
    several nodes in their backplane, so that a ticket of one is good at another.
    """

    def __init__(self, store: TicketStore | None = None, *, lasts: float = 30.0) -> None:
        if not 0 < lasts < math.inf:
            raise Misuse("a ticket is good for some seconds")
        self._is_anywhere = store is not None
        self._store = store or MemoryTickets()
        self._lasts = lasts

    def settle(self, store: TicketStore) -> None:
        """Keep tickets in there, which is shared by several nodes, unless the office was made with a store."""
        if not self._is_anywhere:
            self._store = store

    async def issue(self, session: Session, *, origin: str | None = None, address: str | None = None) -> str:
        """Return a ticket for a link of this session; it may stand in a URL as it is.

        Where they are given, it is good only for a page of this `origin` (``https://example.org``), and only from this
        `address`. Raises `Misuse` for claims that are no JSON, and `TooManyTickets`.
        """
        lasts = None if session.lasts == math.inf else session.lasts
        facts = _Ticket(session.user, session.claims, session.id, lasts, session.extended, origin, address)
        try:
            value = msgspec.json.encode(facts)
        except (TypeError, ValueError) as error:
            raise Misuse(f"claims are not JSON: {error}") from error
        ticket = secrets.token_urlsafe(32)
        await self._store.put(_key(ticket), value, self._lasts)
        return ticket

    async def authenticate(self, credentials: Credentials) -> Session | None:
        """Return whose ticket was shown; None where there is none, or none that is good. It is used up either way."""
        if credentials.ticket is None:
            return None
        value = await self._store.take(_key(credentials.ticket))
        if value is None:
            return None
        ticket = msgspec.json.decode(value, type=_Ticket)
        if ticket.origin is not None and ticket.origin != credentials.headers.get("origin"):
            return None
        if ticket.address is not None and ticket.address != credentials.address:
            return None
        lasts = math.inf if ticket.lasts is None else ticket.lasts
        return Session(ticket.user, ticket.claims, ticket.session_id, lasts, ticket.extended)


def _key(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
