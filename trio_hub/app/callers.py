"""From where somebody calls, and what of that is to be believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import trio

from trio_hub.errors import Misuse
from trio_hub.link.heads import RequestHead

__all__ = ["Proxies", "address_of", "host_of", "is_loopback", "is_origin", "peer_of", "speaks_for_itself"]

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+").fullmatch

_UNIX = "unix"  # whoever calls on a Unix socket, where a proxy has no address


class Proxies:
    """Those of these networks, as in ``10.0.0.0/8``; with ``unix`` also whoever calls on a Unix socket.

    Raises `Misuse` for what is no network.
    """

    def __init__(self, named: Sequence[str] = ()) -> None:
        try:
            self._networks = [ipaddress.ip_network(each) for each in named if each != _UNIX]
        except ValueError as error:
            raise Misuse(f"not a network: {error}") from error
        self._unix = _UNIX in named

    def __contains__(self, address: str) -> bool:
        if not address:
            return self._unix
        if not self._networks:
            return False
        here = ipaddress.ip_address(address)
        return any(here in network for network in self._networks)


def peer_of(stream: trio.abc.Stream) -> str | None:
    """Return the address at the other end; empty where there is none (a Unix socket, memory), None where nobody knows
    any more.
    """
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return None
    return str(peer[0]) if isinstance(peer, tuple) else ""


def address_of(peer: str | None, head: RequestHead, proxies: Proxies) -> str:
    """Return the address of who calls, where `peer` is at the other end of the stream.

    A proxy among `proxies` is believed whom it calls for: the last address of ``X-Forwarded-For`` that is not such a
    proxy's itself. Whatever stands before that, anybody may have written.
    """
    if peer is None:
        return ""
    address = _canonical(peer)
    said = [each.strip() for each in head.headers.get("x-forwarded-for", "").split(",")]
    while said and address in proxies:
        before = _canonical(said.pop())
        if not before:
            break
        address = before
    return address


def speaks_for_itself(peer: str | None, head: RequestHead) -> bool:
    """Whether a program on this machine asks, and calls us by a name of this machine.

    A web page can have its own name lead to this machine; then it is that name by which its browser calls us.
    """
    if not peer:
        return peer is not None
    return is_loopback(peer) and is_loopback(_hostname(head.headers.get("host", "")))


is_origin = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+").fullmatch
"""Whether this is an origin, as browsers say it: scheme, host, and a port where that is not the scheme's own."""


def host_of(origin: str) -> str | None:
    """Return the host and port of a page's origin."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


@lru_cache(1024)  # for most it is the same few names, again and again
def is_loopback(host: str | None) -> bool:
    """Whether this is a name or an address of this machine itself."""
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(1024)
def _canonical(text: str) -> str:
    """Return an address in the one form that it has, without a port, IPv4 as such; empty for what is none."""
    with_port = _WITH_PORT(text)
    try:
        address = ipaddress.ip_address((with_port[1] or with_port[2] if with_port else text).partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _hostname(host: str) -> str | None:
    """Return the name in a ``Host`` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
