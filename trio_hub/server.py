"""The door: the one place that knows all rooms. It listens, has strangers received, and leaves politely.

A stream's whole way is one task here: `reception` makes a link of it, whose connection this task then becomes the life
of; what is no upgrade is for the `side_door`.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING

import trio

from trio_hub.app.auth import Authenticate, first_of, guests
from trio_hub.app.busy import Busy, BusyOptions
from trio_hub.app.callers import Proxies, is_loopback, peer_of
from trio_hub.app.challenge import CHALLENGE, again
from trio_hub.app.entry import Entry
from trio_hub.app.plugins import Answering, companions_of
from trio_hub.app.presence import Presence, PresenceOptions
from trio_hub.app.presence_actions import add_presence, add_typing
from trio_hub.app.router import Router
from trio_hub.app.sessions import ReadSession, Sessions, TopicsOf, no_topics
from trio_hub.app.tickets import TicketOffice
from trio_hub.app.topics import MayPublish, MaySubscribe, add_ping, add_topics, anybody, nobody
from trio_hub.app.typing import Typing, TypingOptions
from trio_hub.cluster.backplane import Backplane
from trio_hub.cluster.relay import Relay
from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Misuse
from trio_hub.hub.carrying import Carry
from trio_hub.hub.editing import Editor
from trio_hub.hub.editors import Edit, Editors
from trio_hub.hub.hub import Hub
from trio_hub.hub.receipts import Published, Reach
from trio_hub.link.listening import accept_from, accept_rest, open_listeners
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Event
from trio_hub.options import ClusterOptions, HubOptions
from trio_hub.peer.hooks import Plugin
from trio_hub.peer.requests import Handler
from trio_hub.reception import Arrival, Reception, come_back
from trio_hub.resources import Resources
from trio_hub.side_door import SideDoor
from trio_hub.targets import Target

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["PATHS", "Server"]

log = logging.getLogger("trio_hub.server")


PATHS = ("/ws", "/api/v4/websocket")
"""Where WebSockets are served by default: our own path, and the one that Mattermost's clients know."""


class Server:
    """A hub with a door::

        server = Server(authenticate=known_tokens({"secret": "ann"}))
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, "127.0.0.1", 8065)
            await server.publish(Event("tick"), to=everyone())

    `router` holds the application's actions; `ping`, `subscribe`, `unsubscribe`, `publish` and
    `authentication_challenge` are added to it. `plugins` hear of connections' moments, `editors` are those that a
    publish may name. `sessions` is where sessions are revoked, or read anew, by `read_session`.

    `authenticate` says who somebody is; without it everybody is the same guest, and only this machine is listened to;
    with `tickets` alone, only those come in who have one. `tickets` is an office whose tickets are good here, and are
    looked at first; where there is a `key`, too, it issues them to back ends at ``POST /tickets``.

    `topics_of` says what connections of a session hear without asking. `may_subscribe` (default: everybody) and
    `may_publish` (default: nobody) are asked about clients' requests, not about `publish` here.

    `presence` and `typing` have that told of users, to whoever watches, or looks at, a topic. With `busy` the load is
    measured, and what can wait is refused when there is too much.

    `origins` are the pages that browsers may connect from, ``https://example.org`` each, or ``*`` for any; the server's
    own host always may. `proxies` are the networks (``10.0.0.0/8``; ``unix`` for a Unix socket) whose
    ``X-Forwarded-For`` is believed. `key` opens ``POST /publish`` to back ends elsewhere. `metrics` says whether
    ``GET /metrics`` answers, to anybody, or to whoever has the `key`, where there is one; `tracer` is OpenTelemetry's,
    for spans of requests, publishes and deliveries.

    With a `backplane` this server is one node of several, by the name `node` or one that is made up; `cluster` are its
    options. What is published at one is heard at all of them.

    Raises `Misuse` for arguments that contradict each other.
    """

    def __init__(
        self,
        router: Router | None = None,
        *,
        authenticate: Authenticate | None = None,
        tickets: TicketOffice | None = None,
        may_subscribe: MaySubscribe = anybody,
        may_publish: MayPublish = nobody,
        read_session: ReadSession | None = None,
        topics_of: TopicsOf = no_topics,
        presence: PresenceOptions | None = None,
        typing: TypingOptions | None = None,
        busy: BusyOptions | None = None,
        key: str | None = None,
        metrics: bool = False,
        tracer: Tracer | None = None,
        origins: Sequence[str] = (),
        proxies: Sequence[str] = (),
        paths: Sequence[str] = PATHS,
        plugins: Sequence[Plugin] = (),
        editors: Editors | None = None,
        backplane: Backplane | None = None,
        node: str | None = None,
        cluster: ClusterOptions | None = None,
        options: HubOptions | None = None,
    ) -> None:
        for rule in (may_subscribe, may_publish, topics_of):
            if iscoroutinefunction(rule):
                raise Misuse(f"{rule!r} is a plain function: what it would return here is a yes to everything")
        if key is not None and not key.strip():
            raise Misuse("an empty key opens the side door to everybody: None is no key")
        self.options = options or HubOptions()
        router = router or Router()
        handler: Handler = Answering(router, plugins)
        tracing = None
        if tracer is not None:
            from trio_hub.tracing import TracedHandler, Traces

            handler, tracing = TracedHandler(handler, tracer), Traces(tracer)
        self.hub = Hub(handler, options=self.options, plugins=plugins, editors=editors, tracing=tracing)
        self.relay = None if backplane is None else Relay(self.hub, backplane, node=node, options=cluster)
        if self.relay is not None and tickets is not None:
            tickets.settle(self.relay)
        ways = [way for way in (None if tickets is None else tickets.authenticate, authenticate) if way is not None]
        self._guests_only = not ways
        authenticate = first_of(*ways) if ways else guests
        entry = Entry(
            self.options,
            authenticate=authenticate,
            may_subscribe=may_subscribe,
            topics_of=topics_of,
            origins=origins,
            paths=paths,
        )
        self.sessions = Sessions(self.hub, may_subscribe=may_subscribe, read=read_session, topics_of=topics_of)
        self.hub.companions.append(self.sessions.run)
        self._reception = Reception(
            self.hub,
            entry,
            self.sessions,
            authenticate,
            Proxies(proxies),
            guests_only=self._guests_only,
        )
        resources = Resources(
            self.hub,
            key,
            self.options.opening.deadline,
            tickets=tickets,
            metrics=metrics,
            trouble=self._trouble,
            relay=self.relay,
        )
        self._side_door = SideDoor(resources, self.options.opening)
        self._listeners: list[trio.abc.Listener[trio.abc.Stream]] = []
        self._streams = 0  # those that are waited for when we leave: whoever has said what they want
        self._strangers = 0  # streams that are no links
        self._empty = trio.lowlevel.ParkingLot()
        self._drained: trio.Event | None = None  # set when `drain` is done
        self._tasks: trio.Nursery | None = None
        self.presence = None if presence is None else Presence(self.hub, presence)
        self.typing = None if typing is None else Typing(self.hub, typing)
        if self.presence is not None:
            self.hub.roster.on_change.append(self.presence.notice)
            self.hub.companions.append(self.presence.run)
            add_presence(router, self.presence, may_subscribe=may_subscribe)
        self.busy = Busy(self.hub, busy, partial(self._heed_load, router))
        self.hub.companions.append(self.busy.run)
        self.hub.companions += companions_of(plugins, self)
        if self.typing is not None:
            add_typing(router, self.typing, may_subscribe=may_subscribe)
        add_ping(router)
        add_topics(router, self.hub, may_subscribe=may_subscribe, may_publish=may_publish)
        renewal = again(authenticate, self.sessions, self.options.authenticate_within)
        router.action(CHALLENGE, ordered=True)(renewal)

    async def publish(
        self,
        event: Event,
        *,
        to: Target,
        delivery: Delivery = MUST,
        editors: Sequence[Editor | Edit] = (),
        carry: Carry = Carry.FAST,
        wait_for: Reach = Reach.ACCEPTED,
        within: float = math.inf,
    ) -> Published:
        """Have `event` delivered to everyone `to` selects, and say how far it got: see `Hub.publish`."""
        return await self.hub.publish(
            event, to=to, delivery=delivery, editors=editors, carry=carry, wait_for=wait_for, within=within
        )

    def _trouble(self) -> str:
        """Return what is wrong with this node, so that it should get nobody new; nothing where all is well."""
        health = None if self.relay is None else self.relay.health()
        return f"hears no other nodes: {health.trouble}" if health is not None and health.is_deaf else ""

    def _heed_load(self, router: Router, is_busy: bool) -> None:
        """Put off what can wait while the server is busy: requests that are not critical, presence and typing."""
        router.is_busy = is_busy
        for each in (self.presence, self.typing):
            if each is not None:
                each.is_paused = is_busy

    # -- listening

    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        shared: bool = False,
        task_status: trio.TaskStatus[list[trio.abc.Listener[trio.abc.Stream]]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run the hub and serve `host` and `port` (0: one the system chooses), or `listeners`, until cancelled.

        A port that is `shared` is one on which other processes of this user may listen, too: each newcomer comes to one
        of them. They are nodes of one cluster then, or each knows nothing of the others' people.

        `nursery.start` returns the listeners once they listen; a Unix socket's comes from `open_unix_listener`. When
        cancelled, every link is cut; call `drain` before, to leave politely. After `drain` it returns by itself.
        Raises `Misuse` when it cannot listen, or would let guests in from other machines.
        """
        hosts = [host] if listeners is None else [_host(listener) for listener in listeners]
        for each in hosts:
            if self._guests_only and not is_loopback(each):
                raise Misuse(f"guests are served on this machine only, not on {each or '*'}: say whom else to let in")
        async with open_tasks() as self._tasks:
            tasks = self._tasks
            await tasks.start(self.hub.run)  # before anybody can knock
            if listeners is None:
                listeners = await open_listeners(host, port, ssl_context, shared=shared)
            self._listeners += listeners
            async with open_tasks() as accepting:
                for listener in listeners:
                    accepting.start_soon(accept_from, listener, self.serve_stream, tasks)
                task_status.started(list(listeners))
            while self._streams:  # the listeners were closed: wait for those who are still here
                await self._empty.park()
            if self._drained is not None:  # other nodes are still to be told
                await self._drained.wait()
            tasks.cancel_scope.cancel()

    async def drain(self, *, deadline: float = 5.0, spread: float = 1.0) -> None:
        """Leave politely: stop accepting, write what is owed, tell everybody when to come back (within `spread`
        seconds, each at a time of their own), and wait until they are gone. Then `serve` may be cancelled.

        Where there are other nodes, nobody loses anything: each connection waits here, with all that it is owed, until
        its client has come back to another node, which fetches it. All that takes `deadline` seconds at most, the
        writing half of that; whoever has not come by then is told of a gap when they do.
        """
        if not (deadline >= 0 and 0 <= spread < math.inf):
            raise Misuse("a deadline and a spread are seconds, 0 or more")
        self._drained = trio.Event()
        try:
            await self._drain(deadline, spread)
        finally:
            self._drained.set()

    async def _drain(self, deadline: float, spread: float) -> None:
        self._reception.leaving_within = spread
        self._side_door.leave()
        for listener in self._listeners:
            if self._tasks is not None:
                accept_rest(listener, self.serve_stream, self._tasks)
            await listener.aclose()
        with trio.move_on_after(deadline):
            with trio.move_on_after(deadline / 2):
                await self.hub.wait_written()
            for each in self.hub.connections():
                self._reception.send_away(each)
            while self._streams:
                await self._empty.park()
        for each in self.hub.connections():
            each.end(come_back(spread))
        if self.relay is not None:
            await self.relay.leave()

    # -- one stream

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve whatever is asked for on this stream, to its end; it is closed then, unless a connection took it."""
        if self._strangers >= self.options.strangers:
            self.hub.roster.count_refused()
            await trio.aclose_forcefully(stream)  # an answer would cost what there is too much of
            return
        with self._counting_stranger():
            arrival = await self._reception.arrive(stream)
        self._streams += 1
        try:
            if isinstance(arrival, Arrival):
                connection = await self._reception.join(arrival)
                del arrival  # its head, and its link, which the connection may outlive by days
                if connection is not None:
                    await connection.live()
                return
            if arrival is not None:
                with self._counting_stranger():
                    await self._side_door.serve(stream, arrival, peer=peer_of(stream))
            await trio.aclose_forcefully(stream)
        finally:
            self._streams -= 1
            if not self._streams:
                self._empty.unpark_all()

    @contextmanager
    def _counting_stranger(self) -> Iterator[None]:
        self._strangers += 1
        try:
            yield
        finally:
            self._strangers -= 1


def _host(listener: trio.abc.Listener[trio.abc.Stream]) -> str | None:
    """Return the address that a listener listens on; a Unix socket counts as this machine."""
    if isinstance(listener, trio.SSLListener):
        listener = listener.transport_listener
    name = listener.socket.getsockname() if isinstance(listener, trio.SocketListener) else ""
    return name[0] if isinstance(name, tuple) else "localhost"
