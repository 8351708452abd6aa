"""Connection after connection with a Redis, for ever."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from trio_hub.cluster.redis.address import RedisAddress
from trio_hub.cluster.redis.connection import RedisConnection, dial
from trio_hub.errors import Unreachable
from trio_hub.link.backoff import Backoff
from trio_hub.options import BackplaneOptions

__all__ = ["Lifeline"]

log = logging.getLogger("trio_hub.cluster")


class Lifeline:
    """Connection after connection with a Redis, one at a time.

    `trouble` says why there is none, or why the last one was lost, and is empty once one `is_good`; `reconnects` counts
    those that were after another was lost.
    """

    def __init__(self, address: RedisAddress, options: BackplaneOptions, purpose: str) -> None:
        self._address = address
        self._patience = options.patience
        self._backoff = Backoff(options.first_retry, options.longest_retry)
        self._lasting = options.patience + options.longest_retry  # s; a dial that is not answered takes less
        self._purpose = purpose
        self._good = False
        self.trouble = f"{purpose}: not connected yet"
        self._connects = 0

    @property
    def reconnects(self) -> int:
        """Good connections, without the first one."""
        return max(0, self._connects - 1)

    def is_good(self) -> None:
        """Note that what was to be done over the connection is being done."""
        if not self._good:
            self._good = True
            self.trouble = ""
            self._connects += 1
            log.info("backplane at %s is reached (%s)", self._address, self._purpose)

    async def run(self, live: Callable[[RedisConnection], Awaitable[None]]) -> NoReturn:
        """Dial, `live` until it raises `Unreachable`, wait, and begin again, until cancelled."""
        async with trio.open_nursery() as tasks:
            while True:
                began = trio.current_time()
                try:
                    connection = await dial(self._address, tasks, self._patience)
                    try:
                        await live(connection)
                    finally:
                        connection.invalidate()
                except Unreachable as error:
                    self._note(error)
                if trio.current_time() - began > self._lasting:
                    self._backoff.reset()
                await trio.sleep(self._backoff.after())

    def _note(self, error: Unreachable) -> None:
        if self._good:
            self._good = False
            log.warning("backplane at %s is lost (%s): %s", self._address, self._purpose, error.reason)
        self.trouble = f"{self._purpose}: {error.reason}"
