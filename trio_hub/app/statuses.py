"""What a user is, and what several nodes make of that together. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

__all__ = ["Seen", "Status", "most_present", "seen_from"]


class Status(enum.StrEnum):
    """What a user is."""

    ONLINE = "online"
    AWAY = "away"
    DND = "dnd"
    OFFLINE = "offline"


_ORDER: Mapping[Status, int] = {Status.OFFLINE: 0, Status.AWAY: 1, Status.ONLINE: 2, Status.DND: 3}


@attrs.frozen
class Seen:
    """What a user is, as far as one node can see; not `attached` where they are here for their grace alone."""

    status: Status
    attached: bool = True

    @property
    def data(self) -> list[Any]:
        """The same as data."""
        return [str(self.status), self.attached]


def seen_from(data: Any) -> Seen:
    """Return what this says. Raises `ValueError` where it is nothing of the kind."""
    match data:
        case [str(status), bool(attached)]:
            return Seen(Status(status), attached)
    raise ValueError(f"not what a user is: {data!r:.100}")


def most_present(seen: Iterable[Seen]) -> Seen | None:
    """Return what is seen by whoever sees most: those who have a link go before grace. None where nobody does."""
    return max(seen, key=lambda each: (each.attached, _ORDER[each.status]), default=None)
