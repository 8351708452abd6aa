"""Link after link for one member of a pool: dial, live, back off, dial again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from trio_hub.errors import LinkLost
from trio_hub.link.backoff import Backoff, comes_back
from trio_hub.link.link import Link
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import PoolOptions

__all__ = ["Redial"]

log = logging.getLogger("trio_hub.link")

_STOPPED = CloseReason(CloseCode.NORMAL, "told to stop")


class Redial:
    """Dials until there is no sense in it, or until told to stop.

    `dial` returns a link or raises `LinkLost`; `live_on` returns when its link has ended and everything is done.
    `dials` counts the attempts.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Link]],
        live_on: Callable[[Link], Awaitable[CloseReason]],
        options: PoolOptions,
    ) -> None:
        self._dial = dial
        self._live_on = live_on
        self._retries = options.retries
        self._good_after = options.good_after
        self._backoff = Backoff(options.first_retry, options.longest_retry, options.longest_advice)
        self._failures = 0
        self._stopped = False
        self._between_links = trio.CancelScope()
        self.dials = 0

    def stop(self) -> None:
        """Do not dial any more; a link that is there goes on. Never waits."""
        self._stopped = True
        self._between_links.cancel()

    async def run(self) -> CloseReason:
        """Live on link after link; return why there is no other, or the end of the latest where it was told to stop."""
        while True:
            lost = await self._live_once()
            if self._stopped or not comes_back(lost):
                return lost.close
            self._failures += 1
            if self._retries is not None and self._failures > self._retries:
                return lost.close
            wait = self._backoff.after(lost)
            log.debug("no link (%s): the next dial is in %.1f s", lost, wait)
            if not await self._pause(wait):
                return lost.close

    async def _pause(self, seconds: float) -> bool:
        """Return, after so long, that it is time for the next dial, or at once that there will be none."""
        with self._between():
            await trio.sleep(seconds)
        return not self._stopped

    async def _live_once(self) -> LinkLost:
        link = None
        with self._between():
            self.dials += 1
            try:
                link = await self._dial()
            except LinkLost as lost:
                return lost
            except Exception:  # of what the caller gave for it, and it may go well with the next answer
                log.exception("a dial has failed")
                return LinkLost(CloseReason(CloseCode.ABNORMAL, "the dial has failed; look into the log"))
        if link is None:
            return LinkLost(_STOPPED)
        begun = trio.current_time()
        close = await self._live_on(link)
        if trio.current_time() - begun >= self._good_after:
            self._failures = 0
            self._backoff.reset()
        return LinkLost(close)

    def _between(self) -> trio.CancelScope:
        """Return a scope for what is done without a link."""
        self._between_links = trio.CancelScope()
        if self._stopped:
            self._between_links.cancel()
        return self._between_links
