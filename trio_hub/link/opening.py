"""The upgrade, both roles; behind it the stream is ours.

A client's handshake is trio-websocket's. It is given a stream of ours that shows it the response's head and nothing
behind that. Its reader then waits on that stream for ever, so its nursery can be cancelled without losing a byte, and
what came right behind the head is the link's `unread`. Extensions are between us and the peer: the header that speaks
of them is added to the head that trio-websocket writes, and taken out of the one that it is shown.

A server has read and checked the head before it decides anything (`heads`): the answer is all that is left to say.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable
from typing import cast

import h11
import trio
import trio_websocket

from trio_hub.dialect import STANDARD
from trio_hub.errors import LinkLost, Misuse, PeerFault, Refused
from trio_hub.link.agreeing import Agreed, Asking, accept_digest, agree
from trio_hub.link.heads import RequestHead, check_upgrade
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import LinkOptions, OpeningOptions
from trio_hub.wire.deflate import OFFER, OFFER_OF_WEBSON, Parameters, agreed_in, answer_to

__all__ = ["VerifyAnswer", "accept_link", "check_headers", "request_link"]

VerifyAnswer = Callable[[Mapping[str, str]], bool | Awaitable[bool]]
"""Says whether a server's headers (names in lower case) are what its client wants."""

_HEAD_END = b"\r\n\r\n"
_SWITCHING = b"HTTP/1.1 101"
_ACCEPTING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
_EXTENSIONS = "Sec-WebSocket-Extensions"
_EXTENSIONS_LINE = re.compile(rb"\r\n%s:([^\r\n]*)(?=\r\n)" % _EXTENSIONS.encode(), re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOTHING: tuple[Agreed, list[tuple[str, str]]] = (Agreed(), [])
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
_NO_UPGRADE = (*_BROKEN, trio_websocket.HandshakeError, h11.ProtocolError, UnicodeError, PeerFault)
"""What trio-websocket, the libraries below it and we raise where a server's answer is no proper one."""


class _Handshake(trio.abc.Stream):
    """What trio-websocket sees of a client's stream: the head of the response, if it switches protocols.

    Otherwise that is kept in `rest`, whole, and `stop` ends trio-websocket's stay, which would otherwise wait for ever.
    Where extensions were offered, `extensions` is what the server says to that.
    """

    def __init__(
        self, stream: trio.abc.Stream, stop: Callable[[], None], head_size: int, asking: Asking, *, offered: bool
    ) -> None:
        self._asking = asking
        self._stream = stream
        self._stop = stop
        self._head_size = head_size
        self._offered = offered
        self.extensions = ""
        self.rest = b""
        self._shown = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(self._asking.spelled(bytes(data)))
        except _BROKEN:
            self._stop()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._shown and len(self.rest) <= self._head_size:
            try:
                data = await self._stream.receive_some(self._head_size)
            except _BROKEN:
                break
            self.rest += data
            end = self.rest.find(_HEAD_END) + len(_HEAD_END)
            if end >= len(_HEAD_END) and self.rest.startswith(_SWITCHING):
                head, self.rest, self._shown = self.rest[:end], self.rest[end:], True
                head = self._asking.understood(head)
                return self._without_extensions(head) if self._offered else head
            if not data or end >= len(_HEAD_END):
                break
        if not self._shown:
            self._stop()
        await trio.sleep_forever()
        raise AssertionError  # pragma: no cover

    def _without_extensions(self, head: bytes) -> bytes:
        self.extensions = b",".join(_EXTENSIONS_LINE.findall(head)).decode("latin-1").strip()
        return _EXTENSIONS_LINE.sub(b"", head)

    async def aclose(self) -> None:
        self._stop()
        await trio.lowlevel.checkpoint()


def accept_link(
    stream: trio.abc.Stream,
    head: RequestHead,
    *,
    subprotocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    options: LinkOptions | None = None,
) -> Link:
    """Answer the upgrade in `head` with yes, and return the server's end of the link (RFC 6455 section 4.2.2).

    The answer is the first that the link writes: at its next `writer.flush`, together with whatever follows it by then.
    Raises `HTTPFault` where `head` is no proper upgrade.
    """
    check_upgrade(head)
    if subprotocol is not None and subprotocol not in head.subprotocols:
        raise Misuse(f"the client did not offer the subprotocol {subprotocol!r}")
    offers = head.headers.get(_EXTENSIONS.lower())
    agreed = answer_to(offers) if offers and options and options.compression else None
    dialect = options.dialect if options else STANDARD
    spoken, more = agree(dialect, head.headers) if dialect is not STANDARD else _NOTHING
    digest = accept_digest(head.headers["sec-websocket-key"], dialect.magic_key)
    lines = [_ACCEPTING + digest]
    if subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
    if headers or more or agreed is not None:
        lines += [name + b": " + value for name, value in _encoded({**(headers or {}), **dict(more)}, agreed)]
    link = Link(
        stream,
        client=False,
        unread=head.rest,
        subprotocol=subprotocol,
        compression=agreed,
        options=options,
        seal=spoken.seal,
        streams=spoken.streams,
    )
    answer = b"\r\n".join([*lines, b"", b""])
    link.writer.post(answer.replace(b"Sec-WebSocket-", b"Sec-Websocket-") if dialect.is_webson else answer)
    return link


async def request_link(
    stream: trio.abc.Stream,
    *,
    host: str,
    resource: str,
    subprotocols: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    verify: VerifyAnswer | None = None,
    options: LinkOptions | None = None,
    opening: OpeningOptions | None = None,
) -> Link:
    """Ask for an upgrade over `stream`, and return the client's end of the link.

    Raises `Refused` where the server says no, and `LinkLost` where the stream ends or says something that is no
    answer, or not the one that `verify` wants. The deadline is the caller's. If cancelled, close the stream.
    """
    opening = opening or OpeningOptions()
    dialect = options.dialect if options else STANDARD
    asking = Asking(dialect)
    offer = (OFFER_OF_WEBSON if dialect.is_webson else OFFER) if options and options.compression else None
    extra = _encoded({**(headers or {}), **asking.headers}, offer)
    connection: trio_websocket.WebSocketConnection | None = None
    try:
        async with open_tasks() as tasks:
            response = _Handshake(
                stream, tasks.cancel_scope.cancel, opening.head_size, asking, offered=offer is not None
            )
            connection = await trio_websocket.wrap_client_stream(
                tasks,
                cast("trio.SocketStream", response),  # any stream will do
                host,
                resource,
                subprotocols=subprotocols,
                extra_headers=extra,
            )
            tasks.cancel_scope.cancel()
        agreed = agreed_in(response.extensions) if response.extensions else None
    except _NO_UPGRADE as error:
        raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"the upgrade failed: {error!r}")) from error
    if connection is None:
        raise await _refusal(stream, response.rest, opening)
    answered = {name.decode("latin-1"): value.decode("latin-1") for name, value in connection.handshake_headers}
    await _verify_answer(verify, answered)
    spoken = asking.agreed(answered)
    link = Link(
        stream,
        client=True,
        unread=response.rest,
        subprotocol=connection.subprotocol,
        compression=agreed,
        options=options,
        seal=spoken.seal,
        streams=spoken.streams,
    )
    if spoken.seal is not None:
        link.prove()
    return link


async def _verify_answer(verify: VerifyAnswer | None, headers: dict[str, str]) -> None:
    if verify is not None:
        verdict = verify(headers)
        if not (await verdict if isawaitable(verdict) else verdict):
            raise LinkLost(CloseReason(CloseCode.POLICY, "the server's headers were not accepted"))


def check_headers(headers: Mapping[str, str] | None, subprotocols: Sequence[str] = ()) -> None:
    """Raise `Misuse` for headers and subprotocols that cannot stand in an upgrade, or in its answer."""
    _encoded(headers, None)
    if isinstance(subprotocols, str):
        raise Misuse("subprotocols are a list, also where there is one")
    for each in subprotocols:
        if not isinstance(each, str) or not _TOKEN.fullmatch(each):  # RFC 6455 section 4.1
            raise Misuse(f"{each!r} cannot be a subprotocol")


def _encoded(headers: Mapping[str, str] | None, compression: Parameters | None) -> list[tuple[bytes, bytes]]:
    """Return the headers as bytes, that of extensions among them. Raises `Misuse` for what cannot stand in one."""
    try:
        encoded = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        if compression is not None:
            encoded.append((_EXTENSIONS.encode(), str(compression).encode()))
        h11.Request(method="GET", target="/", headers=[(b"Host", b"-"), *encoded])
    except (h11.LocalProtocolError, UnicodeEncodeError, AttributeError) as error:
        raise Misuse(f"headers that cannot be sent: {error}") from error
    return encoded


async def _refusal(stream: trio.abc.Stream, begun: bytes, opening: OpeningOptions) -> LinkLost:
    """Return the error for a response that did not switch protocols, its body included."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=opening.head_size)
    parser.send(h11.Request(method="GET", target="/", headers=[("Host", "-")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(begun)
    response: h11.Response | None = None
    body = b""
    try:
        while len(body) <= opening.body_size:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(bytes(await stream.receive_some(opening.head_size)))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                break
    except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        if response is None:
            reason = "the stream ended before an answer" if not begun else f"the answer is not HTTP: {error}"
            return LinkLost(CloseReason(CloseCode.ABNORMAL, reason))
    if response is None:
        return LinkLost(CloseReason(CloseCode.ABNORMAL, "the stream ended before an answer"))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
    text = body[:200].decode(errors="replace").strip()
    reason = f"HTTP {response.status_code} {text}".rstrip()
    return Refused(CloseReason(CloseCode.ABNORMAL, reason), response.status_code, headers, body)
