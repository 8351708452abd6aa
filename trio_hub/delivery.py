"""How much an event matters: what may become of it while it is owed. A value chosen for each publish.

Only what was not written yet is ever dropped or replaced, so none of this leaves a gap in the numbers.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from trio_hub.errors import Misuse

__all__ = ["MUST", "Delivery", "expires", "latest", "must", "volatile"]


_LONGEST_KEY: Final = 200


@attrs.frozen
class Delivery:
    """Made by `must`, `volatile`, `latest` and `expires`. Raises `Misuse` for what cannot be.

    `key` is what a newer event replaces it by, `lifetime` the seconds after which it is of no use.
    """

    volatile: bool = False
    key: str | None = None
    lifetime: float = math.inf

    def __attrs_post_init__(self) -> None:
        if self.key is not None and not (isinstance(self.key, str) and len(self.key) <= _LONGEST_KEY):
            raise Misuse(f"a key is text of at most {_LONGEST_KEY} characters")
        if not (isinstance(self.lifetime, int | float) and self.lifetime > 0):
            raise Misuse(f"an event expires after more than 0 seconds, not after {self.lifetime!r}")
        if self.volatile + (self.key is not None) + (self.lifetime != math.inf) > 1:
            raise Misuse("an event is volatile, or replaced by the latest, or it expires: one of these")

    def spelled(self) -> str | dict[str, str | float]:
        """How a request says it."""
        if self.key is not None:
            return {"latest": self.key}
        if self.lifetime < math.inf:
            return {"expires": self.lifetime}
        return "volatile" if self.volatile else "must"


MUST: Final = Delivery()


def must() -> Delivery:
    """Deliver it, or tell of a gap. What is not said otherwise."""
    return MUST


def volatile() -> Delivery:
    """Deliver it if that can be done now: to nobody who is away, or for whom half of what may be owed is owed.

    For what is worth nothing later: somebody is typing.
    """
    return Delivery(volatile=True)


def latest(key: str) -> Delivery:
    """Deliver it unless a newer one with this key comes before it is written: that one then comes in its own place.

    For what is replaced all the time: a cursor, a price. Otherwise as `must`.
    """
    return Delivery(key=key)


def expires(seconds: float) -> Delivery:
    """Deliver it unless it is still not written after so many seconds. Otherwise as `must`."""
    return Delivery(lifetime=seconds)
