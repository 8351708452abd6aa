"""A server of plain links, without a hub."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable

import h11
import trio

from trio_hub.errors import LinkLost, RequestFailed
from trio_hub.link.heads import HTTPFault, RequestHead, read_head, write_response
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.listening import accept_from, open_listeners
from trio_hub.link.opening import accept_link, check_headers
from trio_hub.link.tasks import failures_in, is_of_the_link, open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import LinkOptions, OpeningOptions

__all__ = ["VerifyRequest", "hear_out", "say_no", "serve_links"]

VerifyRequest = Callable[[RequestHead], bool | Awaitable[bool]]
"""Says whether a client's upgrade will do."""

log = logging.getLogger("trio_hub.link")


async def serve_links(
    handler: Callable[[Link], Awaitable[None]],
    host: str | None = "127.0.0.1",
    port: int = 0,
    *,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    subprotocols: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    verify: VerifyRequest | None = None,
    options: LinkOptions | None = None,
    opening: OpeningOptions | None = None,
    task_status: trio.TaskStatus[list[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept WebSockets on `host` and `port`, or on `listeners`, and run `handler(link)` for each, until cancelled.

    On every path, and from every web page: nothing is asked but a proper upgrade, unless `verify` asks more. It is
    given the request's head and returns whether it will do; one that will not is answered with 401, or as a
    `RequestFailed` says that it raises; whatever else it raises is logged, and answered with 500. The head stays to be
    had as `link.request`. `headers` go out with each answer.

    Of `subprotocols` the first that a client offers is agreed on (RFC 6455 section 4.2.2); a client that offers none of
    them has its link without one. `link.subprotocol` says which.

    When the handler returns, its link is closed with 1000; when it raises, that is logged and the link is closed
    with 1011, and the others notice nothing. That this link is lost, or its peer broke the protocol or gave a message
    up, is no failure; that another link is lost, say the one to which it passes on, is. `nursery.start` returns the
    listeners. Raises `Misuse` when it cannot listen, and for headers that cannot be sent.
    """
    link_options, opening_options = options or LinkOptions(), opening or OpeningOptions()
    heart = Heart(link_options)

    async def serve_one(stream: trio.abc.Stream) -> None:
        link = None
        with trio.move_on_after(opening_options.deadline) as opening:
            try:
                head = await read_head(stream, opening_options)
                await _verify(verify, head)
                agreed = next((ours for ours in subprotocols if ours in head.subprotocols), None)
                link = accept_link(stream, head, subprotocol=agreed, headers=headers, options=link_options)
                link.request = head
            except HTTPFault as fault:
                await say_no(stream, fault)
            except LinkLost as lost:
                log.debug("no link came of it: %s", lost)
        if link is None:
            await trio.aclose_forcefully(stream)
            return
        with heart.watching(link):
            async with link.running():
                try:
                    if await _settle(link, opening.deadline):
                        await handler(link)
                except Exception as error:
                    if not is_of_the_link(error, has_ended=link.closed is not None):
                        raise
                    log.debug("link ended: %s", error)  # the handler need not care
                    link.end(CloseReason(CloseCode.INTERNAL))

    check_headers(headers, subprotocols)
    open_now = list(listeners) if listeners is not None else await open_listeners(host, port, ssl_context)
    async with open_tasks() as tasks:
        tasks.start_soon(heart.run)
        for listener in open_now:
            tasks.start_soon(accept_from, listener, serve_one, tasks)
        task_status.started(open_now)


async def _settle(link: Link, deadline: float) -> bool:
    """Wait until the dialect lets a server speak; a client that does not say what it must is sent away."""
    with trio.move_on_at(deadline) as waiting:
        await link.settle()
    if waiting.cancelled_caught:
        link.end(CloseReason(CloseCode.POLICY, "the key was not proved in time"))
    return not waiting.cancelled_caught


async def _verify(verify: VerifyRequest | None, head: RequestHead) -> None:
    if verify is None:
        return
    try:
        verdict = verify(head)
        accepted = await verdict if isawaitable(verdict) else verdict
    except Exception as error:
        raise _verdict_of(error) from error
    if not accepted:
        raise HTTPFault(401, "The request was not accepted")


def _verdict_of(error: Exception) -> HTTPFault:
    """Return the answer where `verify` has raised."""
    match failures_in(error):
        case [RequestFailed(status=status, message=message)]:
            return HTTPFault(status if 400 <= status <= 599 else 403, message)
    log.error("`verify` has failed", exc_info=error)
    return HTTPFault(500, "The request could not be judged")


async def say_no(stream: trio.abc.Stream, fault: HTTPFault) -> None:
    """Answer with the fault's status and a sentence, if the peer still listens."""
    body = f"{fault.message}\n".encode(errors="replace")
    headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", **fault.headers}
    try:
        await stream.send_all(write_response(h11.Connection(h11.SERVER), fault.status, headers, body))
        await hear_out(stream)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        log.debug("a refusal was not heard: %s", error)


async def hear_out(stream: trio.abc.Stream) -> None:
    """Say that nothing more will come, and wait until the peer hangs up, so that no reset overtakes our last word."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
        while await stream.receive_some(65536):
            pass
