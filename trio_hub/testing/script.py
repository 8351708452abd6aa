"""Peers that a test plays itself, frame by frame: they say what it says, and answer nothing of their own accord.

They work over any trio stream, so the other end may be ours or anybody's.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import ClassVar

import attrs
import h11
import trio

from trio_hub.errors import LinkLost, Misuse
from trio_hub.link.heads import HTTPFault, RequestHead, read_head
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import OpeningOptions
from trio_hub.testing.frame import Frame, cut_frame
from trio_hub.testing.weather import Weather

__all__ = [
    "Response",
    "ScriptedClient",
    "ScriptedPeer",
    "ScriptedServer",
    "open_scripted_server",
    "upgrade_request",
    "upgrade_response",
]

_READ_SIZE = 64 * 1024
_KEY = base64.b64encode(b"0123456789abcdef").decode()
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3


# -- heads -------------------------------------------------------------------------------------------------------


def upgrade_request(
    resource: str = "/ws", *, subprotocols: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the head of a proper request for a WebSocket. `headers` are added, or replace those of the same name."""
    return _head(
        f"GET {resource} HTTP/1.1",
        {
            "Host": "memory",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": _KEY,
            **({"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {}),
            **(headers or {}),
        },
    )


def upgrade_response(key: str, *, subprotocol: str | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Return the head that says yes to a request with this ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()
    return _head(
        "HTTP/1.1 101 Switching Protocols",
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
            **({} if subprotocol is None else {"Sec-WebSocket-Protocol": subprotocol}),
            **(headers or {}),
        },
    )


def _head(start: str, headers: Mapping[str, str]) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


@attrs.frozen
class Response:
    """A server's answer to a request: `status`, `headers` (lower-case names) and `body`."""

    status: int
    headers: dict[str, str]
    body: bytes


# -- peers -------------------------------------------------------------------------------------------------------


class ScriptedPeer:
    """One end of a WebSocket over `stream`. Every failure of that is `LinkLost`.

    Nothing is answered unless the test answers it: no ping, no goodbye. What is said may break any rule. `unheard` is
    what has come and is no whole frame yet: after the end, what was torn.
    """

    masks: ClassVar[bool]
    """Whether its frames are masked unless they say otherwise."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.unheard = b""

    async def say(self, *frames: Frame | str) -> None:
        """Say these frames in one write; `str` is a whole text message."""
        whole = (Frame.text(each) if isinstance(each, str) else each for each in frames)
        await self.say_raw(b"".join(each.encoded(masked=self.masks) for each in whole))

    async def say_raw(self, data: bytes) -> None:
        """Say these bytes, whatever they are."""
        with _broken_is_lost():
            await self.stream.send_all(data)

    async def hear(self) -> Frame | None:
        """Return the next frame, None at the end."""
        while (cut := cut_frame(self.unheard)) is None:
            data = await self._read()
            if not data:
                return None
            self.unheard += data
        heard, self.unheard = cut
        return heard

    async def hear_all(self) -> list[Frame]:
        """Return all frames until the end."""
        heard = []
        while (each := await self.hear()) is not None:
            heard.append(each)
        return heard

    async def hang_up(self) -> None:
        """Close the stream, without a goodbye."""
        await trio.aclose_forcefully(self.stream)

    async def _read(self) -> bytes:
        with _broken_is_lost():
            return bytes(await self.stream.receive_some(_READ_SIZE))


@contextmanager
def _broken_is_lost() -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise LinkLost(CloseReason(CloseCode.ABNORMAL, str(error))) from error


class ScriptedServer(ScriptedPeer):
    """The server's end. `request` is the head that was heard, or None before that.

    A head has `method`, `path`, `query`, `headers` (lower-case names), `subprotocols` and `bearer`.
    """

    masks = False

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.request: RequestHead | None = None

    async def hear_request(self) -> RequestHead:
        """Return the head of the client's request. Raises `AssertionError` where that is no HTTP."""
        try:
            self.request = head = await read_head(self.stream, OpeningOptions())
        except HTTPFault as fault:
            raise AssertionError(f"what the client said is no request: {fault}") from fault
        self.unheard = head.rest
        return head

    async def accept(self, *, subprotocol: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        """Say yes to the request, which is heard first unless it was."""
        request = self.request or await self.hear_request()
        key = request.headers.get("sec-websocket-key", "")
        await self.say_raw(upgrade_response(key, subprotocol=subprotocol, headers=headers))

    async def refuse(self, status: int = 503, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer the request, which is heard first unless it was, with this status."""
        if self.request is None:
            await self.hear_request()
        all_headers = {"Content-Length": str(len(body)), **(headers or {})}
        await self.say_raw(_head(f"HTTP/1.1 {status} ", all_headers) + body)


class ScriptedClient(ScriptedPeer):
    """The client's end."""

    masks = True

    async def upgrade(
        self, resource: str = "/ws", *, subprotocols: Sequence[str] = (), headers: Mapping[str, str] | None = None
    ) -> Response:
        """Ask for a WebSocket, and return what the server answers: it is there if the status is 101."""
        await self.say_raw(upgrade_request(resource, subprotocols=subprotocols, headers=headers))
        return await self.hear_response()

    async def hear_response(self) -> Response:
        """Return the server's answer to a request that was said by hand. Raises `LinkLost` where it is no HTTP."""
        parser = h11.Connection(h11.CLIENT)
        asked = h11.Request(method="GET", target="/", headers=[("Host", "-"), ("Upgrade", "websocket")])
        for event in (asked, h11.EndOfMessage()):
            parser.send(event)
        parser.receive_data(self.unheard or await self._read())
        try:
            return await self._parse(parser)
        except h11.RemoteProtocolError as error:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"no answer: {error}")) from error

    async def _parse(self, parser: h11.Connection) -> Response:
        head: h11.Response | h11.InformationalResponse | None = None
        body = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await self._read())
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:  # the message's end, or the protocol was switched
                break
        self.unheard = parser.trailing_data[0]
        assert head is not None
        return Response(head.status_code, {name.decode(): value.decode() for name, value in head.headers}, body)


# -- a server of scripts -----------------------------------------------------------------------------------------

Script = Callable[[ScriptedServer], Awaitable[None]]


@asynccontextmanager
async def open_scripted_server(*scripts: Script) -> AsyncIterator[Weather]:
    """Serve the n-th link of a client by the n-th script, and yield the weather on the way there.

    `Weather.open_stream` is what the client dials with. The last script serves all further links, too. When a script
    returns it has hung up; when its client has left before (`LinkLost`) it is over. Whatever else a script raises, a
    failed assertion for one, comes out of the block.
    """
    if not scripts:
        raise Misuse("a scripted server has at least one script")
    waiting = deque(scripts)

    async def play(script: Script, stream: trio.abc.Stream) -> None:
        try:
            with suppress(LinkLost):
                await script(ScriptedServer(stream))
        finally:
            await trio.aclose_forcefully(stream)

    async with open_tasks() as tasks:

        def reach(stream: trio.abc.Stream) -> None:
            tasks.start_soon(play, waiting.popleft() if len(waiting) > 1 else waiting[0], stream)

        yield Weather(reach)
        tasks.cancel_scope.cancel()
