"""The side door: plain HTTP on the same port, for back ends in any language and for whoever watches over us.

``GET /healthz`` answers 200 while the hub lives. ``POST /publish`` takes one event or an array of them,
``{"event": "...", "data": {...}, "to": "everyone" | {"topic": "..."} | {"user": "..."} | {"connection": "..."}}``,
and answers to how many connections each was offered. ``"delivery"`` may be ``"must"`` (so by default),
``"volatile"``, ``{"latest": key}`` or ``{"expires": seconds}``. It needs
``Authorization: Bearer KEY`` where there is a key; without one it is open to this machine only.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import h11
import msgspec
import trio

from trio_hub.app.callers import speaks_for_itself
from trio_hub.app.topics import SpelledDelivery, check_topic, delivery_of
from trio_hub.errors import Closed, LinkLost, Misuse, RequestFailed
from trio_hub.hub.hub import Hub
from trio_hub.link.heads import HTTPFault, RequestHead, read_head, write_response
from trio_hub.link.serving import hear_out, say_no
from trio_hub.messages import Event
from trio_hub.options import OpeningOptions
from trio_hub.targets import Target, connection, everyone, topic, user

__all__ = ["SideDoor"]

log = logging.getLogger("trio_hub.server")

_SPOKEN_FOR = ("origin", "sec-fetch-site", "forwarded", "via", "x-forwarded-for", "x-real-ip")
_WORTH_READING = 64 * 1024  # of a body that is of no interest, so that the next request may follow on the stream
_METHODS = {"/healthz": ("GET", "HEAD"), "/publish": ("POST",)}
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


@attrs.frozen
class _Question:
    """A request that was read, or what is wrong with it."""

    method: str
    path: str
    body: bytes
    fault: HTTPFault | None = None


class SideDoor:
    """Answers the HTTP requests that ask for no WebSocket."""

    def __init__(self, hub: Hub, key: str | None, options: OpeningOptions) -> None:
        self._hub = hub
        self._key = key
        self._options = options

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
            content = await self._publish(question.body) if question.path == "/publish" else self._health()
        except HTTPFault as fault:
            status, headers, content = fault.status, fault.headers, {"error": fault.message}
        except Closed as error:
            status, content = 503, {"error": str(error)}
        headers = {"Content-Type": "application/json", **headers}
        if parser.their_state is not h11.DONE:  # the body was not read: nothing sensible can follow
            headers["Connection"] = "close"
        body = msgspec.json.encode(content) + b"\n"
        return write_response(parser, status, headers, body, has_body=question.method != "HEAD")

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
        if head.path not in _METHODS:
            raise HTTPFault(404, "There is nothing here")
        if head.method not in _METHODS[head.path]:
            allowed = ", ".join(_METHODS[head.path])
            raise HTTPFault(405, f"Only {allowed} is answered here", {"Allow": allowed})
        if head.path == "/publish":
            self._check_right(head.headers, local=speaks_for_itself(peer, head))

    def _health(self) -> Any:
        return {"status": "ok", **attrs.asdict(self._hub.statistics())}

    def _check_right(self, headers: Mapping[str, str], *, local: bool) -> None:
        if self._key is None:
            # A page in a browser of this machine is not this machine's user: pages say where they come from.
            # A proxy on this machine speaks for others: proxies say for whom.
            if not local or any(name in headers for name in _SPOKEN_FOR):
                raise HTTPFault(403, "Without a key, only programs on this machine may publish")
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._key.encode()):
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
