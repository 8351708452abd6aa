"""From what somebody wants published to what the hub delivers: checked, and encoded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import trio

from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Misuse
from trio_hub.hub.editing import Editing, Editor, check
from trio_hub.hub.editors import Edit, Editors
from trio_hub.hub.inbox import Publication
from trio_hub.messages import Event
from trio_hub.targets import Target
from trio_hub.wire.bodies import Body

__all__ = ["Drafting", "expect"]


class Drafting:
    """Makes publications. `editors` are known by name; an event has at most half of `owed` bytes, which is what a
    connection may be owed in all.
    """

    def __init__(self, editors: Editors, owed: int) -> None:
        self._editors = editors
        self._owed = owed

    def draft(self, event: Event, to: Target, delivery: Delivery, editors: Sequence[Editor | Edit]) -> Publication:
        """Return what somebody here publishes. Raises `Misuse` for any wrong argument."""
        expect(event, Event)
        expect(to, Target)
        expect(delivery, Delivery)
        check(event)
        if event.broadcast is None:
            event = Event(event.name, event.data, to.public())
        body = self._encode(delivery, event)
        if not editors:
            return Publication(event.name, body, to)
        resolved = [self._editors.resolve(each) if isinstance(each, Edit) else each for each in editors]
        for editor in resolved:
            expect(editor, Editor)
        return Publication(event.name, body, to, Editing(event, resolved, partial(self._encode, delivery)))

    def draft_carried(self, body: Body, name: str, to: Target, edits: Sequence[Edit]) -> Publication:
        """Return what another node has carried here. Raises `Misuse` for edits that nobody here knows."""
        if not edits:
            return Publication(name, body, to)
        resolved = [self._editors.resolve(each) for each in edits]
        return Publication(name, body, to, Editing(body.event, resolved, partial(self._encode, body.delivery)))

    def _encode(self, delivery: Delivery, event: Event) -> Body:
        """Encode an event, or what an editor has made of one. Raises `Misuse` where no outbox could hold it."""
        expires_at = math.inf if delivery is MUST else trio.current_time() + delivery.lifetime
        body = Body(event, delivery=delivery, expires_at=expires_at)
        if body.size > self._owed // 2:
            raise Misuse(f"an event of {body.size} bytes; a connection may be owed {self._owed} in all")
        return body


def expect(value: object, kind: type) -> None:
    """Raise `Misuse` for what is nothing of this kind."""
    if not isinstance(value, kind):
        raise Misuse(f"expected {kind.__name__}, not {value!r:.100}")
