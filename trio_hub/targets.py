"""Who should hear: a target is data, which an index turns into connections.

Targets are put together from others: ``topic("town") | topic("sea")`` is whoever hears one of them, or both, once;
``topic("town") & claim("role", "editor")`` whoever is both; ``topic("town") - user("ann")`` everybody but her.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from trio_hub.errors import Misuse

__all__ = ["Target", "all_of", "any_of", "claim", "connection", "everyone", "session", "topic", "user", "users"]

Value = str | int | float | bool | None
"""What a claim may be compared with."""

_NAMED: Final = frozenset({"topic", "user", "connection", "session", "claim"})
_DEEPEST: Final = 32  # parts within parts: who is selected is found by recursion
_COMPOSED: Final = frozenset({"any", "all", "minus"})


def _as_told_apart(values: tuple[Value, ...]) -> tuple[tuple[bool, Value], ...]:
    """Return values as a claim tells them apart: True is not 1."""
    return tuple([(isinstance(value, bool), value) for value in values]) if values else ()


@attrs.frozen
class Target:
    """Whom an event is for. Made by `everyone`, `user`, `topic` ... and from these by ``|``, ``&`` and ``-``.

    `kind` says how its connections are found, `name` the key looked up there, `values` what a claim may be, `parts`
    what it is composed of: any of them, all of them, or the first minus the others. Equal targets select the same.
    """

    kind: str
    name: str = ""
    values: tuple[Value, ...] = attrs.field(default=(), eq=_as_told_apart)
    parts: tuple[Target, ...] = ()
    _depth: int = attrs.field(default=1, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.kind in _NAMED:
            if not (isinstance(self.name, str) and self.name):
                raise Misuse(f"a {self.kind} has a name, which is not {self.name!r}")
            _check_text(self.name)
            if self.kind == "claim" and not self.values:
                raise Misuse(f"a claim is compared with values; without any, {self.name!r} selects nobody")
            for value in self.values:
                if not isinstance(value, str | int | float | None):
                    raise Misuse(f"a claim is compared with text, numbers and the like, not with {value!r:.100}")
                if isinstance(value, str):
                    _check_text(value)
        elif self.kind in _COMPOSED:
            for part in self.parts:
                if not isinstance(part, Target):
                    raise Misuse(f"a target is composed of targets, not of {part!r:.100}")
            if not self.parts and self.kind != "any":
                raise Misuse(f"{self.kind} of no targets is not somebody")
            depth = 1 + max([part._depth for part in self.parts], default=0)
            if depth > _DEEPEST:
                raise Misuse(f"a target is composed of targets {_DEEPEST} deep at most")
            object.__setattr__(self, "_depth", depth)
        elif self.kind != "everyone":
            raise Misuse(f"nobody knows how to select {self.kind!r}")

    def __or__(self, other: Target) -> Target:
        return any_of(self, other)

    def __and__(self, other: Target) -> Target:
        return all_of(self, other)

    def __sub__(self, other: Target) -> Target:
        kept = self.parts if self.kind == "minus" else (self,)
        return Target("minus", parts=(*kept, other))

    def public(self) -> dict[str, str]:
        """What a recipient may know of the target: the wire's `broadcast` member.

        That is a topic, user or connection which all of its recipients have in common, and nothing of who is left out.
        """
        match self.kind:
            case "topic" | "user" | "connection":
                return {self.kind: self.name}
            case "minus":
                return self.parts[0].public()
            case "all":
                return next((public for part in self.parts if (public := part.public())), {})
        return {}

    def is_of(self, kind: str) -> bool:
        """Whether this kind is among what the target is composed of."""
        return self.kind == kind or any(part.is_of(kind) for part in self.parts)

    def renamed(self, current: Callable[[str], str]) -> Target:
        """Return the same target, with `current` of each connection's id in place of that."""
        if self.kind == "connection":
            return attrs.evolve(self, name=current(self.name))
        if self.parts:
            return attrs.evolve(self, parts=tuple(part.renamed(current) for part in self.parts))
        return self


_EVERYONE = Target("everyone")


def _check_text(text: str) -> None:
    """Raise `Misuse` for what nobody could say to others: half a character, as names of files may have."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Misuse(f"{text!r:.100} is no text that can be encoded") from error


def everyone() -> Target:
    """Every connection of the hub."""
    return _EVERYONE


def user(user_id: str) -> Target:
    """Every connection of this user, on whatever device."""
    return Target("user", user_id)


def users(*user_ids: str) -> Target:
    """Every connection of any of these users."""
    return any_of(*map(user, user_ids))


def topic(name: str) -> Target:
    """Every connection subscribed to this topic."""
    return Target("topic", name)


def connection(connection_id: str) -> Target:
    """The one connection with this id."""
    return Target("connection", connection_id)


def session(session_id: str) -> Target:
    """Every connection of the session with this id."""
    return Target("session", session_id)


def claim(name: str, *values: Value) -> Target:
    """Every connection whose session claims `name` to be one of these values, or to be a list that has one of them.
    Raises `Misuse` for no values. True is not 1, nor False 0.

    Alone, or joined to `everyone`, it is looked for among all connections; joined to a topic, only there.
    """
    return Target("claim", name, values)


def any_of(*targets: Target) -> Target:
    """Everybody whom at least one of these is for, once."""
    return _composed("any", targets)


def all_of(*targets: Target) -> Target:
    """Everybody whom each of these is for. Raises `Misuse` for none of them, which would be everybody."""
    return _composed("all", targets)


def _composed(kind: str, targets: tuple[Target, ...]) -> Target:
    """Return a target of these. Those of the same kind among them are taken apart, so that a long chain stays flat."""
    parts: list[Target] = []
    for each in Target(kind, parts=targets).parts:
        parts += each.parts if each.kind == kind else (each,)
    return parts[0] if len(parts) == 1 else Target(kind, parts=tuple(parts))


_MARK: Final = "\x1e"  # unprintable: no name that clients may say has it


def beside(kind: str, name: str) -> str:
    """Return the topic beside this one that is for those who hear of one kind of thing in it."""
    return f"{_MARK}{kind}{_MARK}{name}"


def is_beside(name: str) -> bool:
    """Whether a topic is one that stands beside another."""
    return name.startswith(_MARK)


def plain(name: str) -> str:
    """Return the topic that this one stands beside; any other one itself."""
    return name.rpartition(_MARK)[2]


def meets_claim(claims: Mapping[str, object], target: Target) -> bool:
    """Whether a session with these claims is one that this `claim` is about."""
    if target.name not in claims:
        return False
    found = claims[target.name]
    if isinstance(found, list | tuple | set | frozenset):
        return any(value in found and any(_is(each, value) for each in found) for value in target.values)
    return any(_is(found, value) for value in target.values)


def _is(found: object, value: Value) -> bool:
    return found == value and isinstance(found, bool) is isinstance(value, bool)
