"""What nodes know of each other's part of a user, as far as they have connections of the same user.

Each node states facts about the users it has. It says those of a user on that user's channel, to which the others
listen that have connections of the same user: whenever they change, the first time at once, then a few times a second.
Whoever has the first connection of a user asks, and is answered directly. All is said again to a node that is met,
where something may have been lost, and every now and then. So each node knows the facts of those users alone that it
has, and those of a node that is gone go with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from trio_hub.cluster.channels import channel_of
from trio_hub.cluster.envelopes import Unreadable
from trio_hub.hub.roster import Roster
from trio_hub.peer.connection import Connection

__all__ = ["USER", "Users"]

USER: Final = "user"
_OFTEN: Final = 0.25  # s between two words about one user
_AGAIN: Final = 30.0  # s, after which facts are said again
_LOOK: Final = 1.0  # s
_FEW: Final = 500  # users of whom all is said again at once

Facts = dict[str, Any]


class Users:
    """The facts about users: ours, and those of other nodes. `say` says something on a channel, `say_to` to a node."""

    def __init__(
        self, roster: Roster, say: Callable[[str, list[Any]], None], say_to: Callable[[str, list[Any]], None]
    ) -> None:
        self._roster = roster
        self._say = say
        self._say_to = say_to
        self._ours: dict[str, Facts] = {}
        self._theirs: dict[str, dict[str, Facts]] = {}  # by user and node, of those users that are here
        self._said: dict[str, float] = {}  # when facts were said last, of all that are here; in that order
        self._marked: dict[str, None] = {}  # of whom there is something to say
        self._asking: set[str] = set()  # of whom we want to know what others have
        self._at_once: set[str] = set()
        self._again_before = 0.0
        self._news = trio.lowlevel.ParkingLot()
        self._hearers: dict[str, list[Callable[[str], object]]] = {}
        roster.on_change.append(self._note)

    # -- facts

    def share(self, what: str, user: str, fact: Any, *, at_once: bool = False) -> None:
        """State a fact about our part of a user; None takes it back. Never waits. See `Carrier`."""
        ours = self._ours.setdefault(user, {})
        if ours.get(what) != fact:
            ours[what] = fact
            self._mark(user)
            if at_once:
                self._at_once.add(user)
        if fact is None:
            ours.pop(what, None)
        if not ours:
            del self._ours[user]

    def shared(self, what: str, user: str) -> list[Any]:
        """Return what each other node that has such a fact states. See `Carrier`."""
        return [facts[what] for facts in self._theirs.get(user, {}).values() if what in facts]

    def hear(self, what: str, make: Callable[[str], object]) -> None:
        """Have `make` called with each user of whom other nodes state something else than before."""
        self._hearers.setdefault(what, []).append(make)

    # -- what happens

    def _note(self, connection: Connection) -> None:
        user = connection.user
        if not self._hearers:
            return
        if not self._roster.of_user(user):
            self._theirs.pop(user, None)
        elif user not in self._said:
            self._said[user] = trio.current_time() - _OFTEN
            self._asking.add(user)
            self._mark(user)

    def _mark(self, user: str) -> None:
        self._marked[user] = None
        self._news.unpark()

    def heed(self, node: str, said: list[Any]) -> None:
        """Take what a node states. Raises `Unreadable`."""
        match said:
            case [_, str(user), bool(is_asking), dict(facts)]:
                if self._roster.of_user(user):
                    self._learn(node, user, facts)
                    if is_asking:
                        self._say_to(node, [USER, user, False, self._ours.get(user, {})])
            case _:
                raise Unreadable(f"nothing of a user: {said!r:.100}")

    def _learn(self, node: str, user: str, facts: Facts) -> None:
        known = self._theirs.setdefault(user, {})
        before = known.pop(node, {})
        if facts:
            known[node] = facts
        elif not known:
            del self._theirs[user]
        for what in before.keys() | facts.keys():
            if before.get(what) != facts.get(what):
                for make in self._hearers.get(what, ()):
                    make(user)

    def meet(self) -> None:
        """Have everything said again, and asked for."""
        self._again_before = trio.current_time()

    def lose(self, node: str) -> None:
        """Forget what a node has stated."""
        for user in [user for user, known in self._theirs.items() if node in known]:
            self._learn(node, user, {})

    # -- saying

    async def run(self) -> None:
        """Say what there is to say, until cancelled."""
        while True:
            self._say_marked(trio.current_time())
            with trio.move_on_after(_OFTEN if self._marked else _LOOK):
                await self._news.park()
            self._mark_again(trio.current_time())

    def _mark_again(self, now: float) -> None:
        """Mark those whose facts were not said for long."""
        before = max(now - _AGAIN, self._again_before)
        few = max(_FEW, len(self._said) // 20)
        due: list[str] = []
        for user, said_at in self._said.items():
            if said_at >= before or len(due) >= few:
                break
            due.append(user)
        for user in due:
            if self._roster.of_user(user):
                self._asking.add(user)
            self._marked[user] = None

    def _say_marked(self, now: float) -> None:
        marked, self._marked = self._marked, {}
        for user in marked:
            if user not in self._at_once and now - self._said.get(user, 0) < _OFTEN:
                self._marked[user] = None
                continue
            self._at_once.discard(user)
            self._said.pop(user, None)
            is_asking = user in self._asking
            self._asking.discard(user)
            facts = self._ours.get(user, {})
            if facts or self._roster.of_user(user):
                self._said[user] = now
            self._say(channel_of("user", user), [USER, user, is_asking, facts])
