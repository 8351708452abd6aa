"""How a link is, and who is told when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trio_hub.messages import LinkStatus

__all__ = ["OnChange", "Watched"]

log = logging.getLogger("trio_hub.link")

OnChange = Callable[[LinkStatus, LinkStatus], None]
"""Is told of the previous status and the new one. It never waits."""


class Watched:
    """Something with a `status`: CONNECTING, then READY and TIMEOUT in turn, then CLOSED; either may be left out."""

    def __init__(self) -> None:
        self.status = LinkStatus.CONNECTING
        self._watchers: tuple[OnChange, ...] = ()

    def watch_status(self, watcher: OnChange) -> Callable[[], None]:
        """Have ``watcher(previous, new)`` called at each change from now on; return what stops that.

        It is called in the midst of whatever changes the status, so it must not wait; what it raises is logged. Those
        that watch are told in the order in which they came. Nothing is said of what the status was before.
        """
        self._watchers += (watcher,)

        def stop() -> None:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

        return stop

    def become(self, status: LinkStatus) -> None:
        """Note the status, and tell whoever watches where it is another. Nothing comes after CLOSED.

        For whoever runs the link, and the heart that watches over it.
        """
        previous = self.status
        if status is previous or previous is LinkStatus.CLOSED:
            return
        self.status = status
        for watcher in self._watchers:
            try:
                watcher(previous, status)
            except Exception:
                log.exception("whoever watches a link's status has failed")
