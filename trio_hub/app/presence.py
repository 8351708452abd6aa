"""Who is here: each user's status, made from all their connections, and told to whoever watches a topic.

    offline <--grace has passed-- (no link left) <--> online <--every device is idle, or any is not--> away

A user is what the most present of their devices is; what they set by hand (`Status.AWAY`, `Status.DND`,
`Status.OFFLINE`, for a time or until they say otherwise) goes before that for as long as they are here at all. Whoever
loses the link is still here for the grace period, so that a tunnel is no news.

How it is told. Whatever happens to a connection marks its user (a plain call, at once). A few times a second one task
looks at those who are marked, compares what they are with what was told of them, and tells each topic's watchers
all that has changed there in one event. So it costs as much as there are changes, however many watch.
"""

from __future__ import annotations

import enum
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any
from weakref import WeakSet

import attrs
import trio
from attrs import validators

from trio_hub.errors import Misuse
from trio_hub.hub.carrying import Carry
from trio_hub.hub.hub import Hub
from trio_hub.messages import Event
from trio_hub.peer.connection import Connection
from trio_hub.targets import beside, topic

__all__ = ["Presence", "PresenceOptions", "Status"]

log = logging.getLogger("trio_hub.presence")

_WATCHED = "watched"
_LOOKS = 64  # at users who might be forgotten, for each who sets something
_TURN = 256  # users looked at before other tasks get a turn
_MOST = 500  # users told of in one event


class Status(enum.StrEnum):
    """What a user is."""

    ONLINE = "online"
    AWAY = "away"
    DND = "dnd"
    OFFLINE = "offline"


@attrs.frozen(kw_only=True)
class PresenceOptions:
    """How presence is made and told."""

    grace: float = attrs.field(default=10.0, validator=validators.ge(0))
    """Seconds for which a user without any link is still here. Most lost links are back within three."""
    remembered: int = attrs.field(default=100_000, validator=validators.gt(0))
    """Users of whom we remember what they have set by hand while they are not here."""
    every: float = attrs.field(default=0.5, validator=validators.gt(0))
    """Seconds between two looks at what has changed, all of which is told at once."""


@attrs.frozen
class _ByHand:
    """What a user has set, and until when."""

    status: Status
    until: float


@attrs.frozen
class _Told:
    """What was told of a user, and where; and what their devices alone would have made of them."""

    status: Status
    topics: frozenset[str]
    by_devices: Status = Status.ONLINE


@attrs.frozen
class _News:
    """What has become of one user in one topic: ``joined``, ``changed`` or ``left``."""

    what: str
    user: str
    status: Status


class Presence:
    """Knows who is here, and tells those who watch. `notice` is to be called with every connection that changes."""

    def __init__(self, hub: Hub, options: PresenceOptions | None = None) -> None:
        self._hub = hub
        self._options = options or PresenceOptions()
        self._marked: dict[str, None] = {}
        self._looked_at: dict[str, None] = {}  # those of them whose turn it is
        self._leaving: dict[str, float] = {}  # when the grace of users without a link has passed; in that order
        self._by_hand: dict[str, _ByHand] = {}
        self._next_end = math.inf  # of what was set by hand
        self._idle: WeakSet[Connection] = WeakSet()
        self._told: dict[str, _Told] = {}
        self._wanted = trio.Event()
        self.is_paused = False

    # -- what users are

    def status(self, user_id: str) -> Status:
        """Return what a user is at this moment."""
        is_here, is_idle = self._devices(user_id)
        if not is_here and not self._is_in_grace(user_id):
            return Status.OFFLINE
        by_hand = self._by_hand.get(user_id)
        if by_hand is not None and trio.current_time() < by_hand.until:
            return by_hand.status
        if not is_here:
            return self._told[user_id].by_devices
        return Status.AWAY if is_idle else Status.ONLINE

    def present(self, name: str) -> dict[str, Status]:
        """Return the users who are here and subscribed to a topic, with what they are."""
        users = dict.fromkeys([each.user for each in self._hub.connections(topic(name))])
        users |= dict.fromkeys(user_id for user_id in self._leaving if name in self._topics_of(user_id))
        statuses = {user_id: self.status(user_id) for user_id in users}
        return {user_id: status for user_id, status in statuses.items() if status is not Status.OFFLINE}

    def _stays(self, user_id: str) -> list[Connection]:
        """Return a user's connections, away or not."""
        return [each for each in self._hub.roster.of_user(user_id) if not each.has_ended]

    def _topics_of(self, user_id: str) -> frozenset[str]:
        """Return the topics that a user is in: those of their connections, or what was told where there is none."""
        if stays := self._stays(user_id):
            return frozenset().union(*[each.topics for each in stays])
        told = self._told.get(user_id)
        return frozenset() if told is None else told.topics

    def _devices(self, user_id: str) -> tuple[bool, bool]:
        """Return whether any of a user's connections has a link, and whether all that have one are idle."""
        attached = [each for each in self._stays(user_id) if each.attached]
        return bool(attached), bool(attached) and all(each in self._idle for each in attached)

    def _is_in_grace(self, user_id: str) -> bool:
        return user_id in self._told and trio.current_time() < self._leaving.get(user_id, math.inf)

    def everybody(self) -> dict[str, Status]:
        """Return all who are here, with what was told of them last."""
        return {user_id: told.status for user_id, told in self._told.items()}

    def visible_to(self, connection: Connection, user_id: str) -> Status:
        """Return what a user is, as far as this connection may know: it is in a topic with them, or it is theirs."""
        told = self._told.get(user_id)
        is_near = told is not None and not told.topics.isdisjoint(connection.topics)
        return self.status(user_id) if is_near or user_id == connection.user else Status.OFFLINE

    # -- what happens

    def notice(self, connection: Connection) -> None:
        """Mark the user of a connection that came, went, subscribed, or lost its link. Never waits."""
        self._begin_or_end_grace(connection.user)
        self._mark(connection.user)

    def _begin_or_end_grace(self, user_id: str) -> None:
        """Have the grace of a user begin with the loss of the last link; it ends with a new one."""
        is_here, _ = self._devices(user_id)
        if is_here:
            self._leaving.pop(user_id, None)
        elif user_id in self._told and user_id not in self._leaving:
            self._leaving[user_id] = trio.current_time() + self._options.grace

    def set_active(self, connection: Connection, *, active: bool) -> None:
        """Note whether somebody sits at this device. Whoever connects is active at first."""
        if active:
            self._idle.discard(connection)
        else:
            self._idle.add(connection)
        self._mark(connection.user)

    def set_status(self, user_id: str, status: Status | None, *, lasts: float = math.inf) -> None:
        """Have a user be this for so many seconds, whatever their devices say; None takes it back.

        `OFFLINE` hides them; `ONLINE` is what devices say, and cannot be set. Raises `Misuse` for it.
        """
        if status is Status.ONLINE:
            raise Misuse("online is what somebody is who sets nothing")
        if status is None:
            self._by_hand.pop(user_id, None)
        else:
            until = trio.current_time() + lasts
            self._by_hand.pop(user_id, None)
            self._by_hand[user_id] = _ByHand(status, until)
            self._forget_one_too_many()
            self._next_end = min(self._next_end, until)
        self._mark(user_id)

    def _forget_one_too_many(self) -> None:
        """Forget what the oldest of those has set who are not here. Those who are, are as many as connections allow."""
        if len(self._by_hand) <= self._options.remembered:
            return
        for user_id in list(islice(self._by_hand, _LOOKS)):
            if not self._devices(user_id)[0]:
                del self._by_hand[user_id]
                return
            self._by_hand[user_id] = self._by_hand.pop(user_id)  # to the end

    def _mark(self, user_id: str) -> None:
        self._marked[user_id] = None
        self._wanted.set()

    # -- telling

    def watch(self, connection: Connection, name: str) -> dict[str, Status]:
        """Have a connection told of every change in a topic from now on; return who was there when all was told last,
        so that whatever has changed since is still to come.

        It may be told of a change that is in there already. Raises `Misuse` beyond the topics that it may have.
        """
        self._hub.roster.subscribe(connection, beside(_WATCHED, name))
        return {user_id: told.status for user_id, told in self._told_in(name) if name in told.topics}

    def _told_in(self, name: str) -> Iterator[tuple[str, _Told]]:
        """Yield what was told of all who may have been told to be in a topic: those who hear it, and those who do not,
        but are yet to be looked at, or are here for their grace alone.
        """
        subscribed = [each.user for each in self._hub.roster.select(topic(name))]
        for user_id in dict.fromkeys(chain(subscribed, self._marked, self._looked_at, self._leaving)):
            if (told := self._told.get(user_id)) is not None:
                yield user_id, told

    def unwatch(self, connection: Connection, name: str) -> None:
        """Tell a connection no more."""
        self._hub.roster.unsubscribe(connection, beside(_WATCHED, name))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell, until cancelled. While paused, changes add up."""
        task_status.started()
        while True:
            if not (self._marked or self._leaving or self._next_end < math.inf):
                self._wanted = trio.Event()
                await self._wanted.wait()
            await trio.sleep(self._options.every)
            if not self.is_paused:
                await self._tell_all()

    async def _tell_all(self) -> None:
        self._mark_by_time(trio.current_time())
        marked, self._marked = self._marked, {}
        self._looked_at = marked
        news: defaultdict[str, list[_News]] = defaultdict(list)
        for count, user_id in enumerate(marked, 1):
            try:
                self._find_news(user_id, news)
            except Exception:
                log.exception("nobody can say what became of a user")
            if count % _TURN == 0:
                await trio.lowlevel.checkpoint()
        for name, each in news.items():
            try:
                if self._hub.connections(topic(beside(_WATCHED, name))):
                    await self._tell(name, each)
            except Exception:
                log.exception("some of what has changed could not be told")

    def _mark_by_time(self, now: float) -> None:
        """Mark those whom nothing but the time has changed."""
        for user_id, passed_at in self._leaving.items():
            if passed_at > now:
                break
            self._marked[user_id] = None
        if self._next_end <= now:
            over = [user_id for user_id, by_hand in self._by_hand.items() if by_hand.until <= now]
            for user_id in over:
                del self._by_hand[user_id]
                self._marked[user_id] = None
            self._next_end = min([by_hand.until for by_hand in self._by_hand.values()], default=math.inf)

    def _find_news(self, user_id: str, news: Mapping[str, list[_News]]) -> None:
        """Note what has become of a user, in each topic that this concerns."""
        before = self._told.get(user_id, _Told(Status.OFFLINE, frozenset()))
        now = self._what_to_tell(user_id, before)
        for name in before.topics - now.topics:
            news[name].append(_News("left", user_id, now.status))
        for name in now.topics - before.topics:
            news[name].append(_News("joined", user_id, now.status))
        if now.status is not before.status:
            for name in now.topics & before.topics:
                news[name].append(_News("changed", user_id, now.status))
        if now.status is Status.OFFLINE:
            self._told.pop(user_id, None)
            self._leaving.pop(user_id, None)
        else:
            self._told[user_id] = now

    def _what_to_tell(self, user_id: str, before: _Told) -> _Told:
        """Return what is to be told of a user by now."""
        is_here, is_idle = self._devices(user_id)
        status = self.status(user_id)
        if status is Status.OFFLINE:
            return _Told(status, frozenset())
        by_devices = (Status.AWAY if is_idle else Status.ONLINE) if is_here else before.by_devices
        return _Told(status, self._topics_of(user_id), by_devices)

    async def _tell(self, name: str, news: list[_News]) -> None:
        """Tell the watchers of a topic, in as many events as it takes."""
        for start in range(0, len(news), _MOST):
            data: dict[str, Any] = {"topic": name}
            for each in news[start : start + _MOST]:
                if each.what == "left":
                    data.setdefault("left", []).append(each.user)
                else:
                    data.setdefault(each.what, {})[each.user] = each.status
            await self._hub.publish(
                Event("presence", data, {"topic": name}), to=topic(beside(_WATCHED, name)), carry=Carry.HERE
            )
