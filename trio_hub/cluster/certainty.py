"""Being sure, at any moment, that all was heard which others have said until now, or is told of as missing.

All nodes are asked at once what they have said, for everybody who wants to be sure at that moment.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from trio_hub.cluster.nodes import Node, Nodes

__all__ = ["Certainty"]


class Certainty:
    """Asks nodes by `ask`, which has a node say in a beat what it has said, with a number by which that is known."""

    def __init__(self, nodes: Nodes, ask: Callable[[Node, int], None], within: float) -> None:
        self._nodes = nodes
        self._ask = ask
        self._within = within
        self._number = 0
        self._missing: set[str] = set()  # who has not answered the latest question
        self._news = trio.lowlevel.ParkingLot()
        self._answered = trio.lowlevel.ParkingLot()
        self._wanted: trio.Event | None = None

    async def wait(self) -> None:
        """Wait until every node has answered that is here and can; for a bounded time."""
        if self._wanted is None:
            self._wanted = trio.Event()
        self._news.unpark()
        await self._wanted.wait()

    def note(self, node: Node, number: int) -> None:
        """Note that a node has answered the question of this number, and that what it said was looked at."""
        if number == self._number:
            self._missing.discard(node.name)
            self._answered.unpark()

    async def run(self) -> None:
        """Ask for whoever waits, until cancelled."""
        try:
            while True:
                while self._wanted is None:
                    await self._news.park()
                wanted, self._wanted = self._wanted, None
                await self._ask_all()
                wanted.set()
        finally:
            if self._wanted is not None:
                self._wanted.set()

    async def _ask_all(self) -> None:
        self._number += 1
        here = self._nodes.answering()
        self._missing = {node.name for node in here}
        for node in here:
            self._ask(node, self._number)
        with trio.move_on_after(self._within):
            while self._missing:
                await self._answered.park()
        for name in self._missing:
            self._nodes.note_silent(name)
