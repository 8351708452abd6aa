"""How much connections and users may ask. Who asks more is told so, request by request; the link stays."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

import trio

from trio_hub.bucket import Bucket, Rate
from trio_hub.hub.statistics import Counts
from trio_hub.options import HubOptions

__all__ = ["Allow", "Allowances"]

Allow = Callable[[float], bool]
"""Whether one more request, of about so many bytes, is allowed; it is counted against what is."""


class Allowances:
    """Hands out what each connection asks whether it may ask."""

    def __init__(self, options: HubOptions, counts: Counts) -> None:
        self._options = options
        self._counts = counts
        self._of_users: WeakValueDictionary[str, _Buckets] = WeakValueDictionary()

    def of(self, user: str) -> Allow | None:
        """Return the allowance of a new connection of this user; None where there are no limits."""
        options = self._options
        own = [_Buckets(options.requests, options.requests_size)]
        if options.requests_of_user is not None or options.requests_size_of_user is not None:
            shared = self._of_users.get(user)
            if shared is None:
                shared = self._of_users[user] = _Buckets(options.requests_of_user, options.requests_size_of_user)
            own.append(shared)
        elif not own[0]:
            return None
        counts = self._counts

        def allow(size: float) -> bool:
            now = trio.current_time()
            allowed = all(buckets.take(size, now) for buckets in own)
            counts.too_fast += not allowed
            return allowed

        return allow


class _Buckets:
    """One of requests, one of their bytes; either may be without limit."""

    __slots__ = ("__weakref__", "_count", "_size")

    def __init__(self, count: Rate | None, size: Rate | None) -> None:
        self._count = None if count is None else Bucket(count)
        self._size = None if size is None else Bucket(size)

    def __bool__(self) -> bool:
        return self._count is not None or self._size is not None

    def take(self, size: float, now: float) -> bool:
        return (self._count is None or self._count.take(1, now)) and (self._size is None or self._size.take(size, now))
