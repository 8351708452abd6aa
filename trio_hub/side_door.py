"""The side door: plain HTTP on the same port, for back ends in any language and for whoever watches over us.

``GET /healthz`` answers 200 while the hub lives. ``POST /publish`` takes one event or an array of them,
``{"event": "...", "data": {...}, "to": "everyone" | {"topic": "..."} | {"user": "..."} | {"connection": "..."}}``,
and answers to how many connections each was offered. ``"delivery"`` may be ``"must"`` (so by default),
``"volatile"``, ``{"latest": key}`` or ``{"expires": seconds}``. It needs
``Authorization: Bearer KEY`` where there is a key; without one it is open to this machine only.

``POST /tickets`` issues a ticket, where the server has an office for them, and never without the key:
``{"user": "ann"}``, and what else `TicketOrder` has.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import attrs
import h11
import msgspec
import trio

from trio_hub.app.callers import speaks_for_itself
from trio_hub.app.tickets import TicketOffice, TooManyTickets
from trio_hub.app.topics import SpelledDelivery, check_topic, delivery_of
from trio_hub.errors import Closed, LinkLost, Misuse, RequestFailed
from trio_hub.hub.hub import Hub
from trio_hub.link.heads import HTTPFault, RequestHead, read_head, write_response
from trio_hub.link.serving import hear_out, say_no
from trio_hub.messages import Event
from trio_hub.options import OpeningOptions
from trio_hub.session import Session
from trio_hub.targets import Target, connection, everyone, topic, user

__all__ = ["SideDoor"]

log = logging.getLogger("trio_hub.server")

_SPOKEN_FOR = ("origin", "sec-fetch-site", "forwarded", "via", "x-forwarded-for", "x-real-ip")
_WORTH_READING = 64 * 1024  # of a body that is of no interest, so that the next request may follow on the stream
_METHODS = {"/healthz": ("GET", "HEAD"), "/publish": ("POST",), "/tickets": ("POST",)}
_LATER = {"Retry-After": "5"}
_is_origin = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+").fullmatch
_BY_KIND = {"topic": topic, "user": user, "connection": connection}


@attrs.frozen
class Publication:
    """One event as `POST /publish` spells it."""

    event: str
    to: Literal["everyone"] | dict[str, str]
    data: Any = attrs.field(factory=dict)
    delivery: SpelledDelivery = "must"

    def target(self, place: str) -> Target:
        """Return whom it is for. Raises `HTTPFault` for a form we do not know; `place` is where this one stands."""
        if self.to == "everyone":
            return everyone()
        match list(self.to.items()) if isinstance(self.to, dict) else []:
            case [(kind, name)] if kind in _BY_KIND and name:
                if kind == "topic":
                    _check_topic(name, place)
                return _BY_KIND[kind](name)
        raise HTTPFault(400, f'Expected "everyone" or one of topic, user, connection - at `{place}.to`')


class TicketOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ticket as `POST /tickets` spells it: whose session it opens, for how many seconds that `lasts` (for ever, where
    nothing is said), and from where alone it is good.

    Members that we do not know are refused: a limit that is misspelt would be none.
    """

    user: Annotated[str, msgspec.Meta(min_length=1)]
    claims: dict[str, Any] = {}
    session: str = ""
    lasts: Annotated[float, msgspec.Meta(gt=0)] | None = None
    extended: bool = False
    origin: str | None = None
    address: str | None = None

    def opened(self) -> Session:
        """Return the session that the ticket opens."""
        lasts = math.inf if self.lasts is None else self.lasts
        return Session(self.user, self.claims, self.session, lasts, self.extended)

    def checked_origin(self) -> str | None:
        """Return it, as browsers say it. Raises `HTTPFault` for what none of them says."""
        if self.origin is not None and not _is_origin(self.origin):
            raise HTTPFault(400, "Expected scheme and host, as https://example.org - at `$.origin`")
        return self.origin

    def checked_address(self) -> str | None:
        """Return it, as sockets say it. Raises `HTTPFault` for what is none."""
        try:
            return None if self.address is None else str(ipaddress.ip_address(self.address))
        except ValueError:
            raise HTTPFault(400, "Expected an IP address - at `$.address`") from None


@attrs.frozen
class _Question:
    """A request that was read, or what is wrong with it."""

    method: str
    path: str
    body: bytes
    fault: HTTPFault | None = None


class SideDoor:
    """Answers the HTTP requests that ask for no WebSocket. Without an office there are no tickets."""

    def __init__(self, hub: Hub, key: str | None, options: OpeningOptions, tickets: TicketOffice | None = None) -> None:
        self._hub = hub
        self._key = key
        self._options = options
        self._tickets = tickets

    async def serve(self, stream: trio.abc.Stream, head: RequestHead, *, peer: str | None) -> None:
        """Answer the request in `head` and those that follow on this stream; the caller closes it.

        `peer` is the address at its other end. Each request must be complete within the opening's deadline, which is
        also how long an idle stream is kept.
        """
        try:
            following: RequestHead | None = head
            while following is not None:
                rest = await self._serve_one(stream, following, peer)
                following = None if rest is None else await self._next_head(stream, rest)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("a request was broken off: %s", error)

    async def _serve_one(self, stream: trio.abc.Stream, head: RequestHead, peer: str | None) -> bytes | None:
        """Answer one request; return what has come behind it, or None where nothing can follow on this stream."""
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._options.head_size)
        parser.receive_data(head.raw + head.rest)
        question = await self._question(parser, stream, head, peer)
        await stream.send_all(await self._answer(parser, question))
        if parser.their_state is h11.SEND_BODY:
            with trio.move_on_after(self._options.deadline):
                await hear_out(stream)
        if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
            return None
        rest, _ = parser.trailing_data
        return rest

    async def _next_head(self, stream: trio.abc.Stream, begun: bytes) -> RequestHead | None:
        """Read the head of the next request, with the same care as the first; None where none comes."""
        fault = None
        with trio.move_on_after(self._options.deadline):
            try:
                return await read_head(stream, self._options, begun=begun)
            except HTTPFault as refused:
                fault = refused
            except LinkLost:
                return None
        if fault is not None:
            with trio.move_on_after(self._options.deadline):
                await say_no(stream, fault)
        return None

    async def _question(
        self, parser: h11.Connection, stream: trio.abc.Stream, head: RequestHead, peer: str | None
    ) -> _Question:
        """Read a request, whole and within the deadline, or as far as it is of interest."""
        with trio.move_on_after(self._options.deadline):
            try:
                await _next_event(parser, stream)  # its head, as h11 sees it
                return await self._read(parser, stream, head, peer)
            except h11.RemoteProtocolError as error:
                return _Question(head.method, "", b"", HTTPFault(400, f"The request is not HTTP: {error}"))
        return _Question(head.method, "", b"", HTTPFault(408, "The request was not finished in time"))

    async def _read(
        self, parser: h11.Connection, stream: trio.abc.Stream, head: RequestHead, peer: str | None
    ) -> _Question:
        """Read the request's body, if it is of interest, or short enough for others to follow behind it."""
        fault = self._fault_of(head, peer)
        most = self._options.body_size if fault is None else _WORTH_READING
        if parser.they_are_waiting_for_100_continue:
            if fault is not None:
                return _Question(head.method, "", b"", fault)
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await stream.send_all(parser.send(go_on) or b"")
        body = await self._body(parser, stream, most)
        if body is None and fault is None:
            fault = HTTPFault(413, f"The body is larger than {most} bytes")
        return _Question(head.method, head.path, body or b"", fault)

    async def _answer(self, parser: h11.Connection, question: _Question) -> bytes:
        status, headers = 200, {}
        try:
            if question.fault is not None:
                raise question.fault
            content = await self._content(question)
            if question.path == "/tickets":
                headers = {"Cache-Control": "no-store"}
        except HTTPFault as fault:
            status, headers, content = fault.status, fault.headers, {"error": fault.message}
        except Closed as error:
            status, content = 503, {"error": str(error)}
        headers = {"Content-Type": "application/json", **headers}
        if parser.their_state is not h11.DONE:  # the body was not read: nothing sensible can follow
            headers["Connection"] = "close"
        body = msgspec.json.encode(content) + b"\n"
        return write_response(parser, status, headers, body, has_body=question.method != "HEAD")

    async def _content(self, question: _Question) -> Any:
        """Do what is asked for, and return what is said of it."""
        if question.path == "/publish":
            return await self._publish(question.body)
        if question.path == "/tickets":
            return await self._issue(question.body)
        return self._health()

    async def _body(self, parser: h11.Connection, stream: trio.abc.Stream, most: int) -> bytes | None:
        """Read the body; None, with the rest unread, when it is larger than `most`."""
        parts: list[bytes] = []
        size = 0
        while isinstance(event := await _next_event(parser, stream), h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
            if size > most:
                return None
        return b"".join(parts)

    def _fault_of(self, head: RequestHead, peer: str | None) -> HTTPFault | None:
        """Return why this request is refused, if it is, before its body is read."""
        try:
            self._check(head, peer)
        except HTTPFault as fault:
            return fault
        return None

    def _check(self, head: RequestHead, peer: str | None) -> None:
        """Raise `HTTPFault` unless this is asked for rightly, and by somebody who may."""
        if head.path not in _METHODS or (head.path == "/tickets" and self._tickets is None):
            raise HTTPFault(404, "There is nothing here")
        if head.method not in _METHODS[head.path]:
            allowed = ", ".join(_METHODS[head.path])
            raise HTTPFault(405, f"Only {allowed} is answered here", {"Allow": allowed})
        if head.path == "/publish":
            self._check_may_publish(head.headers, local=speaks_for_itself(peer, head))
        if head.path == "/tickets":
            self._check_may_issue(head.headers)

    def _health(self) -> Any:
        return {"status": "ok", **attrs.asdict(self._hub.statistics())}

    def _check_may_publish(self, headers: Mapping[str, str], *, local: bool) -> None:
        if self._key is None:
            # A page in a browser of this machine is not this machine's user: pages say where they come from.
            # A proxy on this machine speaks for others: proxies say for whom.
            if not local or any(name in headers for name in _SPOKEN_FOR):
                raise HTTPFault(403, "Without a key, only programs on this machine may publish")
            return
        self._check_key(headers, self._key)

    def _check_may_issue(self, headers: Mapping[str, str]) -> None:
        if self._key is None:  # also from this machine: whoever issues tickets is everybody
            raise HTTPFault(403, "Tickets are issued only where there is a key")
        self._check_key(headers, self._key)

    def _check_key(self, headers: Mapping[str, str], key: str) -> None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), key.encode()):
            raise HTTPFault(401, "The key is missing or wrong", {"WWW-Authenticate": "Bearer"})

    async def _publish(self, body: bytes) -> Any:
        """Publish one event, or all of an array; nothing is published if one of them is wrong."""
        several = body.lstrip().startswith(b"[")
        try:
            if several:
                publications = msgspec.json.decode(body, type=list[Publication])
            else:
                publications = [msgspec.json.decode(body, type=Publication)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPFault(400, str(error)) from error
        places = [f"$[{number}]" if several else "$" for number in range(len(publications))]
        try:
            published = await self._hub.publish_all(
                [
                    (Event(each.event, each.data), each.target(place), delivery_of(each.delivery, place))
                    for each, place in zip(publications, places, strict=True)
                ]
            )
        except RequestFailed as failure:
            raise HTTPFault(failure.status, failure.message) from failure
        except Misuse as error:
            raise HTTPFault(400, str(error)) from error
        offered = [{"offered": each.offered} for each in published]
        return offered if several else offered[0]

    async def _issue(self, body: bytes) -> Any:
        """Issue a ticket, within the deadline."""
        assert self._tickets is not None  # else there is nothing at this path
        try:
            order = msgspec.json.decode(body, type=TicketOrder)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPFault(400, str(error)) from error
        origin, address = order.checked_origin(), order.checked_address()
        with trio.move_on_after(self._options.deadline):
            try:
                return {"ticket": await self._tickets.issue(order.opened(), origin=origin, address=address)}
            except TooManyTickets as error:
                raise HTTPFault(503, str(error), _LATER) from error
            except Exception as error:
                log.exception("the store of tickets failed")
                raise HTTPFault(500, "No tickets can be issued at the moment") from error
        log.error("the store of tickets took more than %g s", self._options.deadline)
        raise HTTPFault(503, "No tickets can be issued at the moment", _LATER)


def _check_topic(name: str, place: str) -> None:
    try:
        check_topic(name)
    except RequestFailed as failure:
        form = failure.message.partition(" - at ")[0]
        raise HTTPFault(failure.status, f"{form} - at `{place}.to.topic`") from failure


async def _next_event(parser: h11.Connection, stream: trio.abc.Stream) -> Any:
    while (event := parser.next_event()) is h11.NEED_DATA:
        parser.receive_data(bytes(await stream.receive_some(65536)))
    return event
