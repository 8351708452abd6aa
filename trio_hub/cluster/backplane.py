"""How nodes, which are processes, reach each other: the contract, and the words of it.

A node joins a backplane, listens to channels and sends to channels; everybody else who listens hears it. There are two
kinds of channel, and both ends say which they mean; a plain one and a reliable one of the same name are two:

plain      at most once, as fast as it goes. What may be missing is told by an `Interrupted`.
reliable   once and in order. What was sent while a node was cut off, or slow, comes later, as long as it is kept; where
           it is not, an `Interrupted` that names the channel stands in its place.

There is never a silent hole. `trio_hub.testing.contracts.BackplaneContract` is what every backplane must do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import attrs

from trio_hub.errors import Misuse

__all__ = [
    "GONE",
    "Arrival",
    "Backplane",
    "BackplaneHealth",
    "BackplaneStatistics",
    "Interrupted",
    "Membership",
    "Outbound",
    "check_node",
    "life_of",
    "name_of",
]

GONE: Final = "the node has left its backplane"

_LONGEST_NAME: Final = 255  # bytes


@attrs.frozen
class Outbound:
    """What is said to whoever else listens to `channel`."""

    channel: str
    payload: bytes
    reliable: bool = False


@attrs.frozen
class Arrival:
    """What another node, `origin`, has said on a channel."""

    channel: str
    origin: str
    payload: bytes
    reliable: bool = False


@attrs.frozen
class Interrupted:
    """What was sent on a reliable channel may be missing here; None: on all plain ones.

    One of each is told until it is received, and stands where the first hole may be; behind it there may be more.
    Whoever receives it and fetches the state anew misses nothing. It may be told where nothing is missing, as of a
    reliable channel on which a node had never heard anything before it was cut off.
    """

    channel: str | None = None


@attrs.frozen
class BackplaneHealth:
    """How a node hears. `heard_ago` is in seconds, and infinite where it never has; `trouble` says what is known to be
    wrong, for people, and is empty where nothing is.
    """

    is_deaf: bool
    heard_ago: float
    trouble: str


@attrs.frozen
class BackplaneStatistics:
    """What has happened to one node since it joined.

    Messages that were `sent` and `received`, `Interrupted` that were told, calls that ended in `Unreachable`, plain
    messages that `overflowed` and were lost, and `reconnects`.
    """

    sent: int
    received: int
    interrupted: int
    unreachable: int
    overflowed: int
    reconnects: int


class Membership(Protocol):
    """One node's part in a backplane. Every method raises `Closed` after the block of `join` has ended."""

    async def send(self, messages: Sequence[Outbound]) -> None:
        """Have every other node that listens hear each of these, in this order on each channel; never this one.

        Returns when the backplane has them all: that it is heard depends on the channel. Raises `Unreachable` where it
        may not have all of them, within a bounded time. Sent again after that, or after a cancel, they may come twice.
        """
        ...

    async def listen(self, channels: Iterable[str], *, reliable: bool = False) -> None:
        """Have what is sent on these from now on arrive here.

        While the backplane cannot be reached this returns after a bounded time; then it takes effect as soon as it can
        be, and an `Interrupted` says when. After a cancel the node may listen, or not: listen again, or ignore.
        """
        ...

    async def ignore(self, channels: Iterable[str], *, reliable: bool = False) -> None:
        """Have nothing more arrive on these; what has come before may still be received. Fails never."""
        ...

    async def receive(self) -> list[Arrival | Interrupted]:
        """Wait for something to come, and return all that has, in order on each channel. For one task.

        If cancelled, nothing is lost. A receiver that is slow loses plain messages, and is told; reliable ones wait in
        the backplane.
        """
        ...

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        """Keep `value` under `key`, which is new, for `lasts` seconds. Raises `Unreachable`.

        With `take` this makes a `TicketStore`, for tickets that are issued by one node and used at another.
        """
        ...

    async def take(self, key: str) -> bytes | None:
        """Return what is kept under `key` and keep it no more, at one stroke: of several who ask, one gets it.

        None where there is nothing, or it has been kept for too long. Raises `Unreachable`, when it may be gone.
        """
        ...

    def health(self) -> BackplaneHealth:
        """How this node hears: it tells itself something every now and then, by way of the backplane."""
        ...

    def statistics(self) -> BackplaneStatistics:
        """What has happened so far."""
        ...


class Backplane(Protocol):
    """How nodes reach each other."""

    def join(self, node: str) -> AbstractAsyncContextManager[Membership]:
        """Take part within the block, under a name that no other node has.

        Never fails, and does not wait, where the backplane cannot be reached: it is joined as soon as it can be, and
        what needs no other node goes on until then. Raises `Misuse` for a name that is empty or too long.
        """
        ...


def life_of(node: str, origin: str) -> str:
    """Return what a server's node joins as: its name, and what tells this life of it from those before it."""
    return f"{node} {origin}"


def name_of(life: str) -> str:
    """Return the name in what `life_of` returns."""
    return life.rpartition(" ")[0]


def check_node(node: str) -> None:
    """Raise `Misuse` unless a node may be called so: 1 to 255 bytes of UTF-8."""
    try:
        size = len(node.encode())
    except UnicodeEncodeError as error:
        raise Misuse("a node's name is text that can be encoded") from error
    if not 1 <= size <= _LONGEST_NAME:
        raise Misuse(f"a node's name has 1 to {_LONGEST_NAME} bytes, not {size}")
