"""How many connections a user may have at all nodes together.

Every node states which connections of a user it has, and judges its own by what all of them state, by a rule that
comes to the same at every node. So nobody waits at the door for other nodes; a moment later whoever is too many goes.
"""

from __future__ import annotations

from typing import Any, Final

import trio

from trio_hub.cluster.users import Users
from trio_hub.hub.places import Place, who_goes
from trio_hub.hub.roster import Roster
from trio_hub.options import HubOptions

__all__ = ["Caps", "places_from"]

_WHO: Final = "who"


class Caps:
    """Ends those of our connections that are too many."""

    def __init__(self, roster: Roster, users: Users, options: HubOptions) -> None:
        self._roster = roster
        self._users = users
        self._options = options
        self._marked: dict[str, None] = {}
        self._news = trio.lowlevel.ParkingLot()
        self._stated: dict[str, list[Place]] = {}
        if options.connections_of_user < HubOptions().connections_of_user:
            roster.on_change.append(lambda connection: self._mark(connection.user))
            users.hear(_WHO, self._mark)

    def _mark(self, user: str) -> None:
        self._marked[user] = None
        self._news.unpark()

    async def run(self) -> None:
        """Judge, until cancelled."""
        while True:
            while not self._marked:
                await self._news.park()
            marked, self._marked = self._marked, {}
            for user in marked:
                self._state(user)
                self._judge(user)

    def _state(self, user: str) -> None:
        """State who is here of a user; at once if there is more room than was known, so that nobody goes for that."""
        before, now = self._stated.pop(user, []), self._roster.places(user)
        if now:
            self._stated[user] = now
        attached = {place.id for place in now if place.attached}
        makes_room = any(place.attached and place.id not in attached for place in before) or len(now) < len(before)
        fact = [[place.id, place.since, place.attached] for place in now]
        self._users.share(_WHO, user, fact or None, at_once=makes_room)

    def _judge(self, user: str) -> None:
        ours = {place.id: place for place in self._roster.places(user)}
        places = dict(ours)
        for stated in self._users.shared(_WHO, user):
            for place in places_from(stated):
                places[place.id] = _merged(place, places.get(place.id, place))
        options = self._options
        for place in who_goes(places.values(), options.connections_of_user, newest_wins=options.newest_wins):
            if place.id in ours:
                self._roster.end_surplus(place)


def places_from(stated: Any) -> list[Place]:
    """Return the connections that a node states, as far as that can be understood."""
    places = []
    for each in stated if isinstance(stated, list) else ():
        match each:
            case [str(id), float(since), bool(attached)]:
                places.append(Place(id, since, attached))
    return places


def _merged(one: Place, other: Place) -> Place:
    """Return what a connection is that is on its way from node to node, and known to both."""
    return Place(one.id, min(one.since, other.since), one.attached or other.attached)
