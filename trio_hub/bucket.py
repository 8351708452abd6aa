"""How often somebody may do something. Pure: the time is handed in."""

from __future__ import annotations

import math

import attrs
from attrs import validators

__all__ = ["Bucket", "Rate"]


@attrs.frozen
class Rate:
    """`per_second` on the average; at once no more than so many seconds (`burst`) bring."""

    per_second: float = attrs.field(validator=validators.gt(0))
    burst: float = attrs.field(default=1.0, validator=validators.gt(0))


class Bucket:
    """What is left of a rate (a token bucket), full at first.

    Whoever takes more than is left is in debt, and gets nothing until that is paid: so one message that is larger than
    a whole burst is possible, and is paid for.
    """

    __slots__ = ("_left", "_rate", "_since")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = math.inf
        self._since = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Take so much if anything is left; False, and nothing is taken, where nothing is. `now` never goes back."""
        rate = self._rate
        self._left = min(self._left + (now - self._since) * rate.per_second, rate.per_second * rate.burst)
        self._since = now
        if self._left <= 0:
            return False
        self._left -= amount
        return True
