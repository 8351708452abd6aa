"""Where a Redis is."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from trio_hub.errors import Misuse

__all__ = ["RedisAddress", "parse_redis_url"]

_PORT: Final = 6379


@attrs.frozen
class RedisAddress:
    """Where a Redis is and how it is entered. Its text is without the password."""

    host: str
    port: int
    path: str | None  # of a Unix socket
    database: int
    username: str | None = attrs.field(repr=False)
    password: str | None = attrs.field(repr=False)
    tls: ssl.SSLContext | None = attrs.field(repr=False)

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_redis_url(url: str, ssl_context: ssl.SSLContext | None = None) -> RedisAddress:
    """Read ``redis://[[user]:password@]host[:port][/database]``, the same with ``rediss``, or ``unix://[...@]/path``.

    TLS (``rediss``) checks certificate and host name, unless `ssl_context` says otherwise. Raises `Misuse`, without
    a word of the URL, in which there may be a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
        path = unquote(parts.path) if parts.scheme == "unix" else None
        database = 0 if path else int(parts.path.strip("/") or 0)
    except ValueError:
        raise Misuse("the URL of a Redis is redis://user:password@host:port/number") from None
    if parts.scheme not in ("redis", "rediss", "unix") or not (path or parts.hostname) or parts.query:
        raise Misuse("the URL of a Redis is redis://..., rediss://... or unix:///path, and without a query")
    tls = (ssl_context or ssl.create_default_context()) if parts.scheme == "rediss" else None
    username, password = (None if each is None else unquote(each) for each in (parts.username, parts.password))
    return RedisAddress(parts.hostname or "", port, path, database, username or None, password or None, tls)
