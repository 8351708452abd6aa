"""Who should hear: a target is data, which an index turns into connections."""

from __future__ import annotations

import attrs

from trio_hub.errors import Misuse

__all__ = ["Target", "connection", "everyone", "topic", "user"]


@attrs.frozen
class Target:
    """Whom an event is for. Made by `everyone`, `user`, `topic` and `connection`.

    `kind` names the index that is asked, `name` the key looked up there.
    """

    kind: str
    name: str = ""

    def public(self) -> dict[str, str]:
        """What a recipient may know of the target: the wire's `broadcast` member."""
        return {self.kind: self.name} if self.name else {}


_EVERYONE = Target("everyone")


def everyone() -> Target:
    """Every connection of the hub."""
    return _EVERYONE


def user(user_id: str) -> Target:
    """Every connection of this user, on whatever device."""
    return _named("user", user_id)


def topic(name: str) -> Target:
    """Every connection subscribed to this topic."""
    return _named("topic", name)


def connection(connection_id: str) -> Target:
    """The one connection with this id."""
    return _named("connection", connection_id)


def _named(kind: str, name: str) -> Target:
    if not (isinstance(name, str) and name):
        raise Misuse(f"a {kind} has a name, which is not {name!r}")
    return Target(kind, name)
