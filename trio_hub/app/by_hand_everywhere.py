"""What users have set by hand is the same at all nodes: who sets something tells all, and who is new asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import trio

from trio_hub.app.by_hand import ByHand, Setting
from trio_hub.hub.carrying import MET, Carrier
from trio_hub.targets import Target, everyone, user

__all__ = ["ByHandEverywhere"]

_CHANGE: Final = "status"
_TELL_SET: Final = "presence.tell_set"
_SET: Final = "presence.set"
_YOUNG: Final = 5.0  # s after the first other node was met, in which each may know of what was set before
_MOST: Final = 500  # settings in one word


class ByHandEverywhere:
    """Tells other nodes by `carrier` of what users set here, and learns what they set there: `learned` is called with
    each who has.
    """

    def __init__(self, carrier: Carrier, by_hand: ByHand, learned: Callable[[str], None]) -> None:
        self._carrier = carrier
        self._by_hand = by_hand
        self._learned = learned
        self._young_until: float | None = None
        carrier.heed(_CHANGE, self._learn)
        carrier.hear(MET, self._ask)
        carrier.hear(_TELL_SET, self._tell_all)
        carrier.hear(_SET, self._learn_all)

    def tell(self, user_id: str, setting: Setting) -> None:
        """Have all other nodes know what a user has just set."""
        self._carrier.tell(_CHANGE, user(user_id), setting.data(user_id))

    def _learn(self, _: Target, data: Any) -> None:
        if (user_id := self._by_hand.learn(data)) is not None:
            self._learned(user_id)

    def _ask(self, node: str, missed_changes: bool) -> None:
        """Ask a node what users have set, where it may know more than we do: when we are new, or have missed it."""
        if self._young_until is None:
            self._young_until = trio.current_time() + _YOUNG
        if missed_changes or trio.current_time() < self._young_until:
            self._carrier.say(_TELL_SET, None, node)

    def _tell_all(self, node: str, _: Any) -> None:
        settings = [setting.data(user_id) for user_id, setting in self._by_hand]
        for start in range(0, len(settings), _MOST):
            self._carrier.say(_SET, settings[start : start + _MOST], node)

    def _learn_all(self, _: str, settings: list[Any]) -> None:
        for each in settings:
            self._learn(everyone(), each)
