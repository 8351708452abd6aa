"""What the side door has: each path, what may be done there, by whom, and what is answered.

``GET /healthz`` answers 200 while the hub lives, and 503 while it is one of several nodes and hears no other.

``POST /publish`` takes one event or an array of them, ``{"event": "...", "data": {...}, "to": "everyone"}``, and
answers to how many connections each was offered. ``to`` may be any target (`spelling`), ``"delivery"`` any delivery,
and ``"editors"`` an array of ``{"name": "...", "arguments": {...}}``. It needs ``Authorization: Bearer KEY`` where
there is a key; without one it is open to this machine only.

``POST /tickets`` issues a ticket, where the server has an office for them, and never without the key:
``{"user": "ann"}``, and what else `TicketOrder` has.

``GET /metrics``, where that is switched on, is for Prometheus; it needs the same key where there is one, and is open
where there is none.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import msgspec
import trio

from trio_hub.app.callers import speaks_for_itself
from trio_hub.app.orders import publications_in, ticket_order_in
from trio_hub.app.tickets import TicketOffice, TooManyTickets
from trio_hub.cluster.relay import Relay
from trio_hub.errors import Misuse, Unreachable
from trio_hub.hub.hub import Hub
from trio_hub.link.heads import HTTPFault, RequestHead

__all__ = ["Content", "Resource", "Resources"]

log = logging.getLogger("trio_hub.server")

_SPOKEN_FOR = ("origin", "sec-fetch-site", "forwarded", "via", "x-forwarded-for", "x-real-ip")
_LATER = {"Retry-After": "5"}


@attrs.frozen
class Content:
    """What is answered."""

    body: bytes
    type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def json(cls, value: Any, **headers: str) -> Content:
        """Return this value as JSON."""
        return cls(msgspec.json.encode(value) + b"\n", headers=headers)


@attrs.frozen
class Resource:
    """What is at one path. `check`, of the head and the address at the stream's other end, raises `HTTPFault` for whom
    it is not; `answer` takes the body.
    """

    methods: tuple[str, ...]
    check: Callable[[RequestHead, str | None], None]
    answer: Callable[[bytes], Awaitable[Content]]


class Resources:
    """The resources of a server, by path. Those that it was not made with are not there."""

    def __init__(
        self,
        hub: Hub,
        key: str | None,
        deadline: float,
        *,
        tickets: TicketOffice | None = None,
        metrics: bool = False,
        trouble: Callable[[], str] = str,
        relay: Relay | None = None,
    ) -> None:
        self._hub = hub
        self._trouble = trouble
        self._key = key
        self._deadline = deadline
        self._by_path = {
            "/healthz": Resource(("GET", "HEAD"), _anybody, self._health),
            "/publish": Resource(("POST",), self._check_may_publish, self._publish),
        }
        if tickets is not None:
            self._tickets = tickets
            self._by_path["/tickets"] = Resource(("POST",), self._check_may_issue, self._issue)
        if metrics:
            self._scrape = _scrape_of(hub, relay)
            self._by_path["/metrics"] = Resource(("GET", "HEAD"), self._check_may_scrape, self._metrics)

    def find(self, head: RequestHead, peer: str | None) -> Resource:
        """Return what is asked for. Raises `HTTPFault` where it is not there, or not to be had so, or by them."""
        resource = self._by_path.get(head.path)
        if resource is None:
            raise HTTPFault(404, "There is nothing here")
        if head.method not in resource.methods:
            allowed = ", ".join(resource.methods)
            raise HTTPFault(405, f"Only {allowed} is answered here", {"Allow": allowed})
        resource.check(head, peer)
        return resource

    # -- who may

    def _check_may_publish(self, head: RequestHead, peer: str | None) -> None:
        if self._key is not None:
            _check_key(head, self._key)
        # A page in a browser of this machine is not this machine's user: pages say where they come from.
        # A proxy on this machine speaks for others: proxies say for whom.
        elif not speaks_for_itself(peer, head) or any(name in head.headers for name in _SPOKEN_FOR):
            raise HTTPFault(403, "Without a key, only programs on this machine may publish")

    def _check_may_issue(self, head: RequestHead, peer: str | None) -> None:
        if self._key is None:  # also from this machine: whoever issues tickets is everybody
            raise HTTPFault(403, "Tickets are issued only where there is a key")
        _check_key(head, self._key)

    def _check_may_scrape(self, head: RequestHead, peer: str | None) -> None:
        if self._key is not None:
            _check_key(head, self._key)

    # -- what is answered

    async def _health(self, body: bytes) -> Content:
        # Anybody may ask, as often as they like: so it is no more than what is known without looking at connections.
        trouble = self._trouble()
        if trouble:
            raise HTTPFault(503, trouble)
        return Content.json({"status": "ok", "index": attrs.asdict(self._hub.roster.statistics())})

    async def _metrics(self, body: bytes) -> Content:
        type, text = self._scrape()
        return Content(text, type)

    async def _publish(self, body: bytes) -> Content:
        """Publish one event, or all of an array; nothing is published if one of them is wrong."""
        publications, are_several = publications_in(body)
        places = [f"$[{number}]" if are_several else "$" for number in range(len(publications))]
        try:
            read = [each.read(place) for each, place in zip(publications, places, strict=True)]
            published = await self._hub.publish_all(read)
            await self._hub.wait_carried()
        except Misuse as error:
            raise HTTPFault(400, str(error)) from error
        offered = [{"offered": each.offered} for each in published]
        return Content.json(offered if are_several else offered[0])

    async def _issue(self, body: bytes) -> Content:
        """Issue a ticket, within the deadline."""
        order = ticket_order_in(body)
        origin, address = order.checked_origin(), order.checked_address()
        with trio.move_on_after(self._deadline):
            try:
                ticket = await self._tickets.issue(order.opened(), origin=origin, address=address)
            except TooManyTickets as error:
                raise HTTPFault(503, str(error), _LATER) from error
            except Unreachable as error:
                log.warning("the store of tickets cannot be reached: %s", error)
                raise HTTPFault(503, "No tickets can be issued at the moment", _LATER) from error
            except Exception as error:
                log.exception("the store of tickets failed")
                raise HTTPFault(500, "No tickets can be issued at the moment") from error
            return Content.json({"ticket": ticket}, **{"Cache-Control": "no-store"})
        log.error("the store of tickets took more than %g s", self._deadline)
        raise HTTPFault(503, "No tickets can be issued at the moment", _LATER)


def _anybody(head: RequestHead, peer: str | None) -> None:
    """Whoever asks may."""


def _check_key(head: RequestHead, key: str) -> None:
    shown = head.bearer
    if shown is None or not hmac.compare_digest(shown.encode(), key.encode()):
        raise HTTPFault(401, "The key is missing or wrong", {"WWW-Authenticate": "Bearer"})


def _scrape_of(hub: Hub, relay: Relay | None) -> Callable[[], tuple[str, bytes]]:
    """Return what reads the metrics of a hub; it raises `HTTPFault` where nothing is installed that could."""
    try:
        from trio_hub.metrics import Metrics
    except ModuleNotFoundError:
        return _no_metrics
    return Metrics(hub.statistics, None if relay is None else relay.statistics).scrape


def _no_metrics() -> tuple[str, bytes]:
    raise HTTPFault(404, "Metrics need more than is installed here: pip install 'trio-hub[metrics]'")
