"""Which channels an event goes through, by its target; and for whom each channel is. Pure.

There is a channel for each topic and each user, to which those nodes listen that have somebody of theirs; one for each
node's own connections, by how their ids begin, and one for each connection that lives elsewhere than where its id was
made; and one for everybody, to which all nodes listen.
"""

from __future__ import annotations

from typing import Final

from trio_hub.targets import Target, connection, everyone, topic, user

__all__ = ["EVERYBODY", "channel_of", "channels_of", "origin_of", "says_all", "whom"]

EVERYBODY: Final = "*"
_MOST: Final = 32  # channels of one event; for more it goes to all nodes once
_ORIGIN: Final = 6
_WHOLE: Final = frozenset({"topic", "user", "everyone"})
_MADE: Final = {"t": topic, "u": user, "c": connection}


def origin_of(connection_id: str) -> str:
    """Return what all connection ids have in common that one hub has made."""
    return connection_id[:_ORIGIN]


def channel_of(kind: str, name: str) -> str:
    """Return the channel of a ``topic``, a ``user``, a ``connection`` or an ``origin`` of connections."""
    return f"{kind[0]}:{name}"


def channels_of(target: Target) -> tuple[str, ...]:
    """Return the channels such that whoever the target selects is on a node that listens to one of them at least."""
    match target.kind:
        case "topic" | "user":
            return (channel_of(target.kind, target.name),)
        case "connection":
            return channel_of("origin", origin_of(target.name)), channel_of("connection", target.name)
        case "minus":
            return channels_of(target.parts[0])
        case "all":
            return min([channels_of(part) for part in target.parts], key=_breadth)
        case "any":
            channels = tuple(dict.fromkeys([channel for part in target.parts for channel in channels_of(part)]))
            return (EVERYBODY,) if EVERYBODY in channels or len(channels) > _MOST else channels
    return (EVERYBODY,)


def says_all(target: Target) -> bool:
    """Whether an event for this target goes through one channel, and that channel is for this target: see `whom`."""
    return target.kind in _WHOLE


def _breadth(channels: tuple[str, ...]) -> tuple[bool, bool, int]:
    """Order channels by how many nodes may listen to them, as far as that can be said."""
    return EVERYBODY in channels, any(channel.startswith("t:") for channel in channels), len(channels)


def whom(channel: str) -> Target | None:
    """Return whom a channel is for, whoever that may be on a node; None for what is no channel of events."""
    kind, _, name = channel.partition(":")
    if channel == EVERYBODY or kind == "o":
        return everyone()
    return _MADE[kind](name) if kind in _MADE and name else None
