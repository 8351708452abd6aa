"""The door: the one place that knows all rooms. It listens, lets people in, and leaves politely.

A stranger's way in, in one task and within one deadline: the head is read, the side door's requests are answered;
an upgrade is checked (path, Origin, query, token) and refused with an HTTP status while that is still possible.
Then the link is opened, a missing token is asked for in band, and the hub is given the link: to a new connection,
whose life this task becomes, or to the one it belongs to, whose own task takes it over.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import random
import ssl
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import attrs
import trio

from trio_hub.app.auth import CHALLENGE, Authenticate, again, challenge, guests
from trio_hub.app.router import Router
from trio_hub.app.topics import MayPublish, MaySubscribe, add_ping, add_topics, anybody, check_topic, nobody
from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import LinkLost, Misuse, PeerFault, RequestFailed
from trio_hub.hub.editing import Editor
from trio_hub.hub.greeting import is_connection_id
from trio_hub.hub.hub import Hub
from trio_hub.hub.receipts import Published, Reach
from trio_hub.hub.roster import Full
from trio_hub.link.heads import HTTPFault, RequestHead, read_head
from trio_hub.link.link import Link
from trio_hub.link.listening import accept_from, open_listeners
from trio_hub.link.opening import accept_link
from trio_hub.link.serving import say_no
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason, Event
from trio_hub.options import HubOptions
from trio_hub.peer.connection import Connection
from trio_hub.peer.hooks import Plugin
from trio_hub.session import Credentials, Session
from trio_hub.side_door import SideDoor
from trio_hub.targets import Target
from trio_hub.wire.codecs import CODECS, Codec

__all__ = ["PATHS", "Server"]

log = logging.getLogger("trio_hub.server")

_LAST_WORD = 1.0  # s, for an answer to somebody who took too long already

PATHS = ("/ws", "/api/v4/websocket")
"""Where WebSockets are served by default: our own path, and the one that Mattermost's clients know."""


@attrs.frozen
class _Wish:
    """What an upgrade asks for, checked."""

    codec: Codec
    resume: tuple[str, int] | None
    topics: tuple[str, ...]


@attrs.frozen
class _Arrival:
    """A link that was just opened."""

    link: Link
    head: RequestHead
    wish: _Wish
    session: Session | None


class Server:
    """A hub with a door::

        server = Server(authenticate=known_tokens({"secret": "ann"}))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, "127.0.0.1", 8065)
            await server.publish(Event("tick"), to=everyone())

    `router` holds the application's actions; `ping`, `subscribe`, `unsubscribe`, `publish` and
    `authentication_challenge` are added to it. `authenticate` says who somebody is; without it everybody is the same
    guest, and only this machine is listened to. `may_subscribe` (default: everybody) and `may_publish` (default:
    nobody) are asked about clients' requests, not about `publish` here. `key` opens ``POST /publish`` to back ends
    elsewhere. `origins` are the pages that browsers may connect from, ``https://example.org`` each; the server's
    own host always may. `plugins` hear of connections' moments.
    """

    def __init__(
        self,
        router: Router | None = None,
        *,
        authenticate: Authenticate | None = None,
        may_subscribe: MaySubscribe = anybody,
        may_publish: MayPublish = nobody,
        key: str | None = None,
        origins: Sequence[str] = (),
        paths: Sequence[str] = PATHS,
        plugins: Sequence[Plugin] = (),
        options: HubOptions | None = None,
    ) -> None:
        self.options = options or HubOptions()
        router = router or Router()
        self.hub = Hub(router, options=self.options, plugins=plugins)
        self._guests_only = authenticate is None
        self._authenticate = authenticate or guests
        self._may_subscribe = may_subscribe
        self._origins = frozenset(origins)
        self._paths = frozenset(paths)
        self._side_door = SideDoor(self.hub, key, self.options.opening)
        self._listeners: list[trio.abc.Listener[trio.abc.Stream]] = []
        self._streams = 0
        self._leaving_within: float | None = None  # set by `drain`
        self._empty = trio.lowlevel.ParkingLot()
        add_ping(router)
        add_topics(router, self.hub, may_subscribe=may_subscribe, may_publish=may_publish)
        router.action(CHALLENGE)(again(self._authenticate))

    async def publish(
        self,
        event: Event,
        *,
        to: Target,
        delivery: Delivery = MUST,
        editors: Sequence[Editor] = (),
        wait_for: Reach = Reach.ACCEPTED,
        within: float = math.inf,
    ) -> Published:
        """Have `event` delivered to everyone `to` selects, and say how far it got: see `Hub.publish`."""
        return await self.hub.publish(
            event, to=to, delivery=delivery, editors=editors, wait_for=wait_for, within=within
        )

    # -- listening

    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        task_status: trio.TaskStatus[list[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the hub and serve `host` and `port` (0: one the system chooses), or `listeners`, until cancelled.

        `nursery.start` returns the listeners once they listen; a Unix socket's comes from `open_unix_listener`. When
        cancelled, every link is cut; call `drain` before, to leave politely. After `drain` it returns by itself.
        Raises `Misuse` when it cannot listen, or would let guests in from other machines.
        """
        hosts = [host] if listeners is None else [_host(listener) for listener in listeners]
        for each in hosts:
            if self._guests_only and not _is_loopback(each):
                raise Misuse(f"guests are served on this machine only, not on {each or '*'}: say whom else to let in")
        if listeners is None:
            listeners = await open_listeners(host, port, ssl_context)
        self._listeners += listeners
        async with open_tasks() as tasks:
            await tasks.start(self.hub.run)
            async with open_tasks() as accepting:
                for listener in listeners:
                    accepting.start_soon(accept_from, listener, self.serve_stream, tasks)
                task_status.started(list(listeners))
            while self._streams:  # the listeners were closed: wait for those who are still here
                await self._empty.park()
            tasks.cancel_scope.cancel()

    async def drain(self, *, deadline: float = 5.0, spread: float = 1.0) -> None:
        """Leave politely: stop accepting, write what is owed, tell everybody when to come back (within `spread`
        seconds, each at a time of their own), and wait until they are gone. Then `serve` may be cancelled.

        All that takes `deadline` seconds at most, the writing half of that.
        """
        if not (deadline >= 0 and 0 <= spread < math.inf):
            raise Misuse("a deadline and a spread are seconds, 0 or more")
        self._leaving_within = spread
        for listener in self._listeners:
            await listener.aclose()
        with trio.move_on_after(deadline):
            with trio.move_on_after(deadline / 2):
                await self.hub.wait_written()
            for each in self.hub.connections():
                each.end(_come_back(spread))
            while self._streams:
                await self._empty.park()

    # -- one stream

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve whatever is asked for on this stream, to its end; it is closed then, unless a connection took it."""
        arrival = await self._arrive(stream)
        self._streams += 1
        try:
            if isinstance(arrival, _Arrival):
                connection = await self._join(arrival)
                del arrival  # its head, and its link, which the connection may outlive by days
                if connection is not None:
                    await connection.live()
                return
            if arrival is not None:
                await self._side_door.serve(stream, arrival, local=_speaks_for_itself(stream, arrival))
            await trio.aclose_forcefully(stream)
        finally:
            self._streams -= 1
            if not self._streams:
                self._empty.unpark_all()

    async def _arrive(self, stream: trio.abc.Stream) -> _Arrival | RequestHead | None:
        """Return an opened link, or the head of a request for the side door, or None where nothing came of it."""
        head, answered = None, False
        with trio.move_on_after(self.options.opening.deadline):
            try:
                head = await read_head(stream, self.options.opening)
                if not head.wants_upgrade:
                    return head
                if self._guests_only and not _speaks_for_itself(stream, head):
                    raise HTTPFault(403, "Guests call this machine by its own name")
                wish = self._wish(head)
                session = await self._session(head)
                self._check_rights(session, wish)
                subprotocol = wish.codec.subprotocol
                link = accept_link(stream, head, subprotocol=subprotocol, options=self.options.link)
                return _Arrival(link, head, wish, session)
            except HTTPFault as fault:
                answered = True
                await say_no(stream, fault)
                return None
            except LinkLost as lost:
                log.debug("nothing came of a stream: %s", lost)
                return None
        if head is None and not answered:
            with trio.move_on_after(_LAST_WORD):
                await say_no(stream, HTTPFault(408, "The request head was not finished in time"))
        return None

    def _wish(self, head: RequestHead) -> _Wish:
        """Return what an upgrade asks for. Raises `HTTPFault` where that cannot be."""
        if head.path not in self._paths:
            raise HTTPFault(404, f"WebSockets are served at {', '.join(sorted(self._paths))}")
        origin = head.headers.get("origin")
        if origin is not None and origin not in self._origins and _host_of(origin) != head.headers.get("host"):
            raise HTTPFault(403, "Pages of this origin may not connect")
        if self._leaving_within is not None:
            raise HTTPFault(503, "The server is leaving", {"Retry-After": str(math.ceil(self._leaving_within) or 1)})
        resume = _resume_wish(head.query)
        topics = _topics_wish(head.query, self.options.topics)
        if not self.hub.roster.has_room_for(resume):
            raise HTTPFault(503, "There are too many connections", {"Retry-After": "5"})
        codec = next((CODECS[name] for name in head.subprotocols if name in CODECS), CODECS[None])
        return _Wish(codec, resume, topics)

    async def _session(self, head: RequestHead) -> Session | None:
        """Return who asks, or None where they must say so in band. Raises `HTTPFault` for a token that is no good."""
        try:
            session = await self._authenticate(Credentials(head.bearer, head.headers, head.query))
        except Exception as error:
            log.exception("`authenticate` failed")
            raise HTTPFault(500, "Nobody can say who you are at the moment") from error
        if session is None and head.bearer is not None:
            raise HTTPFault(401, "The token is not known", {"WWW-Authenticate": "Bearer"})
        return session

    def _check_rights(self, session: Session | None, wish: _Wish) -> None:
        if session is None:
            return
        for name in wish.topics:
            try:
                may = self._may_subscribe(session, name)
            except Exception as error:
                log.exception("`may_subscribe` failed")
                raise HTTPFault(500, "Nobody can say what you may hear at the moment") from error
            if not may:
                raise HTTPFault(403, f"You may not subscribe to {name!r}")

    async def _join(self, arrival: _Arrival) -> Connection | None:
        """Authenticate if need be, and hand the link over to the hub; return its connection if that is a new one."""
        link, wish, session = arrival.link, arrival.wish, arrival.session
        handed_over = False
        try:
            if session is None:
                session = await self._challenge(arrival)
                self._check_rights(session, wish)
            if session is not None:
                connection, is_new = self.hub.roster.admit(link, session, wish.codec, resume=wish.resume)
                handed_over = True
                if self._leaving_within is not None:
                    connection.end(_come_back(self._leaving_within))
                for name in wish.topics:
                    self.hub.roster.subscribe(connection, name)
                return connection if is_new else None
        except HTTPFault as fault:
            link.end(CloseReason(CloseCode.POLICY, fault.message))
        except PeerFault as fault:
            link.end(CloseReason(fault.code, fault.reason))
        except Full:
            link.end(CloseReason(CloseCode.TRY_AGAIN, json.dumps({"retry_after": 5})))
        except Misuse as error:  # a resumed connection with other topics already
            link.end(CloseReason(CloseCode.POLICY, str(error)))
        except LinkLost as lost:
            log.debug("a link ended before it was authenticated: %s", lost)
        except Exception:
            log.exception("a link failed; the others go on")
            link.end(CloseReason(CloseCode.INTERNAL, "something failed here; see the server's log"))
        finally:
            if not handed_over:
                await link.close()  # noqa: ASYNC102 - bounded by itself; when cancelled it cuts
        return None

    async def _challenge(self, arrival: _Arrival) -> Session | None:
        """Ask in band, and return who it is; None, and the link has ended, where that is not known."""
        link, within = arrival.link, self.options.authenticate_within
        shown = Credentials(None, arrival.head.headers, arrival.head.query)
        link.writer.flush()
        async with open_tasks() as tasks:
            link.writer.run_in(tasks)
            try:
                session = await challenge(link, arrival.wish.codec, self._authenticate, shown, within)
                with trio.move_on_after(within):  # a writer that is cancelled in the midst of a write may tear a frame
                    await link.writer.wait_idle()
            finally:
                link.writer.run_in(None)
            tasks.cancel_scope.cancel()
        if link.writer.busy:
            link.end(CloseReason(CloseCode.TOO_SLOW, "the replies were not read"))
            return None
        return session


def _come_back(spread: float) -> CloseReason:
    """Tell one peer to come back within so many seconds, at a time of its own."""
    return CloseReason(CloseCode.RESTART, json.dumps({"retry_after": round(random.uniform(0, spread), 2)}))


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _resume_wish(query: dict[str, list[str]]) -> tuple[str, int] | None:
    """Return the connection id and next number asked for; Mattermost's client sends an empty id at first."""
    id = query.get("connection_id", [""])[-1]
    number = query.get("sequence_number", ["0"])[-1]
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise HTTPFault(400, "sequence_number is not a whole number")
    if not id:
        return None
    if not is_connection_id(id):
        raise HTTPFault(400, "connection_id is not 26 lower-case letters and digits")
    return id, int(number)


def _topics_wish(query: dict[str, list[str]], most: int) -> tuple[str, ...]:
    names = [name for value in query.get("topics", []) for name in value.split(",") if name]
    if len(names) > most:
        raise HTTPFault(400, f"A connection may subscribe to {most} topics")
    for name in names:
        try:
            check_topic(name)
        except RequestFailed as failure:
            raise HTTPFault(400, failure.message) from failure
    return tuple(names)


@lru_cache(1024)  # for most it is the same few names, again and again
def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _speaks_for_itself(stream: trio.abc.Stream, head: RequestHead) -> bool:
    """Whether a program on this machine asks, and calls us by a name of this machine.

    A web page can have its own name lead to this machine; then it is that name by which its browser calls us.
    """
    stream = _unwrapped(stream)
    if not isinstance(stream, trio.SocketStream):
        return True  # memory
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return False
    if not isinstance(peer, tuple):
        return True  # a Unix socket
    return _is_loopback(peer[0]) and _is_loopback(_hostname(head.headers.get("host", "")))


def _hostname(host: str) -> str | None:
    """Return the name in a ``Host`` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _unwrapped(stream: trio.abc.Stream) -> trio.abc.Stream:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream


def _host(listener: trio.abc.Listener[trio.abc.Stream]) -> str | None:
    """Return the address that a listener listens on; a Unix socket counts as this machine."""
    if isinstance(listener, trio.SSLListener):
        listener = listener.transport_listener
    name = listener.socket.getsockname() if isinstance(listener, trio.SocketListener) else ""
    return name[0] if isinstance(name, tuple) else "localhost"
