"""An application's editors, by name: an edit is data then, which a back end can ask for, and another node be told."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeVar

import attrs
import msgspec

from trio_hub.errors import Misuse
from trio_hub.hub.editing import Editor
from trio_hub.hub.index import is_for
from trio_hub.messages import Event
from trio_hub.targets import Target
from trio_hub.wire.bodies import encode

__all__ = ["Edit", "Editors", "sensitive"]

F = TypeVar("F", bound=Callable[..., Event | None])


@attrs.frozen
class Edit:
    """A change by one of the application's editors, with what it needs to know."""

    name: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class _Named:
    key: Callable[[Any, Any], Hashable]
    edit: Callable[[Event, Any, Any], Event | None]
    type: Any


class Editors:
    """Editors by name::

        editors = Editors()

        @attrs.frozen
        class Mentioned:
            users: set[str]

        @editors.editor("mentions", key=lambda connection, mentioned: connection.user in mentioned.users)
        def mention(event: Event, is_mentioned: bool, mentioned: Mentioned) -> Event:
            return attrs.evolve(event, data={**event.data, "mentioned": is_mentioned})

        server = Server(editors=editors)
        await server.publish(event, to=topic("town"), editors=[Edit("mentions", {"users": ["ann"]})])

    The last parameter's annotation is what the arguments must be: an attrs class, or anything else that msgspec can
    validate.
    """

    def __init__(self) -> None:
        self._named: dict[str, _Named] = {}

    def editor(self, name: str, *, key: Callable[[Any, Any], Hashable]) -> Callable[[F], F]:
        """Register the decorated function, of event, key and arguments, under this name.

        `key`, of connection and arguments, says what matters about a recipient; see `Editor`. Raises `Misuse` for a
        name that is taken, or a function that takes something else.
        """

        def register(edit: F) -> F:
            if name in self._named:
                raise Misuse(f"there is an editor {name!r} already")
            self._named[name] = _Named(key, edit, _type_of_arguments(edit))
            return edit

        return register

    def resolve(self, edit: Edit) -> Editor:
        """Return the editor that an edit asks for. Raises `Misuse` for an unknown name or arguments of another form."""
        named = self._named.get(edit.name)
        if named is None:
            raise Misuse(f"there is no editor {edit.name!r}")
        try:
            arguments = msgspec.convert(dict(edit.arguments), named.type)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise Misuse(f"editor {edit.name!r}: {error}") from error

        def key(connection: Any) -> Hashable:
            return named.key(connection, arguments)

        return Editor(key, partial(_edit, named.edit, arguments))


def _edit(edit: Callable[[Event, Any, Any], Event | None], arguments: Any, event: Event, key: Any) -> Event | None:
    return edit(event, key, arguments)


def _type_of_arguments(edit: Callable[..., Any]) -> Any:
    """Return what the third parameter is annotated with."""
    parameters = list(inspect.signature(edit).parameters.values())
    if len(parameters) != 3:
        raise Misuse(f"an editor takes event, key and arguments; {edit!r} takes {len(parameters)} parameters")
    return typing.get_type_hints(edit).get(parameters[2].name, Any)


def sensitive(*members: str, only_for: Target) -> Editor:
    """Return an editor that takes these members out of an event's data for everybody but those whom `only_for` selects:
    one event, whole for some and sanitised for the others. Data that is no object is for those alone. `only_for` is of
    users, topics, sessions and claims. Raises `Misuse` for one of connections, whose ids may change.
    """
    if only_for.is_of("connection"):
        raise Misuse("a connection's id may change: say by its session who may see everything")

    def edit(event: Event, is_whole: bool) -> Event | None:
        if is_whole:
            return event
        data = msgspec.json.decode(encode(event.data))  # as clients hear it: names that are no text are text there
        if not isinstance(data, dict):
            return None  # nobody knows where it has what is sensitive
        return attrs.evolve(event, data={name: value for name, value in data.items() if name not in members})

    return Editor(partial(is_for, only_for), edit)
