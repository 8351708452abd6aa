"""From a URL to a link: where it leads, and how to get there."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import unquote, urlencode, urlsplit

import attrs
import trio

from trio_hub.errors import LinkLost, Misuse
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.opening import VerifyAnswer, check_headers, request_link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import LinkOptions, OpeningOptions

__all__ = ["Address", "OpenStream", "connect", "dial", "open_link", "way_to"]


@attrs.frozen
class Address:
    """Where a WebSocket URL leads. `authorization` is the Basic header of credentials in the URL."""

    host: str
    port: int
    tls: bool
    resource: str = attrs.field(repr=lambda resource: repr(resource.partition("?")[0]))  # tickets stand in queries
    authorization: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Return the parts of a ``ws://`` or ``wss://`` URL. Raises `Misuse` for anything else."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Misuse(f"not a URL: {error}") from error
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise Misuse("a WebSocket URL begins with ws:// or wss:// and a host")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise Misuse("a URL is printable ASCII without spaces; quote what is not")
        if port == 0:
            raise Misuse("nobody can be reached at port 0")
        tls = parts.scheme == "wss"
        resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        authorization = None
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        return cls(parts.hostname, port or (443 if tls else 80), tls, resource, authorization)

    def with_query(self, members: Mapping[str, str]) -> Address:
        """Return the same address with these members added to its query."""
        if not members:
            return self
        separator = "&" if "?" in self.resource else "?"
        return attrs.evolve(self, resource=f"{self.resource}{separator}{urlencode(members)}")

    @property
    def host_header(self) -> str:
        """What the ``Host`` header says."""
        return self._host if self.port == (443 if self.tls else 80) else self.authority

    @property
    def authority(self) -> str:
        """The host with its port, whatever that is."""
        return f"{self._host}:{self.port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


OpenStream = Callable[[Address], Awaitable[trio.abc.Stream]]
"""How a stream to an address comes about, in place of TCP and TLS. Raises `LinkLost` or `OSError` where none does."""


def way_to(address: Address, ssl_context: ssl.SSLContext | None, open_stream: OpenStream | None) -> OpenStream:
    """Return how a stream to it comes about: `connect`, unless a caller has another way.

    Raises `Misuse` for an `ssl_context` where there is no TLS: whoever gives one believes that there is.
    """
    if ssl_context is not None and not address.tls:
        raise Misuse("an `ssl_context` is for wss://, and the URL says ws://")
    return open_stream or partial(connect, ssl_context=ssl_context)


async def connect(address: Address, ssl_context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """Open the stream to `address`, with TLS where it asks for it.

    Raises `LinkLost` when nobody answers there or the certificate is not good.
    """
    try:
        stream = await trio.open_tcp_stream(address.host, address.port)
    except (OSError, UnicodeError) as error:  # the latter from names that cannot be looked up
        raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"cannot connect: {error}")) from error
    if not address.tls:
        return stream
    context = ssl_context or ssl.create_default_context()
    secure = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(secure)
        raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"no TLS: {error.__cause__ or error}")) from error
    except BaseException:
        await trio.aclose_forcefully(secure)
        raise
    return secure


@asynccontextmanager
async def open_link(
    url: str,
    *,
    subprotocols: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    verify: VerifyAnswer | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_stream: OpenStream | None = None,
    options: LinkOptions | None = None,
    opening: OpeningOptions | None = None,
) -> AsyncIterator[Link]:
    """Open a WebSocket to `url` for the length of the block, with a heart and a writer of its own.

    Credentials in the URL (``ws://user:password@host/``) are sent as Basic authorization. `verify` is asked whether the
    headers of the server's answer will do. `open_stream` is an async function that replaces TCP and TLS, for a Unix
    socket or a cable: it is given the address (``host``, ``port``, ``tls``) and returns a stream, or raises `OSError`
    or `LinkLost`.

    Leaving the block closes the link: 1000, or 1011 after an exception. Raises `Refused` where the server says no,
    `LinkLost` where it cannot be reached within the opening's deadline, and `Misuse` for what cannot be sent there.
    """
    options, opening = options or LinkOptions(), opening or OpeningOptions()
    address = Address.parse(url)
    check_headers(headers, subprotocols)
    link = await dial(
        address,
        subprotocols=subprotocols,
        headers=headers,
        verify=verify,
        open_stream=way_to(address, ssl_context, open_stream),
        options=options,
        opening=opening,
    )
    heart = Heart(options)
    heart.watch(link)
    async with open_tasks() as tasks:
        tasks.start_soon(heart.run)
        async with link.running():
            yield link
        tasks.cancel_scope.cancel()


async def dial(
    address: Address,
    *,
    subprotocols: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    verify: VerifyAnswer | None = None,
    open_stream: OpenStream,
    options: LinkOptions,
    opening: OpeningOptions,
) -> Link:
    """Connect and upgrade within the opening's deadline. Raises as `open_link` does; leaves nothing open behind.

    `open_stream` is how a stream to an address comes about; `way_to` has the usual one.
    """
    with trio.move_on_after(opening.deadline):
        try:
            stream = await open_stream(address)
        except OSError as error:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, str(error) or type(error).__name__)) from error
        try:
            return await request_link(
                stream,
                host=address.authority if options.dialect.is_webson else address.host_header,
                resource=address.resource,
                subprotocols=subprotocols,
                headers=_with_credentials(address, headers or {}),
                verify=verify,
                options=options,
                opening=opening,
            )
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"no answer within {opening.deadline:g} s"))


def _with_credentials(address: Address, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers, with those credentials of the URL that they do not replace."""
    if address.authorization is None or any(name.lower() == "authorization" for name in headers):
        return headers
    return {"Authorization": address.authorization, **headers}
