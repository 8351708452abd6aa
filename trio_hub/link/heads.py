"""The head of an HTTP request, read with care: nothing of it is trusted before it is whole, short and ASCII.

Every request's head is read here, in a fifth of the time that h11 takes for it, which matters when everybody comes
back at once; and more strictly: what RFC 9112 lets a server be lenient about (a bare line feed, a folded header, an
empty line before the first, a body of two lengths, a target of another host than ``Host``) is refused, so that no proxy
can see another request here than we do. What is no upgrade then goes to h11, for its body.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import parse_qs

import attrs
import h11
import trio

from trio_hub.errors import LinkLost
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import OpeningOptions

__all__ = ["HTTPFault", "RequestHead", "check_upgrade", "read_head", "write_response"]

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 section 5.6.2
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/(1\.[01])").fullmatch
_NAME = re.compile(_TOKEN).fullmatch
_VALUE = re.compile(r"[\t -~]*").fullmatch


class HTTPFault(Exception):
    """The request is answered with this HTTP `status` and `message`, and the stream is closed. Stays in this room."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.headers = headers or {}


@attrs.frozen
class RequestHead:
    """One request's head. Header names are lower-case; a header that came twice is joined with commas.

    `path` and `query_string` are the target's, `raw` is the head as it came, `rest` what came behind it. Its `repr`
    tells no secrets: tickets stand in queries, tokens and cookies in headers.
    """

    method: str
    target: str = attrs.field(repr=False)
    path: str
    query_string: str = attrs.field(repr=False)
    version: str
    headers: dict[str, str] = attrs.field(repr=False)
    raw: bytes = attrs.field(repr=False)
    rest: bytes = attrs.field(repr=False)

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query's values by name; empty values count."""
        return parse_qs(self.query_string, keep_blank_values=True) if self.query_string else {}

    @property
    def wants_upgrade(self) -> bool:
        """Whether a WebSocket is asked for."""
        return "websocket" in self.headers.get("upgrade", "").lower()

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols offered, in the client's order."""
        return _tokens(self.headers.get("sec-websocket-protocol", ""))

    @property
    def bearer(self) -> str | None:
        """The token of an ``Authorization: Bearer`` header."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


def _tokens(value: str) -> list[str]:
    return [token.strip() for token in value.split(",") if token.strip()]


async def read_head(stream: trio.abc.Stream, options: OpeningOptions, *, begun: bytes = b"") -> RequestHead:
    """Read one request head; `begun` is what of it has come already.

    Raises `HTTPFault` where the head is wrong, and `LinkLost` where the stream ends first. The deadline is the
    caller's.
    """
    data = begun
    while (end := data.find(b"\r\n\r\n")) < 0:
        _check(data, options)
        try:
            more = await stream.receive_some(options.head_size)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "the stream broke before its request")) from error
        if not more:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "the stream ended before its request"))
        data += more
    raw, rest = data[: end + 4], data[end + 4 :]
    _check(raw, options)
    return _parse(raw, rest, options)


def _check(head: bytes, options: OpeningOptions) -> None:
    if len(head) > options.head_size:
        raise HTTPFault(431, f"The request head is larger than {options.head_size} bytes")
    if not head.isascii():
        raise HTTPFault(400, "The request head has bytes that are not ASCII")
    if head.count(b"\n") != head.count(b"\r\n"):
        raise HTTPFault(400, "The request head is not HTTP: a line ends with a line feed alone")


def _parse(raw: bytes, rest: bytes, options: OpeningOptions) -> RequestHead:
    head = raw[:-4].decode()
    request_line, *lines = head.split("\r\n")
    request = _REQUEST_LINE(request_line)
    if request is None:
        raise HTTPFault(400, "The request head is not HTTP/1: it begins with no request line")
    if len(lines) > options.head_count:
        raise HTTPFault(431, f"The request has more than {options.head_count} headers")
    method, target, version = request.groups()
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, colon, value = line.partition(":")
        if not colon or _NAME(name) is None or _VALUE(value) is None:
            raise HTTPFault(400, f"The request head is not HTTP: its header {number} is none")
        name, value = name.lower(), value.strip(" \t")
        joint = "; " if name == "cookie" else ", "  # RFC 9113 section 8.2.3
        headers[name] = f"{headers[name]}{joint}{value}" if name in headers else value
    if version == "1.1" and len(re.findall(r"(?i)\r\nhost:", head)) != 1:  # RFC 9112 section 3.2
        raise HTTPFault(400, "The request head is not HTTP: it has no Host, or several")
    if "transfer-encoding" in headers and "content-length" in headers:  # RFC 9112 section 6.3
        raise HTTPFault(400, "The request's body has two lengths")
    path, query = _path_and_query(target, headers.get("host", ""))
    return RequestHead(method, target, path, query, version, headers, raw, rest)


def _path_and_query(target: str, host: str) -> tuple[str, str]:
    """Take a target apart (RFC 9112 section 3.2): the common form, or a whole URL of this host."""
    if "#" in target:
        raise HTTPFault(400, "The request target has a fragment")
    if not target.startswith("/"):
        scheme, _, rest = target.partition("://")
        if scheme.lower() not in ("http", "https"):
            return target, ""  # what OPTIONS and CONNECT may ask for, and nothing that is served
        authority, slash, rest = rest.partition("/")
        if authority.lower() != host.lower():
            raise HTTPFault(400, "The request target is of another host")
        target = slash + rest
    path, _, query = target.partition("?")
    return path, query


def check_upgrade(head: RequestHead) -> None:
    """Raise `HTTPFault` unless this is a proper WebSocket upgrade (RFC 6455 section 4.2.1)."""
    if head.method != "GET" or head.version != "1.1":
        raise HTTPFault(400, "A WebSocket upgrade is a GET in HTTP/1.1")
    if "transfer-encoding" in head.headers or head.headers.get("content-length", "0") != "0":
        raise HTTPFault(400, "A WebSocket upgrade has no body")
    if head.headers.get("upgrade", "").lower() != "websocket":
        raise HTTPFault(400, "The Upgrade header does not say websocket")
    if "upgrade" not in [token.lower() for token in _tokens(head.headers.get("connection", ""))]:
        raise HTTPFault(400, "The Connection header does not say upgrade")
    if head.headers.get("sec-websocket-version") != "13":
        spoken = {"Sec-WebSocket-Version": "13", "Upgrade": "websocket", "Connection": "close, Upgrade"}
        raise HTTPFault(426, "Only version 13 of the protocol is spoken", spoken)
    try:
        key = base64.b64decode(head.headers.get("sec-websocket-key", ""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 16:
        raise HTTPFault(400, "The Sec-WebSocket-Key is not 16 bytes in base64")


def write_response(
    parser: h11.Connection, status: int, headers: Mapping[str, str], body: bytes, *, has_body: bool = True
) -> bytes:
    """Return a whole response to what `parser` has read. `has_body` is False for an answer to HEAD."""
    all_headers = {"Content-Length": str(len(body)), **headers}
    return b"".join(
        parser.send(event) or b""
        for event in (
            h11.Response(status_code=status, reason=_REASONS.get(status, b""), headers=list(all_headers.items())),
            h11.Data(data=body if has_body else b""),
            h11.EndOfMessage(),
        )
    )


_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    426: b"Upgrade Required",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
