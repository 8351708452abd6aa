"""Who has to go where a user has more connections than may be. Pure: whoever knows the same comes to the same."""

from __future__ import annotations

from collections.abc import Collection

import attrs

__all__ = ["Place", "who_goes"]


@attrs.frozen
class Place:
    """A connection of a user: since when it is (wall clock, in seconds), and whether it has a link."""

    id: str
    since: float
    attached: bool


def who_goes(places: Collection[Place], most: int, *, newest_wins: bool) -> list[Place]:
    """Return those that are too many: who are away first, the oldest of them; then the oldest, if the newest wins, or
    else the newest.
    """

    def order(place: Place) -> tuple[bool, float, str]:
        oldest_goes = newest_wins or not place.attached
        return place.attached, place.since if oldest_goes else -place.since, place.id

    surplus = len(places) - most
    return sorted(places, key=order)[:surplus] if surplus > 0 else []
