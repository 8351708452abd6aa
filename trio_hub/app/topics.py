"""The built-in actions: `ping`, `subscribe`, `unsubscribe`, `publish`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import attrs
import trio

from trio_hub.app.router import Router
from trio_hub.delivery import Delivery, expires, latest, must, volatile
from trio_hub.errors import Misuse, RequestFailed
from trio_hub.hub.hub import Hub
from trio_hub.messages import Event
from trio_hub.peer.connection import Connection
from trio_hub.peer.requests import Aside
from trio_hub.session import Session
from trio_hub.targets import Target, topic
from trio_hub.targets import connection as this_connection
from trio_hub.version import VERSION

__all__ = [
    "MayPublish",
    "MaySubscribe",
    "add_ping",
    "add_topics",
    "anybody",
    "check_may_hear",
    "check_topic",
    "delivery_of",
    "nobody",
    "too_many_is_refused",
]

_LONGEST_TOPIC: Final = 200

SpelledDelivery = Literal["must", "volatile"] | dict[str, str | float]
"""How messages spell a `Delivery`."""
MaySubscribe = Callable[[Session, str], bool]
"""Whether somebody may subscribe to this topic. A plain function; anything slow was loaded before."""
MayPublish = Callable[[Session, str, Event], bool]
"""Whether somebody may publish this event to this topic. A plain function."""


def anybody(session: Session, name: str, event: Event | None = None) -> bool:
    """Yes to everybody, as `MaySubscribe` and as `MayPublish`."""
    return True


def nobody(session: Session, name: str, event: Event | None = None) -> bool:
    """No to everybody."""
    return False


@attrs.frozen
class Nothing:
    """No data, or data that is ignored."""


@attrs.frozen
class Subscribe:
    """The topic to hear, or to hear no more."""

    topic: str


@attrs.frozen
class Publish:
    """What to say to a topic. Without `echo` the connection that says it does not hear it; the user's others do."""

    topic: str
    event: str
    data: Any = attrs.field(factory=dict)
    delivery: SpelledDelivery = "must"
    echo: bool = True


def delivery_of(spelled: SpelledDelivery, place: str = "$") -> Delivery:
    """Return the delivery that a message asks for. Raises `RequestFailed` for one we do not know."""
    fault = 'Expected "must", "volatile", {"latest": key} or {"expires": seconds}'
    try:
        match list(spelled.items()) if isinstance(spelled, dict) else spelled:
            case "must":
                return must()
            case "volatile":
                return volatile()
            case [("latest", str(key))]:
                return latest(key)
            case [("expires", int() | float() as seconds)]:
                return expires(seconds)
    except Misuse as error:
        fault = str(error)
    raise RequestFailed(400, "bad_request", f"{fault} - at `{place}.delivery`")


def check_topic(name: str) -> None:
    """Raise `RequestFailed` unless this can be a topic's name: 1 to 200 characters, no comma, nothing unprintable.

    A comma separates topics in a URL's query.
    """
    if not 0 < len(name) <= _LONGEST_TOPIC or "," in name or not name.isprintable():
        form = f"1 to {_LONGEST_TOPIC} printable characters without a comma"
        raise RequestFailed(400, "bad_topic", f"A topic's name is {form} - at `$.topic`")


def check_may_hear(session: Session, name: str, may_subscribe: MaySubscribe) -> None:
    """Raise `RequestFailed` unless this is a topic's name, and this session may hear it."""
    check_topic(name)
    if not may_subscribe(session, name):
        raise RequestFailed(403, "no_right", f"you may not subscribe to {name!r}")


@contextmanager
def too_many_is_refused() -> Iterator[None]:
    """Within the block a connection is subscribed; where it may have no more topics, that is answered with FAIL 403."""
    try:
        yield
    except Misuse as error:
        raise RequestFailed(403, "too_many_topics", str(error)) from error


def add_ping(router: Router) -> None:
    """Answer `ping` with ``{"text": "pong", "version", "server_time"}``; the time is in milliseconds since 1970."""

    @router.action("ping")
    def ping(connection: Connection, data: Nothing) -> dict[str, Any]:
        return {"text": "pong", "version": VERSION, "server_time": time.time_ns() // 1_000_000}


def add_topics(
    router: Router,
    hub: Hub,
    *,
    may_subscribe: MaySubscribe = anybody,
    may_publish: MayPublish = nobody,
) -> None:
    """Add `subscribe`, `unsubscribe` and `publish`. By default everybody may hear every topic, and say nothing."""

    @router.action("subscribe", ordered=True)
    def subscribe(connection: Connection, data: Subscribe) -> Any:
        check_may_hear(connection.session, data.topic, may_subscribe)
        with too_many_is_refused():
            hub.roster.subscribe(connection, data.topic)
        return None if hub.carrier is None else hub.carrier.wait_listening(data.topic)

    @router.action("unsubscribe", ordered=True)
    def unsubscribe(connection: Connection, data: Subscribe) -> None:
        check_topic(data.topic)
        hub.roster.unsubscribe(connection, data.topic)

    @router.action("publish", ordered=True)
    def publish(connection: Connection, data: Publish) -> Any:
        check_topic(data.topic)
        event, to, delivery = Event(data.event, data.data), topic(data.topic), delivery_of(data.delivery)
        if not data.echo:
            to -= this_connection(connection.id)
        if not may_publish(connection.session, data.topic, event):
            raise RequestFailed(403, "no_right", f"you may not publish to {data.topic!r}")
        try:
            hub.publish_nowait(event, to=to, delivery=delivery)
        except trio.WouldBlock:
            return _publish(hub, event, to, delivery)
        except Misuse as error:
            raise RequestFailed(400, "bad_request", str(error)) from error
        return None if hub.carrier is None else Aside(hub.wait_carried())


async def _publish(hub: Hub, event: Event, to: Target, delivery: Delivery) -> None:
    """Publish when the inbox has room again."""
    await hub.publish(event, to=to, delivery=delivery)
    await hub.wait_carried()
