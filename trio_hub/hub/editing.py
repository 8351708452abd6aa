"""Editors: one event, slightly different for some of its recipients.

An editor's `key` says what matters about a recipient; its `edit` makes the event that everybody with that key gets,
or None for nobody. So an event is changed and encoded once for each distinct outcome, not for each recipient.
Editors fail closed: a recipient for whom one raises does not get the event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import attrs

from trio_hub.errors import Misuse
from trio_hub.messages import HELLO, Event
from trio_hub.wire.bodies import Body

__all__ = ["Editing", "Editor", "check"]

log = logging.getLogger("trio_hub.hub")

_RESERVED = frozenset({"", HELLO})


@attrs.frozen
class Editor:
    """A change or veto that depends on the recipient only through `key`.

    `key(connection)` and `edit(event, key)` are plain functions; anything slow was loaded before. `edit` returns the
    event to deliver, the same one for no change, or None for a veto.
    """

    key: Callable[[Any], Hashable]
    edit: Callable[[Event, Any], Event | None]


class Editing:
    """One event's way through its editors, remembered for each distinct combination of keys."""

    def __init__(self, event: Event, editors: Sequence[Editor], encode: Callable[[Event], Body] = Body) -> None:
        self._event = event
        self._encode = encode
        self._editors = editors
        self._outcomes: dict[tuple[Hashable, ...], Body | None] = {}
        self.failures = 0

    def body_for(self, connection: Any) -> Body | None:
        """Return what this recipient gets, or None for nothing. A failing editor is logged, and is a veto."""
        try:
            keys = tuple(editor.key(connection) for editor in self._editors)
            if keys not in self._outcomes:
                self._outcomes[keys] = None  # what stays when an editor fails below
                self._outcomes[keys] = self._edit(keys)
            return self._outcomes[keys]
        except Exception:
            self.failures += 1
            log.exception(
                "an editor failed for event %r; connection %s does not get it", self._event.name, connection.id
            )
            return None

    def _edit(self, keys: tuple[Hashable, ...]) -> Body | None:
        event: Event | None = self._event
        for editor, key in zip(self._editors, keys, strict=True):
            if event is None:
                return None
            event = editor.edit(event, key)
        if event is None:
            return None
        check(event)
        return self._encode(event)


def check(event: Event) -> None:
    """Raise `Misuse` for an event that clients could not read, or that only the hub itself may say."""
    if type(event.name) is not str or event.name in _RESERVED:
        raise Misuse(f"an event cannot be called {event.name!r}")
    if event.broadcast is not None and not isinstance(event.broadcast, Mapping):
        raise Misuse("`broadcast` is a mapping")
