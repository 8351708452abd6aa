"""How long to wait before the next dial. Pure.

Each wait is drawn evenly between nothing and a longest wait that doubles with every failure ("full jitter"): so a
thousand clients that lost the same server spread evenly over that time instead of coming back in waves.
"""

from __future__ import annotations

import json
import math
import random

from trio_hub.errors import LinkLost, Refused
from trio_hub.messages import CloseCode

__all__ = ["Backoff", "comes_back"]

_ADVISED = frozenset({CloseCode.GOING_AWAY, CloseCode.RESTART, CloseCode.TRY_AGAIN})
_HOPELESS = frozenset({400, 401, 403, 404, 405, 426, 431})


class Backoff:
    """The waits between dials. `after` counts a failure, `reset` forgets them all.

    `first` and `longest` are seconds: of the longest wait after one failure, and of that after many; `longest_advice`
    those that a server may ask for.
    """

    def __init__(
        self, first: float, longest: float, longest_advice: float = math.inf, source: random.Random | None = None
    ) -> None:
        self._first = first
        self._longest = longest
        self._longest_advice = longest_advice
        self._random = source or random.Random()
        self._failures = 0

    def reset(self) -> None:
        """The link was good."""
        self._failures = 0

    def after(self, lost: LinkLost | None = None, *, most: float = math.inf) -> float:
        """Return the seconds to wait after this: the server's advice if it gave any, plus our own draw up to `most`."""
        longest = min(self._longest, self._first * 2 ** min(self._failures, 32), most)
        self._failures += 1
        advice = 0.0 if lost is None else min(_advice(lost), self._longest_advice)
        return advice + self._random.uniform(0, longest)


def comes_back(lost: LinkLost) -> bool:
    """Whether there is any sense in dialling again after this (the close codes' table in the protocol)."""
    if isinstance(lost, Refused):
        return lost.status not in _HOPELESS
    code = lost.close.code
    return code != CloseCode.TAKEN_OVER and not 4500 <= code <= 4999


def _advice(lost: LinkLost) -> float:
    """Return the wait that the server asked for, in a close reason or in a header; 0 for none."""
    advice: object = None
    if isinstance(lost, Refused):
        advice = lost.headers.get("retry-after")
    elif lost.close.code in _ADVISED and lost.close.reason.startswith("{"):
        try:
            advice = json.loads(lost.close.reason).get("retry_after")
        except ValueError:
            return 0.0
    try:
        wait = float(str(advice)) if advice is not None else 0.0
    except ValueError:  # a date, or nonsense
        return 0.0
    return wait if wait > 0 else 0.0
