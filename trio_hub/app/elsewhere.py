"""Who is in topics at other nodes, and how nodes tell each other.

    node with watchers of a topic                            any other node
      watch [topics]           -------------------------->   notes that, and says who is there
      keeps a mirror of it     <--------------------------   there [topic, users, is whole]
                               <--------------------------   there [topic, what has changed], as it changes
      unwatch [topics]         -------------------------->   forgets it

So nothing is said of topics that nobody watches elsewhere, nor to nodes that have nobody who does; and a mirror, which
is no longer than the list that watchers have, is kept as long as somebody here watches. What watchers were told is in
the mirror, too: a user who is at two nodes is told of once. Users of a node that is gone are there for their grace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import attrs
import trio

from trio_hub.app.statuses import Seen, Status, most_present, seen_from
from trio_hub.hub.carrying import GONE, MET, Carrier

__all__ = ["Change", "Elsewhere"]

_WATCH: Final = "presence.watch"
_UNWATCH: Final = "presence.unwatch"
_THERE: Final = "presence.there"
_MOST: Final = 500  # users, or topics, in one word
_PATIENCE: Final = 1.0  # s, for which the first who watches a topic waits for other nodes
_SWEEP: Final = 5.0  # s between two looks for topics that nobody watches any more


@attrs.frozen
class Change:
    """What has become of one user in one topic: ``joined``, ``changed`` or ``left``."""

    what: str
    user: str
    status: Status


@attrs.define
class _Mirror:
    """Who is in a topic at other nodes, and what our watchers were told; `marked` are those to be looked at.

    `missing` are nodes that have not said yet who is there. Until the first watcher has a list nobody is told anything.
    """

    nodes: dict[str, dict[str, Seen]] = attrs.field(factory=dict)
    coming: dict[str, dict[str, Seen]] = attrs.field(factory=dict)  # lists of which there is more to come
    told: dict[str, Status] = attrs.field(factory=dict)
    marked: dict[str, None] = attrs.field(factory=dict)
    missing: set[str] = attrs.field(factory=set)
    complete: trio.Event = attrs.field(factory=trio.Event)
    begun_at: float = attrs.field(factory=trio.current_time)
    is_told: bool = False

    def is_ready(self) -> bool:
        """Whether there is a list, or one should wait no longer."""
        return self.complete.is_set() or trio.current_time() - self.begun_at >= _PATIENCE

    def has_said(self, node: str) -> None:
        """Note that a node has said who is there, or never will."""
        self.missing.discard(node)
        if not self.missing:
            self.complete.set()


class Elsewhere:
    """Tells other nodes of our users, and knows of theirs.

    `in_topic` yields the users whom we have in a topic, `here` is what we see of one in a topic, `is_watched` says
    whether anybody here watches it. `changed` is called when there is something to tell.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        grace: float,
        in_topic: Callable[[str], Iterable[tuple[str, Seen]]],
        here: Callable[[str, str], Seen | None],
        is_watched: Callable[[str], bool],
        changed: Callable[[], None],
    ) -> None:
        self._carrier = carrier
        self._grace = grace
        self._in_topic = in_topic
        self._here = here
        self._is_watched = is_watched
        self._changed = changed
        self._mirrors: dict[str, _Mirror] = {}
        self._watched_by: dict[str, dict[str, None]] = {}  # topics, and the nodes that have watchers
        self._gone: dict[str, float] = {}  # nodes, and when the grace of their users is over
        self._outgoing: defaultdict[str, dict[str, Seen | None]] = defaultdict(dict)
        self._swept_at = 0.0
        carrier.hear(MET, self._meet)
        carrier.hear(GONE, self._lose)
        carrier.hear(_WATCH, self._note_watched)
        carrier.hear(_UNWATCH, self._note_unwatched)
        carrier.hear(_THERE, self._note_there)

    @property
    def has_work(self) -> bool:
        """Whether time alone may change something."""
        return bool(self._mirrors)

    # -- our watchers

    def begin(self, topic: str) -> None:
        """Have the others say who is in a topic, from now on, as long as somebody here watches it."""
        if topic not in self._mirrors:
            self._mirrors[topic] = mirror = _Mirror(missing=set(self._carrier.others))
            mirror.has_said("")
            self._carrier.say(_WATCH, [topic])
            self._changed()

    async def wait_list(self, topic: str) -> dict[str, Status]:
        """Return what the watchers of a topic, which somebody here watches, were told so far; the first of them waits
        until the others have said who is there, for a bounded time.
        """
        self.begin(topic)
        mirror = self._mirrors[topic]
        with trio.move_on_after(_PATIENCE):
            await mirror.complete.wait()
        return self._list(topic, mirror)

    def list_if_ready(self, topic: str) -> dict[str, Status] | None:
        """Return the same, or None where that would wait."""
        mirror = self._mirrors.get(topic)
        return self._list(topic, mirror) if mirror is not None and mirror.is_ready() else None

    def _list(self, topic: str, mirror: _Mirror) -> dict[str, Status]:
        if not mirror.is_told:
            mirror.is_told = True
            mirror.marked.clear()
            users = dict.fromkeys([user for user, _ in self._in_topic(topic)])
            for known in mirror.nodes.values():
                users |= dict.fromkeys(known)
            for user in users:
                if (status := self._merged(topic, mirror, user)) is not None:
                    mirror.told[user] = status
        return dict(mirror.told)

    def _merged(self, topic: str, mirror: _Mirror, user: str) -> Status | None:
        """Return what a user is in a topic, as all nodes see it; None where they are not there."""
        seen = [
            attrs.evolve(each, attached=each.attached and node not in self._gone)
            for node, known in mirror.nodes.items()
            if (each := known.get(user)) is not None
        ]
        ours = self._here(topic, user)
        best = most_present(seen if ours is None else [ours, *seen])
        return None if best is None else best.status

    def changes(self, topic_is_told: Callable[[str], bool]) -> Iterator[tuple[str, list[Change]]]:
        """Yield what watchers are to be told by now, in each topic, and hold it for told."""
        for topic, mirror in list(self._mirrors.items()):
            if mirror.marked and mirror.is_told and topic_is_told(topic):
                marked, mirror.marked = mirror.marked, {}
                if news := [each for user in marked if (each := self._news(topic, mirror, user)) is not None]:
                    yield topic, news

    def _news(self, topic: str, mirror: _Mirror, user: str) -> Change | None:
        before, now = mirror.told.get(user), self._merged(topic, mirror, user)
        if now is before:
            return None
        if now is None:
            del mirror.told[user]
            return Change("left", user, Status.OFFLINE)
        mirror.told[user] = now
        return Change("joined" if before is None else "changed", user, now)

    # -- our users

    def note(self, topic: str, user: str, seen: Seen | None) -> None:
        """Note what has become of one of our users in a topic, to be told by `flush`."""
        if topic in self._watched_by:
            self._outgoing[topic][user] = seen
        if (mirror := self._mirrors.get(topic)) is not None:
            mirror.marked[user] = None

    def flush(self) -> None:
        """Tell the other nodes what was noted, and see whom the time has changed."""
        outgoing, self._outgoing = self._outgoing, defaultdict(dict)
        for topic, users in outgoing.items():
            for node in self._watched_by.get(topic, ()):
                self._say_there(node, topic, users.items(), is_whole=False)
        now = trio.current_time()
        for node in [node for node, over_at in self._gone.items() if over_at <= now]:
            del self._gone[node]
            for mirror in self._mirrors.values():
                mirror.marked |= dict.fromkeys(mirror.nodes.pop(node, ()))
        if now - self._swept_at >= _SWEEP:
            self._swept_at = now
            self._sweep()

    def _sweep(self) -> None:
        unwatched = [topic for topic in self._mirrors if not self._is_watched(topic)]
        for topic in unwatched:
            del self._mirrors[topic]
        for topics in _cut(unwatched):
            self._carrier.say(_UNWATCH, topics)

    def _say_there(self, node: str, topic: str, users: Iterable[tuple[str, Seen | None]], *, is_whole: bool) -> None:
        """Say who is in a topic, in as many words as it takes: the last one says that it is."""
        parts = list(_cut([(user, None if seen is None else seen.data) for user, seen in users])) or [[]]
        for number, part in enumerate(parts, 1):
            self._carrier.say(_THERE, [topic, dict(part), is_whole, number == len(parts)], node)

    # -- what other nodes say

    def _meet(self, node: str, _: bool) -> None:
        """Have all said again between us."""
        if self._gone.pop(node, None) is not None:
            self._mark_users_of(node)
        for topics in _cut(list(self._mirrors)):
            self._carrier.say(_WATCH, topics, node)
        for topic, nodes in self._watched_by.items():
            if node in nodes:
                self._say_there(node, topic, self._in_topic(topic), is_whole=True)

    def _lose(self, node: str, _: Any) -> None:
        self._gone[node] = trio.current_time() + self._grace
        self._mark_users_of(node)
        for mirror in self._mirrors.values():
            mirror.has_said(node)
            mirror.coming.pop(node, None)
        self._note_unwatched(node, list(self._watched_by))

    def _mark_users_of(self, node: str) -> None:
        for mirror in self._mirrors.values():
            mirror.marked |= dict.fromkeys(mirror.nodes.get(node, ()))
        self._changed()

    def _note_watched(self, node: str, topics: list[str]) -> None:
        for topic in topics:
            self._watched_by.setdefault(topic, {})[node] = None
            self._say_there(node, topic, self._in_topic(topic), is_whole=True)

    def _note_unwatched(self, node: str, topics: list[str]) -> None:
        for topic in topics:
            nodes = self._watched_by.get(topic, {})
            nodes.pop(node, None)
            if not nodes:
                self._watched_by.pop(topic, None)

    def _note_there(self, node: str, said: Any) -> None:
        topic, users, is_whole, is_last = said
        mirror = self._mirrors.get(topic)
        if mirror is None:
            self._carrier.say(_UNWATCH, [topic], node)
            return
        seen = {user: None if each is None else seen_from(each) for user, each in users.items()}
        if is_whole:
            coming = mirror.coming.setdefault(node, {})
            coming |= {user: each for user, each in seen.items() if each is not None}
            if is_last:
                before, mirror.nodes[node] = mirror.nodes.get(node, {}), mirror.coming.pop(node)
                mirror.marked |= dict.fromkeys([*before, *mirror.nodes[node]])
                mirror.has_said(node)
        else:
            known = mirror.nodes.setdefault(node, {})
            for user, each in seen.items():
                if each is None:
                    known.pop(user, None)
                else:
                    known[user] = each
            mirror.marked |= dict.fromkeys(seen)
        self._changed()


def _cut(items: list[Any]) -> Iterator[list[Any]]:
    """Yield items in parts that one word has room for."""
    iterator = iter(items)
    while part := list(islice(iterator, _MOST)):
        yield part
