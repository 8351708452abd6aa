"""What nodes say to each other beside events: words, to one or to all, and questions to all.

Whoever hears a word is told when a node is here, or may have missed some, or we of its (`MET`), and when it is gone
(`GONE`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import trio

from trio_hub.cluster.asking import Asking
from trio_hub.cluster.nodes import Node, Nodes
from trio_hub.errors import Unreachable
from trio_hub.hub.carrying import GONE, MET
from trio_hub.link.tasks import open_tasks

__all__ = ["QUESTION", "Words"]

log = logging.getLogger("trio_hub.cluster")

QUESTION: Final = "asked"
_SELDOM: Final = 5.0  # s between two times that everything is said again


class Words:
    """Says words by `say`, to the node of this name, or to all; and has them heard."""

    def __init__(self, nodes: Nodes, asking: Asking, say: Callable[[str | None, list[Any]], None]) -> None:
        self._nodes = nodes
        self._asking = asking
        self._say = say
        self._hearers: dict[str, list[Callable[[str, Any], object]]] = {}
        self._answers: dict[str, Callable[[Any], Any]] = {}
        self._here: dict[str, None] = {}  # who was met, by name
        self._in_doubt = self._missed_changes = False
        self._doubted_at = -_SELDOM

    def hear(self, word: str, make: Callable[[str, Any], object]) -> None:
        """Have `make` called with the node that says this, and what. See `Carrier`."""
        self._hearers.setdefault(word, []).append(make)

    def say(self, word: str, data: Any, to: str | None = None) -> None:
        """Say something to a node, or to all. See `Carrier`."""
        if to in self._here or (to is None and self._here):
            self._say(to, ["word", word, data])

    def heed(self, node: Node, word: str, data: Any) -> None:
        """Take a word of a node; nothing is made of one that was not met yet: all is said again when it is."""
        if node.name in self._here:
            self._make(node.name, word, data)

    def _make(self, node: str, word: str, data: Any) -> None:
        for make in self._hearers.get(word, ()):
            try:
                make(node, data)
            except Exception:
                log.exception("nothing can be made of the word %r of %s", word, node)

    # -- questions

    def answer(self, question: str, find: Callable[[Any], Any]) -> None:
        """Answer a question of other nodes. See `Carrier`."""
        self._answers[question] = find

    def find_answer(self, question: str, data: Any) -> Any:
        """Return the answer to a question; None where nobody knows it."""
        return self._answers[question](data) if question in self._answers else None

    async def ask(self, question: str, data: Any, within: float) -> dict[str, Any]:
        """Return what all nodes answer that are here, and do so in time."""
        answers: dict[str, Any] = {}

        async def ask_one(node: str) -> None:
            try:
                answers[node] = await self._asking.ask(node, QUESTION, question, data, within=within)
            except Unreachable as error:
                log.warning("a question (%s) has no answer: %s", question, error)

        async with open_tasks() as tasks:
            for node in self._here:
                tasks.start_soon(ask_one, node)
        return answers

    # -- who is here

    @property
    def others(self) -> list[str]:
        """The nodes that are here."""
        return list(self._here)

    def meet(self, node: Node) -> bool:
        """Note that a node is here; return whether that is new."""
        if node.name in self._here:
            return False
        self._here[node.name] = None
        self._make(node.name, MET, False)
        return True

    def doubt(self, *, missed_changes: bool = False) -> None:
        """Note that words may have been lost, or changes that others have told of."""
        self._in_doubt = True
        self._missed_changes |= missed_changes

    def look(self) -> bool:
        """See who is gone, and have all said again that may have been lost; return whether there may be such. To be
        called now and then.
        """
        here = {node.name for node in self._nodes}
        for node in [node for node in self._here if node not in here]:
            del self._here[node]
            self._make(node, GONE, None)
        if not self._in_doubt or trio.current_time() - self._doubted_at < _SELDOM:
            return False
        missed_changes, self._in_doubt, self._missed_changes = self._missed_changes, False, False
        self._doubted_at = trio.current_time()
        for node in self.others:
            self._make(node, MET, missed_changes)
        return True
