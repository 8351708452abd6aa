"""How a hub's events get to other nodes: not at all, fast, or reliably. What carries them is handed in from above."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from trio_hub.hub.editors import Edit
from trio_hub.hub.inbox import Publication
from trio_hub.session import Session
from trio_hub.targets import Target
from trio_hub.wire.codecs import Codec

__all__ = ["GONE", "MET", "Carrier", "Carry"]

MET: Final = "met"
"""Is heard of each node that is here from now on, or to which, or from which, words may have been lost; with whether
changes may have been missed, too."""
GONE: Final = "gone"
"""Is heard of each that is gone."""


class Carry(enum.Enum):
    """How an event gets to those of its recipients who are at other nodes. Alone, a node has nobody to carry to."""

    HERE = "here"
    """It does not: it is for this node's connections."""
    FAST = "fast"
    """At most once. Where one is lost between nodes, that is noticed within a second, and those whom it may have been
    for are told of a gap. While the backplane is away it is not carried, and that is counted."""
    RELIABLY = "reliably"
    """Once, as long as the backplane keeps it, also where this node or another one loses the backplane for a while."""


class Carrier(Protocol):
    """What carries events to other nodes."""

    @property
    def has_others(self) -> bool:
        """Whether there are other nodes at the moment."""
        ...

    def carry(self, publication: Publication, edits: Sequence[Edit]) -> None:
        """Have an event on its way, with edits that were checked. Never waits: what cannot be done is counted."""
        ...

    def check(self, edits: Sequence[Edit]) -> None:
        """Raise `Misuse` for edits that cannot be said elsewhere."""
        ...

    async def wait_left(self) -> None:
        """Wait until what was carried fast so far is with the backplane, or is lost, and counted."""
        ...

    async def carry_reliably(self, publication: Publication, edits: Sequence[Edit]) -> None:
        """Wait until the backplane has an event; as long as it takes. If cancelled, it may have it, or not."""
        ...

    def tell(self, change: str, of: Target, *details: Any) -> None:
        """Have all other nodes make a change of those whom a target selects there, too; reliably. Never waits."""
        ...

    def heed(self, change: str, make: Callable[..., object]) -> None:
        """Have `make` called, with the target and details, when another node tells of such a change."""
        ...

    # -- what nodes say to each other beside events: data, which may be lost, and then `MET` is heard

    @property
    def others(self) -> list[str]:
        """The other nodes that are here: they are called so for as long as they live."""
        ...

    def say(self, word: str, data: Any, to: str | None = None) -> None:
        """Say something to another node, or to all: what one is told it hears in that order. Never waits."""
        ...

    def hear(self, word: str, make: Callable[[str, Any], object]) -> None:
        """Have `make` called with the node that says this word, and what it says."""
        ...

    async def ask(self, question: str, data: Any) -> dict[str, Any]:
        """Return what the other nodes answer; waits for a bounded time, and leaves out who has not answered by then."""
        ...

    def answer(self, question: str, find: Callable[[Any], Any]) -> None:
        """Have this question of other nodes answered by `find`, which must not wait."""
        ...

    def share(self, what: str, user: str, fact: Any) -> None:
        """State a fact about this node's part of a user, for those nodes that have connections of theirs, too; None
        takes it back. Never waits.
        """
        ...

    def shared(self, what: str, user: str) -> list[Any]:
        """Return such facts of other nodes about a user of whom there are connections here."""
        ...

    def hear_shared(self, what: str, make: Callable[[str], object]) -> None:
        """Have `make` called with each user of whom other nodes state something else than before."""
        ...

    async def wait_listening(self, topic: str) -> None:
        """Wait until what other nodes say in this topic, which somebody here hears by now, comes here; for a bounded
        time. No checkpoint where it does already.
        """
        ...

    def expecting(
        self, session: Session, topics: Iterable[str], codec: Codec, resume: str | None
    ) -> AbstractAsyncContextManager[None]:
        """Have what other nodes say to a user, and in topics, come here within the block, for whoever is about to be
        let in; and the connection of the id that they `resume`, where another node has it. Waits for that for a bounded
        time. A connection that came and has no link at the end of the block is gone.
        """
        ...
