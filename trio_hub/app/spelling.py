"""Targets as back ends spell them: ``"everyone"``, ``{"topic": "town"}``, and what is put together from such."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from trio_hub.app.topics import check_topic
from trio_hub.errors import Misuse, RequestFailed
from trio_hub.targets import Target, all_of, any_of, claim, connection, everyone, session, topic, user

__all__ = ["target_of"]

_NAMED: Final[dict[str, Callable[[str], Target]]] = {
    "topic": topic,
    "user": user,
    "connection": connection,
    "session": session,
}
_DEEPEST: Final = 32
_FORMS: Final = (
    'Expected "everyone", {"topic" | "user" | "connection" | "session": name}, {"claim": [name, value ...]}, '
    '{"any" | "all": [target ...]} or {"minus": [target, target ...]}'
)


def target_of(spelled: Any, place: str) -> Target:
    """Return the target that is spelled so. `place` is where it stands, for complaints.

    Raises `RequestFailed` (400) for a form that we do not know, with the place of the fault.
    """
    if place.count(".") > _DEEPEST:
        raise RequestFailed(
            400, "bad_target", f"Expected targets within targets {_DEEPEST} deep at most - at `{place}`"
        )
    if spelled == "everyone":
        return everyone()
    try:
        match list(spelled.items()) if isinstance(spelled, dict) else []:
            case [(str(kind), str(name))] if kind in _NAMED and name:
                if kind == "topic":
                    _check_topic(name, place)
                return _NAMED[kind](name)
            case [("claim", [str(name), *values])] if all(
                isinstance(each, str | int | float | None) for each in values
            ):
                return claim(name, *values)
            case [("any", [*parts])]:
                return any_of(*_targets(parts, f"{place}.any"))
            case [("all", [*parts])]:
                return all_of(*_targets(parts, f"{place}.all"))
            case [("minus", [_, _, *_] as parts)]:
                first, *others = _targets(parts, f"{place}.minus")
                for other in others:
                    first -= other
                return first
    except Misuse as error:
        raise RequestFailed(400, "bad_target", f"{error} - at `{place}`") from error
    raise RequestFailed(400, "bad_target", f"{_FORMS} - at `{place}`")


def _targets(spelled: Iterable[Any], place: str) -> list[Target]:
    return [target_of(each, f"{place}[{number}]") for number, each in enumerate(spelled)]


def _check_topic(name: str, place: str) -> None:
    try:
        check_topic(name)
    except RequestFailed as failure:
        form = failure.message.partition(" - at ")[0]
        raise RequestFailed(failure.status, failure.id, f"{form} - at `{place}.topic`") from failure
