"""The side door: plain HTTP on the same port, for back ends in any language and for whoever watches over us.

Here is how a request is read and answered; what there is to be had is `resources`.
"""

from __future__ import annotations

import logging
from typing import Any

import attrs
import h11
import trio

from trio_hub.errors import Closed, LinkLost
from trio_hub.link.heads import HTTPFault, RequestHead, read_head, write_response
from trio_hub.link.serving import hear_out, say_no
from trio_hub.options import OpeningOptions
from trio_hub.resources import Content, Resource, Resources

__all__ = ["SideDoor"]

log = logging.getLogger("trio_hub.server")

_WORTH_READING = 64 * 1024  # of a body that is of no interest, so that the next request may follow on the stream
_LONGEST = 600.0  # s, that one stream is asked on: it has a stranger's place


@attrs.frozen
class _Question:
    """A request that was read: what it asks for, or what is wrong with it."""

    asked: Resource | HTTPFault
    body: bytes = b""


class SideDoor:
    """Answers the HTTP requests that ask for no WebSocket."""

    def __init__(self, resources: Resources, options: OpeningOptions) -> None:
        self._resources = resources
        self._options = options
        self._is_leaving = False
        self._idle: set[trio.CancelScope] = set()  # around the waits of streams on which nothing is asked

    def leave(self) -> None:
        """Let idle streams go, and have each request from now on be the last one on its stream. Never waits."""
        self._is_leaving = True
        for idle in self._idle:
            idle.cancel()

    async def serve(self, stream: trio.abc.Stream, head: RequestHead, *, peer: str | None) -> None:
        """Answer the request in `head` and those that follow on this stream; the caller closes it.

        `peer` is the address at its other end. Each request must be complete within the opening's deadline, and each
        answer taken; that is also how long an idle stream is kept.
        """
        until = trio.current_time() + _LONGEST
        try:
            following: RequestHead | None = head
            while following is not None:
                rest = await self._serve_one(stream, following, peer, until)
                following = None if rest is None else await self._next_head(stream, rest)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            log.debug("a request was broken off: %s", error)

    async def _serve_one(
        self, stream: trio.abc.Stream, head: RequestHead, peer: str | None, until: float
    ) -> bytes | None:
        """Answer one request; return what has come behind it, or None where nothing can follow on this stream, as
        nothing does after `until`.
        """
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=self._options.head_size)
        parser.receive_data(head.raw + head.rest)
        question = await self._question(parser, stream, head, peer)
        answer = await self._answer(parser, question, until, has_body=head.method != "HEAD")
        with trio.move_on_after(self._options.deadline) as writing:
            await stream.send_all(answer)
        if writing.cancelled_caught:
            return None
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
                begun = begun or await self._beginning(stream)
                return await read_head(stream, self._options, begun=begun) if begun else None
            except HTTPFault as refused:
                fault = refused
            except LinkLost:
                return None
        if fault is not None:
            with trio.move_on_after(self._options.deadline):
                await say_no(stream, fault)
        return None

    async def _beginning(self, stream: trio.abc.Stream) -> bytes:
        """Wait until something is asked on an idle stream, and return what came of it; nothing where none comes."""
        with trio.CancelScope() as idle:
            self._idle.add(idle)
            if self._is_leaving:
                idle.cancel()
            try:
                return bytes(await stream.receive_some(self._options.head_size))
            finally:
                self._idle.discard(idle)
        return b""

    async def _question(
        self, parser: h11.Connection, stream: trio.abc.Stream, head: RequestHead, peer: str | None
    ) -> _Question:
        """Read a request, whole and within the deadline, or as far as it is of interest."""
        with trio.move_on_after(self._options.deadline):
            try:
                await _next_event(parser, stream)  # its head, as h11 sees it
                return await self._read(parser, stream, self._asked(head, peer))
            except h11.RemoteProtocolError as error:
                return _Question(HTTPFault(400, f"The request is not HTTP: {error}"))
        return _Question(HTTPFault(408, "The request was not finished in time"))

    def _asked(self, head: RequestHead, peer: str | None) -> Resource | HTTPFault:
        try:
            return self._resources.find(head, peer)
        except HTTPFault as fault:
            return fault

    async def _read(self, parser: h11.Connection, stream: trio.abc.Stream, asked: Resource | HTTPFault) -> _Question:
        """Read the request's body, if it is of interest, or short enough for others to follow behind it."""
        is_refused = isinstance(asked, HTTPFault)
        most = _WORTH_READING if is_refused else self._options.body_size
        if parser.they_are_waiting_for_100_continue:
            if is_refused:
                return _Question(asked)
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await stream.send_all(parser.send(go_on) or b"")
        body = await self._body(parser, stream, most)
        if body is None and not is_refused:
            asked = HTTPFault(413, f"The body is larger than {most} bytes")
        return _Question(asked, body or b"")

    async def _answer(self, parser: h11.Connection, question: _Question, until: float, *, has_body: bool) -> bytes:
        status, headers = 200, dict[str, str]()
        try:
            if isinstance(question.asked, HTTPFault):
                raise question.asked
            content = await question.asked.answer(question.body)
        except HTTPFault as fault:
            status, headers, content = fault.status, fault.headers, Content.json({"error": fault.message})
        except Closed as error:
            status, content = 503, Content.json({"error": str(error)})
        headers = {"Content-Type": content.type, **content.headers, **headers}
        is_last = self._is_leaving or trio.current_time() >= until
        if is_last or parser.their_state is not h11.DONE:  # behind a body that was not read nothing can follow
            headers["Connection"] = "close"
        return write_response(parser, status, headers, content.body, has_body=has_body)

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


async def _next_event(parser: h11.Connection, stream: trio.abc.Stream) -> Any:
    while (event := parser.next_event()) is h11.NEED_DATA:
        parser.receive_data(bytes(await stream.receive_some(65536)))
    return event
