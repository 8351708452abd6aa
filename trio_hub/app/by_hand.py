"""What users have set by hand, and until when. Of what was set at several nodes the last one holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import attrs
import trio

from trio_hub.app.statuses import Status

__all__ = ["ByHand", "Setting"]

_LOOKS: Final = 64  # at users who might be forgotten, for each who sets something
_TAKEN_BACK: Final = 60.0  # s, for which it is remembered that something was: what was set before may be heard later


@attrs.frozen
class Setting:
    """What a user has set (None: nothing any more), until when, and when that was, by the wall clock."""

    status: Status | None
    until: float
    at: float

    def data(self, user: str) -> list[Any]:
        """The same as data, which other nodes understand, and later, too."""
        left = self.until - trio.current_time()
        return [user, self.status, None if left == math.inf else time.time() + left, self.at]


class ByHand:
    """At most `most` settings; those who are not here, as `is_here` says, are forgotten first."""

    def __init__(self, most: int, is_here: Callable[[str], bool]) -> None:
        self._most = most
        self._is_here = is_here
        self._settings: dict[str, Setting] = {}
        self.next_end = math.inf

    def __len__(self) -> int:
        return len(self._settings)

    def __iter__(self) -> Iterator[tuple[str, Setting]]:
        return iter(list(self._settings.items()))

    def get(self, user: str) -> Status | None:
        """Return what a user has set, if that is not over."""
        setting = self._settings.get(user)
        return setting.status if setting is not None and trio.current_time() < setting.until else None

    def set(self, user: str, status: Status | None, lasts: float) -> Setting:
        """Note what a user sets now."""
        before = self._settings.get(user)
        at = time.time() if before is None else max(time.time(), math.nextafter(before.at, math.inf))
        setting = Setting(status, trio.current_time() + (_TAKEN_BACK if status is None else lasts), at)
        self._keep(user, setting)
        return setting

    def learn(self, data: Any) -> str | None:
        """Note what was set at another node; return who it was, or None where something was set later. Raises
        `ValueError` for data that is nothing of the kind.
        """
        match data:
            case [str(user), None | str() as status, None | float() as until, float(at)]:
                left = math.inf if until is None else until - time.time()
                setting = Setting(None if status is None else Status(status), trio.current_time() + left, at)
                known = self._settings.get(user)
                if left <= 0 or (known is not None and known.at >= at):
                    return None
                self._keep(user, setting)
                return user
        raise ValueError(f"nothing that a user has set: {data!r:.100}")

    def _keep(self, user: str, setting: Setting) -> None:
        self._settings.pop(user, None)
        self._settings[user] = setting
        self.next_end = min(self.next_end, setting.until)
        if len(self._settings) > self._most:
            self._forget_one()

    def _forget_one(self) -> None:
        """Forget what the oldest of those has set who are not here. Those who are, are as many as connections allow."""
        for user in list(islice(self._settings, _LOOKS)):
            if not self._is_here(user):
                del self._settings[user]
                return
            self._settings[user] = self._settings.pop(user)  # to the end

    def over(self, now: float) -> list[str]:
        """Forget what is over by now; return whose it was."""
        if self.next_end > now:
            return []
        over = [user for user, setting in self._settings.items() if setting.until <= now]
        for user in over:
            del self._settings[user]
        self.next_end = min([setting.until for setting in self._settings.values()], default=math.inf)
        return over
