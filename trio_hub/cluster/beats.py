"""What nodes say of themselves, now and then and when asked: that they are here, and what they have said so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Any, Final

import trio

from trio_hub.cluster.channels import EVERYBODY
from trio_hub.cluster.envelopes import Unreadable
from trio_hub.cluster.nodes import Node
from trio_hub.cluster.numbering import Beat, Said
from trio_hub.hub.roster import Roster

__all__ = ["Beats"]

_TO_MEET: Final = 1.5  # s, in which a new node has heard all that are there


class Beats:
    """Says what this node has `said` by `say`, to the node of a name or to all; and finds in what others say which of
    the channels `listened` to miss something here: `tell_hole` is told. `age` is that of this node, in seconds.
    """

    def __init__(
        self,
        roster: Roster,
        said: Said,
        listened: Container[str],
        *,
        age: Callable[[], float],
        say: Callable[[str | None, list[Any]], None],
        tell_hole: Callable[[str], None],
    ) -> None:
        self._roster = roster
        self._said = said
        self._listened = listened
        self._age = age
        self._say = say
        self._tell_hole = tell_hole

    def say_to_all(self) -> None:
        """Say what was said here since this was called last."""
        self._say_beat(None, self._said.beat())

    def ask(self, node: Node, number: int = 0) -> None:
        """Ask a node what it has said since it is known; `number` is that of the question."""
        self._say(node.name, ["ask", node.heard.known or 0, number])

    def answer(self, node: Node, since: int, number: int) -> None:
        """Tell a node what was said here since then."""
        self._say_beat(node.name, self._said.since(since), number)

    def _say_beat(self, to: str | None, beat: Beat, answered: int = 0) -> None:
        roster = self._roster
        facts = {"origin": roster.origin, "connections": roster.statistics().connections, "age": self._age()}
        self._say(to, ["beat", beat.since, beat.number, beat.latest, beat.is_sound, answered, facts])

    def heed(self, node: Node, said: list[Any]) -> int:
        """Take a beat of a node, and return the number of the question that it answers. Raises `Unreadable`."""
        match said:
            case [int(since), int(number), None | dict() as latest, bool(is_sound), int(answered), dict(facts)]:
                age, node.connections = float(facts.get("age", math.inf)), int(facts.get("connections", 0))
                node.beaten_at, node.has_left = trio.current_time(), False
                node.origin = str(facts.get("origin", ""))
                if node.heard.known is None:
                    self._meet(node, age)
                self._check(node, Beat(since, number, latest, is_sound))
                return answered
        raise Unreadable(f"no beat of a node: {said!r:.100}")

    def _meet(self, node: Node, age: float) -> None:
        """Note that a node of this age is heard for the first time. Who was here before us, and is heard only now, was
        cut off, or we were: nobody knows what it said meanwhile.
        """
        if age < self._age():
            node.heard.heard_from_the_first()
        elif self._age() > _TO_MEET:
            self._tell_hole(EVERYBODY)

    def _check(self, node: Node, beat: Beat) -> None:
        """See whether all was heard that a node has said."""
        if node.heard.misses(beat):
            self.ask(node)
            return
        missing = node.heard.check(beat, self._listened)
        node.in_doubt_since = None
        for channel in [EVERYBODY] if missing is None else missing:
            self._tell_hole(channel)
