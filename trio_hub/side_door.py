"""The side door: plain HTTP on the same port, for back ends in any language and for whoever watches over us.

``GET /healthz`` answers 200 while the hub lives. ``POST /publish`` takes one event or an array of them,
``{"event": "...", "data": {...}, "to": "everyone" | {"topic": "..."} | {"user": "..."} | {"connection": "..."}}``,
and answers to how many connections each was offered. It needs ``Authorization: Bearer KEY`` where there is a key;
without one it is open to this machine only.
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

from trio_hub.app.topics import check_topic
from trio_hub.errors import Closed, Misuse, RequestFailed
from trio_hub.hub.hub import Hub, Reach
from trio_hub.link.heads import HTTPFault, RequestHead
from trio_hub.link.serving import hear_out
from trio_hub.messages import Event
from trio_hub.options import OpeningOptions
from trio_hub.targets import Target, connection, everyone, topic, user

__all__ = ["SideDoor"]

log = logging.getLogger("trio_hub.server")

_SPOKEN_FOR = ("origin", "forwarded", "x-forwarded-for")
_BY_KIND = {"topic": topic, "user": user, "connection": connection}


@attrs.frozen
class Publication:
    """One event as `POST /publish` spells it."""

    event: str
    to: Literal["everyone"] | dict[str, str]
    data: Any = attrs.field(factory=dict)

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


class SideDoor:
    """Answers the HTTP requests that ask for no WebSocket."""

    def __init__(self, hub: Hub, key: str | None, options: OpeningOptions) -> None:
        self._hub = hub
        self._key = key
        self._options = options

    async def serve(self, stream: trio.abc.Stream, head: RequestHead, *, local: bool) -> None:
        """Answer the request in `head` and those that follow on this stream; the caller closes it.

        `local` says that the other end is on this machine. Each request must be complete within the opening's
        deadline, which is also how long an idle stream is kept.
        """
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._options.head_size)
        parser.receive_data(head.raw + head.rest)
        try:
            while True:
                with trio.move_on_after(self._options.deadline) as scope:
                    request = await _next_event(parser, stream)
                    if not isinstance(request, h11.Request):
                        return
                    answer = await self._answer(parser, stream, request, local=local)
                    await stream.send_all(answer)
                    if parser.their_state is h11.SEND_BODY:
                        await hear_out(stream)
                    if parser.our_state is not h11.DONE or parser.their_state is not h11.DONE:
                        return
                    parser.start_next_cycle()
                if scope.cancelled_caught:
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError) as error:
            log.debug("a request was broken off: %s", error)

    async def _answer(
        self, parser: h11.Connection, stream: trio.abc.Stream, request: h11.Request, *, local: bool
    ) -> bytes:
        status, headers = 200, {}
        try:
            if parser.they_are_waiting_for_100_continue:
                await stream.send_all(parser.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            body = await self._body(parser, stream)
            content = await self._route(request, body, local=local)
        except HTTPFault as fault:
            status, headers, content = fault.status, fault.headers, {"error": fault.message}
        except Closed as error:
            status, content = 503, {"error": str(error)}
        has_body = request.method != b"HEAD"
        return _response(parser, status, headers, msgspec.json.encode(content) + b"\n", has_body=has_body)

    async def _body(self, parser: h11.Connection, stream: trio.abc.Stream) -> bytes:
        parts, size = [], 0
        while isinstance(event := await _next_event(parser, stream), h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
            if size > self._options.body_size:
                raise HTTPFault(413, f"The body is larger than {self._options.body_size} bytes")
        return b"".join(parts)

    async def _route(self, request: h11.Request, body: bytes, *, local: bool) -> Any:
        method, path = request.method.decode(), request.target.decode("latin-1").partition("?")[0]
        methods = {"/healthz": ("GET", "HEAD"), "/publish": ("POST",)}
        if path not in methods:
            raise HTTPFault(404, "There is nothing here")
        if method not in methods[path]:
            allowed = ", ".join(methods[path])
            raise HTTPFault(405, f"Only {allowed} is answered here", {"Allow": allowed})
        if path == "/healthz":
            return {"status": "ok", **attrs.asdict(self._hub.statistics())}
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        self._check_right(headers, local=local)
        return await self._publish(body)

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
        work = [
            (Event(each.event, each.data), each.target(place)) for each, place in zip(publications, places, strict=True)
        ]
        offered: list[dict[str, int | None]] = []
        for event, to in work:
            try:
                published = await self._hub.publish(event, to=to, wait_for=Reach.OFFERED)
            except Misuse as error:
                raise HTTPFault(400, f"{error} ({len(offered)} events before it were published)") from error
            offered.append({"offered": published.offered})
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


def _response(parser: h11.Connection, status: int, headers: Mapping[str, str], body: bytes, *, has_body: bool) -> bytes:
    all_headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    if parser.their_state is not h11.DONE:  # the body was not read: nothing sensible can follow
        all_headers["Connection"] = "close"
    return b"".join(
        parser.send(event) or b""
        for event in (
            h11.Response(status_code=status, headers=list(all_headers.items())),
            h11.Data(data=body if has_body else b""),
            h11.EndOfMessage(),
        )
    )
