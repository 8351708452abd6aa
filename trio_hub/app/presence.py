"""Who is here: each user's status, made from all their connections, and told to whoever watches a topic.

    offline <--grace has passed-- (no link left) <--> online <--every device is idle, or any is not--> away

A user is what the most present of their devices is; what they set by hand (`Status.AWAY`, `Status.DND`,
`Status.OFFLINE`, for a time or until they say otherwise) goes before that for as long as they are here at all. Whoever
loses the link is still here for the grace period, so that a tunnel is no news.

How it is told. Whatever happens to a connection marks its user (a plain call, at once). A few times a second one task
looks at those who are marked, compares what they are with what was told of them, and tells each topic's watchers
all that has changed there in one event. So it costs as much as there are changes, however many watch.

Where there are other nodes, each knows its own users. Nodes that have connections of the same user share what their
devices are (`Carrier.share`), and so agree; what users of other nodes are who hear a watched topic is `Elsewhere`.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Collection, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any
from weakref import WeakSet

import attrs
import trio
from attrs import validators

from trio_hub.app.by_hand import ByHand
from trio_hub.app.by_hand_everywhere import ByHandEverywhere
from trio_hub.app.elsewhere import Change, Elsewhere
from trio_hub.app.statuses import Seen, Status, most_present, seen_from
from trio_hub.errors import Misuse
from trio_hub.hub.carrying import Carry
from trio_hub.hub.hub import Hub
from trio_hub.messages import Event
from trio_hub.peer.connection import Connection
from trio_hub.targets import Target, any_of, beside, plain, topic
from trio_hub.targets import connection as to_connection

__all__ = ["Presence", "PresenceOptions", "Status"]

log = logging.getLogger("trio_hub.presence")

_WATCHED = "watched"
_HERE = "presence"
_NEAR = "presence.near"
_TURN = 256  # users looked at before other tasks get a turn
_MOST = 500  # users told of in one event


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
class _Told:
    """What was told of a user, and where; and what their devices alone would have made of them."""

    status: Status
    topics: frozenset[str]
    by_devices: Status = Status.ONLINE
    attached: bool = True

    @property
    def seen(self) -> Seen:
        """The same, as other nodes are told."""
        return Seen(self.status, self.attached)


class Presence:
    """Knows who is here, and tells those who watch. `notice` is to be called with every connection that changes."""

    def __init__(self, hub: Hub, options: PresenceOptions | None = None) -> None:
        self._hub = hub
        self._options = options or PresenceOptions()
        self._marked: dict[str, None] = {}
        self._looked_at: dict[str, None] = {}  # those of them whose turn it is
        self._leaving: dict[str, float] = {}  # when the grace of users without a link has passed; in that order
        self._by_hand = ByHand(self._options.remembered, lambda user_id: self._devices(user_id)[0])
        self._told: dict[str, _Told] = {}
        self._wanted = trio.Event()
        self.is_paused = False
        self._looked_at_once: WeakSet[Connection] = WeakSet()  # whether they have come with watched topics
        self._unlisted: defaultdict[str, list[str]] = defaultdict(list)  # topics, and connections that have come so
        self._elsewhere: Elsewhere | None = None
        self._by_hand_everywhere: ByHandEverywhere | None = None
        self._carrier = carrier = hub.carrier
        if carrier is not None:
            self._elsewhere = Elsewhere(
                carrier,
                grace=self._options.grace,
                in_topic=self._seen_in,
                here=self._seen_here,
                is_watched=self._is_watched,
                changed=lambda: self._wanted.set(),
            )
            carrier.hear_shared(_HERE, self._mark)
            carrier.answer(_NEAR, self._answer_near)
            self._by_hand_everywhere = ByHandEverywhere(carrier, self._by_hand, self._mark)

    # -- what users are

    def status(self, user_id: str) -> Status:
        """Return what a user is at this moment who has a device at this node; what those are who are at others alone
        is known by `statuses`.
        """
        seen = self._with_others(user_id, self._seen(user_id))
        return Status.OFFLINE if seen is None else self._by_hand.get(user_id) or seen.status

    def _with_others(self, user_id: str, ours: Seen | None) -> Seen | None:
        """Return what the devices of a user make of them, those at other nodes included; None where there is none."""
        shared = [] if self._carrier is None else self._carrier.shared(_HERE, user_id)
        if not shared:
            return ours
        return most_present([*([] if ours is None else [ours]), *[seen_from(each) for each in shared]])

    def _seen(self, user_id: str) -> Seen | None:
        """Return the same of this node alone."""
        is_here, is_idle = self._devices(user_id)
        if is_here:
            return Seen(Status.AWAY if is_idle else Status.ONLINE)
        return Seen(self._told[user_id].by_devices, attached=False) if self._is_in_grace(user_id) else None

    def present(self, name: str) -> dict[str, Status]:
        """Return the users who are at this node and subscribed to a topic, with what they are."""
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
        return bool(attached), bool(attached) and all(each.is_idle for each in attached)

    def _is_in_grace(self, user_id: str) -> bool:
        return user_id in self._told and trio.current_time() < self._leaving.get(user_id, math.inf)

    def everybody(self) -> dict[str, Status]:
        """Return all who are at this node, with what was told of them last."""
        return {user_id: told.status for user_id, told in self._told.items()}

    def visible_to(self, connection: Connection, user_id: str) -> Status:
        """Return what a user is, as far as this connection may know: it is in a topic with them, or it is theirs."""
        told = self._told.get(user_id)
        is_near = told is not None and not told.topics.isdisjoint(connection.topics)
        return self.status(user_id) if is_near or user_id == connection.user else Status.OFFLINE

    # -- what they are anywhere

    async def present_anywhere(self, name: str) -> dict[str, Status]:
        """Return the users who are subscribed to a topic at any node. Waits for the others for a bounded time, and
        leaves those out that do not answer.
        """
        seen = await self._ask([name], None)
        return _merged({user_id: Seen(status) for user_id, status in self.present(name).items()}, seen)

    async def statuses(self, user_ids: Collection[str]) -> dict[str, Status]:
        """Return what users are at this moment, at whatever node; likewise."""
        ours = {user_id: Seen(status) for user_id in user_ids if (status := self.status(user_id)) is not Status.OFFLINE}
        found = _merged(ours, await self._ask(None, list(user_ids)))
        return {user_id: found.get(user_id, Status.OFFLINE) for user_id in user_ids}

    async def visible_anywhere(self, connection: Connection, user_ids: Collection[str] | None) -> dict[str, Status]:
        """Return what those of these users are, or of all, who are in a topic with a connection; likewise."""
        asked = list(self.everybody()) if user_ids is None else user_ids
        ours = {
            each: Seen(status) for each in asked if (status := self.visible_to(connection, each)) is not Status.OFFLINE
        }
        return _merged(ours, await self._ask(list(connection.topics), None if user_ids is None else list(user_ids)))

    async def _ask(self, topics: list[str] | None, user_ids: list[str] | None) -> list[dict[str, Any]]:
        if self._carrier is None or not self._carrier.others:
            return []
        return [each or {} for each in (await self._carrier.ask(_NEAR, [topics, user_ids])).values()]

    def _answer_near(self, asked: Any) -> dict[str, Any]:
        """Return those of our users who are in any of these topics, or anywhere; all, or some."""
        topics, user_ids = asked
        if user_ids is None and len(topics) == 1:
            return {user_id: seen.data for user_id, seen in self._seen_in(topics[0])}
        near = None if topics is None else frozenset(topics)
        return {
            user_id: told.seen.data
            for user_id in (self._told if user_ids is None else user_ids)
            if (told := self._told.get(user_id)) is not None and (near is None or not told.topics.isdisjoint(near))
        }

    def _seen_in(self, name: str) -> Iterator[tuple[str, Seen]]:
        """Yield our users in a topic, as was told of them."""
        return ((user_id, told.seen) for user_id, told in self._told_in(name) if name in told.topics)

    def _seen_here(self, name: str, user_id: str) -> Seen | None:
        told = self._told.get(user_id)
        return told.seen if told is not None and name in told.topics else None

    # -- what happens

    def notice(self, connection: Connection) -> None:
        """Mark the user of a connection that came, went, subscribed, or lost its link. Never waits."""
        self._begin_or_end_grace(connection.user)
        self._mark(connection.user)
        if self._elsewhere is not None and connection not in self._looked_at_once:
            self._looked_at_once.add(connection)
            self._list_anew(self._elsewhere, connection)

    def _list_anew(self, elsewhere: Elsewhere, connection: Connection) -> None:
        """Have a connection that has come from another node, with topics that it watches, be given lists: what it was
        told there last is not known.
        """
        for each in connection.topics_beside:
            name = plain(each)
            if each == beside(_WATCHED, name):
                elsewhere.begin(name)
                self._unlisted[name].append(connection.id)

    def _begin_or_end_grace(self, user_id: str) -> None:
        """Have the grace of a user begin with the loss of the last link; it ends with a new one."""
        is_here, _ = self._devices(user_id)
        if is_here:
            self._leaving.pop(user_id, None)
        elif user_id in self._told and user_id not in self._leaving:
            self._leaving[user_id] = trio.current_time() + self._options.grace

    def set_active(self, connection: Connection, *, active: bool) -> None:
        """Note whether somebody sits at this device. Whoever connects is active at first."""
        connection.is_idle = not active
        self._mark(connection.user)

    def set_status(self, user_id: str, status: Status | None, *, lasts: float = math.inf) -> None:
        """Have a user be this for so many seconds, whatever their devices say; None takes it back.

        `OFFLINE` hides them; `ONLINE` is what devices say, and cannot be set. Raises `Misuse` for it.
        """
        if status is Status.ONLINE:
            raise Misuse("online is what somebody is who sets nothing")
        setting = self._by_hand.set(user_id, status, lasts)
        if self._by_hand_everywhere is not None:
            self._by_hand_everywhere.tell(user_id, setting)
        self._mark(user_id)

    def _mark(self, user_id: str) -> None:
        self._marked[user_id] = None
        self._wanted.set()

    # -- telling

    def watch(self, connection: Connection, name: str) -> dict[str, Status] | Awaitable[dict[str, Status]]:
        """Have a connection told of every change in a topic from now on; return who was there when all was told last,
        so that whatever has changed since is still to come. Where other nodes are to be asked first, that is to be
        waited for; for a bounded time.

        It may be told of a change that is in there already. Raises `Misuse` beyond the topics that it may have.
        """
        self._hub.roster.subscribe(connection, beside(_WATCHED, name))
        if self._elsewhere is None:
            return {user_id: seen.status for user_id, seen in self._seen_in(name)}
        self._elsewhere.begin(name)
        listed = self._elsewhere.list_if_ready(name)
        return self._elsewhere.wait_list(name) if listed is None else listed

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
            if not (self._marked or self._leaving or self._by_hand.next_end < math.inf or self._has_far_work):
                self._wanted = trio.Event()
                await self._wanted.wait()
            await trio.sleep(self._options.every)
            if not self.is_paused:
                await self._tell_all()

    @property
    def _has_far_work(self) -> bool:
        return self._elsewhere is not None and self._elsewhere.has_work

    async def _tell_all(self) -> None:
        self._mark_by_time(trio.current_time())
        marked, self._marked = self._marked, {}
        self._looked_at = marked
        news: defaultdict[str, list[Change]] = defaultdict(list)
        for count, user_id in enumerate(marked, 1):
            try:
                self._find_news(user_id, news)
            except Exception:
                log.exception("nobody can say what became of a user")
            if count % _TURN == 0:
                await trio.lowlevel.checkpoint()
        if self._elsewhere is not None:
            try:
                await self._list_all(self._elsewhere)
                self._elsewhere.flush()
                news = defaultdict(list, self._elsewhere.changes(self._is_watched))
            except Exception:
                log.exception("some of what other nodes have told could not be told here")
        for name, each in news.items():
            try:
                if self._is_watched(name):
                    await self._tell(name, each)
            except Exception:
                log.exception("some of what has changed could not be told")

    def _is_watched(self, name: str) -> bool:
        return bool(self._hub.connections(_watchers(name)))

    async def _list_all(self, elsewhere: Elsewhere) -> None:
        """Give lists to those who have come from other nodes."""
        for name, ids in list(self._unlisted.items()):
            if not self._is_watched(name):  # they have gone again
                del self._unlisted[name]
            elif (users := elsewhere.list_if_ready(name)) is not None:
                del self._unlisted[name]
                event = Event("presence", {"topic": name, "users": users}, {"topic": name})
                await self._hub.publish(event, to=any_of(*map(to_connection, ids)), carry=Carry.HERE)

    def _mark_by_time(self, now: float) -> None:
        """Mark those whom nothing but the time has changed."""
        for user_id, passed_at in self._leaving.items():
            if passed_at > now:
                break
            self._marked[user_id] = None
        self._marked |= dict.fromkeys(self._by_hand.over(now))

    def _find_news(self, user_id: str, news: Mapping[str, list[Change]]) -> None:
        """Note what has become of a user, in each topic that this concerns."""
        before = self._told.get(user_id, _Told(Status.OFFLINE, frozenset()))
        ours = self._seen(user_id)
        now = self._what_to_tell(user_id, before, ours)
        if now.status is Status.OFFLINE:
            self._told.pop(user_id, None)
            self._leaving.pop(user_id, None)
        else:
            self._told[user_id] = now
        if self._carrier is not None and self._elsewhere is not None:
            self._carrier.share(_HERE, user_id, None if ours is None else ours.data)
            for name in before.topics | now.topics if before.seen != now.seen else before.topics ^ now.topics:
                self._elsewhere.note(name, user_id, self._seen_here(name, user_id))
            return
        for name in before.topics - now.topics:
            news[name].append(Change("left", user_id, now.status))
        for name in now.topics - before.topics:
            news[name].append(Change("joined", user_id, now.status))
        if now.status is not before.status:
            for name in now.topics & before.topics:
                news[name].append(Change("changed", user_id, now.status))

    def _what_to_tell(self, user_id: str, before: _Told, ours: Seen | None) -> _Told:
        """Return what is to be told of a user by now."""
        seen = self._with_others(user_id, ours)
        status = Status.OFFLINE if seen is None else self._by_hand.get(user_id) or seen.status
        if seen is None or status is Status.OFFLINE:
            return _Told(Status.OFFLINE, frozenset())
        by_devices = before.by_devices if ours is None else ours.status
        return _Told(status, self._topics_of(user_id), by_devices, seen.attached)

    async def _tell(self, name: str, news: list[Change]) -> None:
        """Tell the watchers of a topic, in as many events as it takes."""
        for start in range(0, len(news), _MOST):
            data: dict[str, Any] = {"topic": name}
            for each in news[start : start + _MOST]:
                if each.what == "left":
                    data.setdefault("left", []).append(each.user)
                else:
                    data.setdefault(each.what, {})[each.user] = each.status
            await self._hub.publish(Event("presence", data, {"topic": name}), to=_watchers(name), carry=Carry.HERE)


def _watchers(name: str) -> Target:
    """Those who are told who is in a topic."""
    return topic(beside(_WATCHED, name))


def _merged(ours: Mapping[str, Seen], answers: list[dict[str, Any]]) -> dict[str, Status]:
    """Return what users are, by what we see of them and what other nodes answer."""
    seen: defaultdict[str, list[Seen]] = defaultdict(list, {user_id: [each] for user_id, each in ours.items()})
    for answer in answers:
        for user_id, data in answer.items():
            with suppress(ValueError):  # of a newer version, perhaps
                seen[user_id].append(seen_from(data))
    return {user_id: best.status for user_id, each in seen.items() if (best := most_present(each)) is not None}
