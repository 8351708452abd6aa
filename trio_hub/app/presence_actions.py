"""What clients may ask about people: who is here, who is typing; and what they say of themselves."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Coroutine
from typing import Any, Literal

import attrs

from trio_hub.app.presence import Presence, Status
from trio_hub.app.router import Router
from trio_hub.app.topics import MaySubscribe, Nothing, Subscribe, check_may_hear, too_many_is_refused
from trio_hub.app.typing import Typing
from trio_hub.errors import RequestFailed
from trio_hub.peer.connection import Connection

__all__ = ["add_presence", "add_typing"]

_MOST_USERS = 1000
_LONGEST_ID = 200


@attrs.frozen
class Active:
    """Whether somebody sits at this device."""

    active: bool


@attrs.frozen
class ByHand:
    """What a user wants to be, for so many seconds or until they say otherwise; null takes it back."""

    status: Literal["away", "dnd", "offline"] | None
    seconds: float | None = None


@attrs.frozen
class Users:
    """Of whom somebody asks."""

    user_ids: list[str]


@attrs.frozen
class ActiveStatus:
    """`Active`, as Mattermost's clients say it. `manual` says that somebody has set it by hand."""

    user_is_active: bool
    manual: bool = False


@attrs.frozen
class Open:
    """A topic that somebody looks at on this device, or looks at no more."""

    topic: str
    open: bool = True


@attrs.frozen
class TypingIn:
    """Where somebody types: in a channel, or in a thread of it."""

    channel_id: str
    parent_id: str = ""


def add_presence(router: Router, presence: Presence, *, may_subscribe: MaySubscribe) -> None:
    """Add `presence`, `watch`, `unwatch`, `set_active` and `set_status`, and what Mattermost's clients ask of the kind:
    `user_update_active_status`, `get_statuses` and `get_statuses_by_ids`. Who may hear a topic may know who is there.
    """

    @router.action("presence", critical=False)
    async def list_present(connection: Connection, data: Subscribe) -> dict[str, Any]:
        check_may_hear(connection.session, data.topic, may_subscribe)
        return {"topic": data.topic, "users": await presence.present_anywhere(data.topic)}

    @router.action("watch", ordered=True, critical=False)
    def watch(connection: Connection, data: Subscribe) -> dict[str, Any] | Coroutine[Any, Any, dict[str, Any]]:
        check_may_hear(connection.session, data.topic, may_subscribe)
        with too_many_is_refused():
            listed = presence.watch(connection, data.topic)
        return {"topic": data.topic, "users": listed} if isinstance(listed, dict) else _listed(data.topic, listed)

    @router.action("unwatch", ordered=True)
    def unwatch(connection: Connection, data: Subscribe) -> None:
        presence.unwatch(connection, data.topic)

    @router.action("set_active")
    def set_active(connection: Connection, data: Active) -> None:
        presence.set_active(connection, active=data.active)

    @router.action("set_status")
    def set_status(connection: Connection, data: ByHand) -> dict[str, Any]:
        status = None if data.status is None else Status(data.status)
        lasts = math.inf if data.seconds is None else data.seconds
        if not lasts > 0:
            raise RequestFailed(400, "bad_request", "Expected more than 0 - at `$.seconds`")
        presence.set_status(connection.user, status, lasts=lasts)
        return {"status": presence.status(connection.user)}

    @router.action("user_update_active_status")
    def update_active_status(connection: Connection, data: ActiveStatus) -> None:
        if data.manual:
            presence.set_status(connection.user, None if data.user_is_active else Status.AWAY)
        presence.set_active(connection, active=data.user_is_active)

    @router.action("get_statuses", critical=False)
    async def get_statuses(connection: Connection, data: Nothing) -> dict[str, Any]:
        return await presence.visible_anywhere(connection, None)

    @router.action("get_statuses_by_ids", critical=False)
    async def get_statuses_by_ids(connection: Connection, data: Users) -> dict[str, Any]:
        if len(data.user_ids) > _MOST_USERS:
            raise RequestFailed(400, "bad_request", f"Expected {_MOST_USERS} users at most - at `$.user_ids`")
        visible = await presence.visible_anywhere(connection, data.user_ids)
        return {user_id: visible.get(user_id, Status.OFFLINE) for user_id in data.user_ids}


async def _listed(name: str, listed: Awaitable[dict[str, Status]]) -> dict[str, Any]:
    return {"topic": name, "users": await listed}


def add_typing(router: Router, typing: Typing, *, may_subscribe: MaySubscribe) -> None:
    """Add `set_open`, for whoever may hear a topic, and `user_typing`, for whoever is subscribed to it."""

    @router.action("set_open", ordered=True)
    def set_open(connection: Connection, data: Open) -> None:
        if not data.open:
            typing.close(connection, data.topic)
            return
        check_may_hear(connection.session, data.topic, may_subscribe)
        with too_many_is_refused():
            typing.open(connection, data.topic)

    @router.action("user_typing", critical=False)
    def user_typing(connection: Connection, data: TypingIn) -> None:
        if len(data.parent_id) > _LONGEST_ID:
            raise RequestFailed(400, "bad_request", f"Expected {_LONGEST_ID} characters at most - at `$.parent_id`")
        if data.channel_id not in connection.topics:
            raise RequestFailed(403, "no_right", "you are not subscribed to that topic")
        details = {"channel_id": data.channel_id, "parent_id": data.parent_id}
        typing.tell(connection.user, data.channel_id, details)
