"""Where strangers knock: listeners of every kind, and an accept loop that one of them cannot stop."""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence

import trio

from trio_hub.errors import Misuse

__all__ = ["accept_from", "accept_rest", "guard", "open_listeners", "open_unix_listener"]

log = logging.getLogger("trio_hub.link")

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_PAUSE = 0.1  # s, until file descriptors may be free again
_BACKLOG = 1024
_AT_ONCE = 16  # streams accepted in one turn of the loop: to read and answer so many upgrades takes about 5 ms

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


async def open_listeners(
    host: str | None, port: int, ssl_context: ssl.SSLContext | None = None, *, shared: bool = False
) -> list[trio.abc.Listener[trio.abc.Stream]]:
    """Listen on `host` (None: every interface) and `port` (0: one the system chooses).

    Where it is `shared`, other processes of this user may listen there as well, and the system gives each newcomer to
    one of them. Raises `Misuse` when that is not possible.
    """
    try:
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]
        if shared:
            listeners = await _open_shared_listeners(host, port)
        else:
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except OSError as error:
        raise Misuse(f"cannot listen on {host or '*'} port {port}: {error.strerror or error}") from error
    if ssl_context is None:
        return list(listeners)
    return [trio.SSLListener(listener, ssl_context, https_compatible=True) for listener in listeners]


async def _open_shared_listeners(host: str | None, port: int) -> list[trio.SocketListener]:
    listeners: list[trio.SocketListener] = []
    try:
        for family, kind, protocol, _, address in await trio.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = trio.socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                await sock.bind(address)
                sock.listen(_BACKLOG)
            except BaseException:
                sock.close()
                raise
            listeners.append(trio.SocketListener(sock))
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    return listeners


async def open_unix_listener(path: str | os.PathLike[str]) -> trio.SocketListener:
    """Listen on a Unix socket at `path`. A socket that nobody listens on any more is replaced.

    Raises `Misuse` when something else is at `path`, or somebody listens there.
    """
    path = os.fspath(path)
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await _remove_stale(path)
        await sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise Misuse(f"cannot listen on {path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


async def _remove_stale(path: str) -> None:
    if not os.path.exists(path):  # noqa: ASYNC240 - a stat, once, before anybody is served
        return
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        raise Misuse(f"cannot listen on {path}: it exists and is no socket")
    try:
        stream = await trio.open_unix_socket(path)
    except ConnectionRefusedError:  # any other error may mean that it is somebody's
        os.unlink(path)
        return
    await trio.aclose_forcefully(stream)
    raise Misuse(f"cannot listen on {path}: somebody does already")


async def accept_from(listener: trio.abc.Listener[trio.abc.Stream], handler: Handler, tasks: trio.Nursery) -> None:
    """Start `handler` in `tasks` for every stream that comes, until the listener is closed; it is, when cancelled.

    The handler owns its stream. What it raises is logged and ends nothing but that stream.
    """
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except trio.ClosedResourceError:
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.error("cannot accept: %s; trying again in %g s", error.strerror, _PAUSE)
                await trio.sleep(_PAUSE)
            else:
                tasks.start_soon(guard, handler, stream)
                for another in _also_waiting(listener):
                    tasks.start_soon(guard, handler, another)


def _also_waiting(
    listener: trio.abc.Listener[trio.abc.Stream], most: int = _AT_ONCE - 1
) -> Iterator[trio.SocketStream]:
    """Yield what else can be accepted now, in bounds; never waits.

    `accept` takes a turn of the loop for each stream. Where turns are long, because much is going on, clients that all
    come back at once would wait a second and more. (Those of a TLS listener still do: each costs a handshake anyway.)
    """
    if not isinstance(listener, trio.SocketListener) or listener.socket.fileno() < 0:
        return
    door = socket.socket(fileno=listener.socket.fileno())
    try:
        door.setblocking(False)
        for _ in range(most):
            sock, _ = door.accept()
            yield trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    except OSError:
        return  # there is nobody, or something is wrong, of which the next `accept` tells
    finally:
        door.detach()


def accept_rest(listener: trio.abc.Listener[trio.abc.Stream], handler: Handler, tasks: trio.Nursery) -> None:
    """Start `handler` for everybody who waits to be accepted: whoever stays there when it is closed is cut off."""
    for stream in _also_waiting(listener, _BACKLOG):
        tasks.start_soon(guard, handler, stream)


async def guard(handler: Handler, stream: trio.abc.Stream) -> None:
    """Run the handler for one stream; one stream's failure is nobody else's."""
    try:
        await handler(stream)
    except Exception:
        log.exception("a handler failed; its stream is closed")
        await trio.aclose_forcefully(stream)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
