"""A trio run that stands still while the test thinks: what Hypothesis' stateful machines need to drive one.

The run has a thread of its own and virtual time. Between two steps its main task waits for the next one without
letting anybody else run: so a machine's rules and invariants look at live objects that hold still.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

__all__ = ["Stage"]


class Stage:
    """Runs async steps one after the other in one trio run; `nursery` is there for what goes on beyond a step.

    `seed` decides in which order trio runs tasks that could run at the same time. No step can follow one that failed.
    """

    nursery: trio.Nursery

    def __init__(self, seed: int) -> None:
        self._steps: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[outcome.Outcome[Any]] = queue.SimpleQueue()
        self._order = random.Random(seed)
        self.has_failed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def do(self, step: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Run a step, and everything it set in motion until nothing can happen at this moment; return its result.

        Raises what the step raises, or what ended the run.
        """
        self._steps.put((step, arguments))
        result = self._outcomes.get()
        self.has_failed = isinstance(result, outcome.Error)
        return result.unwrap()

    def close(self) -> None:
        """Cancel whatever runs still. Raises what failed meanwhile."""
        self._steps.put(None)
        self._thread.join()
        if not self._outcomes.empty():
            self._outcomes.get().unwrap()

    def _run(self) -> None:
        try:
            trio.run(self._main, clock=MockClock(autojump_threshold=0))
        except BaseException as error:
            self._outcomes.put(outcome.Error(error))

    async def _main(self) -> None:
        trio._core._run._r = self._order  # the one place where trio is not deterministic
        async with trio.open_nursery() as self.nursery:
            while (order := self._steps.get()) is not None:
                step, arguments = order
                result = await outcome.acapture(step, *arguments)
                await wait_all_tasks_blocked()
                self._outcomes.put(result)
            self.nursery.cancel_scope.cancel()
