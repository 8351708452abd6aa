"""How events look between nodes: their JSON as it was encoded once, and beside it, as data, who should hear it.

A payload is CBOR. Where nodes share a key, its first 16 bytes say so (HMAC-SHA-256, cut): whoever may write to the
backplane and does not have the key is not believed.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from typing import Any, Final

import attrs

from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Misuse
from trio_hub.hub.editors import Edit
from trio_hub.targets import Target, claim
from trio_hub.wire import cbor

__all__ = [
    "Carried",
    "Envelope",
    "Sealing",
    "Unreadable",
    "delivery_from",
    "envelopes_from",
    "spelled_delivery",
    "spelled_target",
    "target_from",
]

_MAC: Final = 16


class Unreadable(Exception):
    """What came from another node is nothing that we could have said."""


@attrs.frozen
class Carried:
    """An event that crosses, for whoever `target` selects at each node.

    `json` is the event as an open object, `lifetime` how many more seconds it is of use.
    """

    name: str
    json: bytes
    target: Target
    delivery: Delivery
    lifetime: float
    edits: Sequence[Edit] = ()

    def encoded(self) -> bytes:
        """Return it as bytes."""
        edits = [[edit.name, dict(edit.arguments)] for edit in self.edits]
        delivery = spelled_delivery(self.delivery, self.lifetime)
        try:
            return cbor.dumps([self.name, self.json, spelled_target(self.target), delivery, edits])
        except cbor.Unencodable as error:
            raise Misuse(f"arguments of an editor that cannot cross to other nodes: {error}") from error

    @classmethod
    def decoded(cls, data: bytes) -> Carried:
        """Return what these bytes say. Raises `Unreadable`."""
        try:
            name, json, target, spelled, edits = cbor.loads(data)
            if not (isinstance(name, str) and isinstance(json, bytes)):
                raise Unreadable("an event has a name and JSON")
            delivery, lifetime = delivery_from(spelled)
            return cls(name, json, target_from(target), delivery, lifetime, [Edit(*edit) for edit in edits])
        except (*cbor.Undecodable, Misuse, TypeError) as error:
            raise Unreadable(str(error)) from error


@attrs.frozen
class Envelope:
    """An event on one channel: its number at the node that said it, the number before on this channel, and itself.

    `is_copy` says that it is on other channels as well.
    """

    number: int
    previous: int
    is_copy: bool
    contents: bytes


class Sealing:
    """Makes payloads, and reads those of nodes that have the same key, or none."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    def sealed(self, value: Any) -> bytes:
        """Return a payload that says this."""
        data = cbor.dumps(value)
        return data if self._key is None else self._mac(data) + data

    def opened(self, payload: bytes) -> Any:
        """Return what a payload says. Raises `Unreadable`."""
        if self._key is not None:
            mac, payload = payload[:_MAC], payload[_MAC:]
            if not hmac.compare_digest(mac, self._mac(payload)):
                raise Unreadable("it is not signed with our key")
        try:
            return cbor.loads(payload)
        except cbor.Undecodable as error:
            raise Unreadable(str(error)) from error

    def _mac(self, data: bytes) -> bytes:
        assert self._key is not None
        return hmac.digest(self._key, data, hashlib.sha256)[:_MAC]

    def sealed_envelopes(self, envelopes: Sequence[Envelope]) -> bytes:
        """Return a payload that holds these, in order."""
        return self.sealed([[each.number, each.previous, each.is_copy, each.contents] for each in envelopes])


def envelopes_from(data: Any) -> list[Envelope]:
    """Return the envelopes that a payload says. Raises `Unreadable`."""
    try:
        return [Envelope(*each) for each in data]
    except TypeError as error:
        raise Unreadable(str(error)) from error


def _finite(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds


def spelled_delivery(delivery: Delivery, left: float) -> list[Any]:
    """Return a delivery as data, and with it how many more seconds its event is of use."""
    return [delivery.volatile, delivery.key, _finite(delivery.lifetime), _finite(left)]


def delivery_from(data: Any) -> tuple[Delivery, float]:
    """Return both. What is usual is `MUST` itself: by that the hub knows what goes the quick way."""
    volatile, key, whole, left = data
    delivery = Delivery(volatile=volatile, key=key, lifetime=math.inf if whole is None else whole)
    return MUST if delivery == MUST else delivery, math.inf if left is None else left


def spelled_target(target: Target) -> list[Any]:
    """Return a target as data."""
    match target.kind:
        case "any" | "all" | "minus":
            return [target.kind, [spelled_target(part) for part in target.parts]]
        case "claim":
            return [target.kind, target.name, list(target.values)]
    return [target.kind, target.name]


def target_from(data: Any) -> Target:
    """Return the target that is spelled so. Raises `Unreadable`."""
    try:
        match data:
            case [("any" | "all" | "minus") as kind, [*parts]]:
                return Target(kind, parts=tuple([target_from(part) for part in parts]))
            case ["claim", str(name), [*values]]:
                return claim(name, *values)
            case [str(kind), str(name)]:
                return Target(kind, name)
    except Misuse as error:
        raise Unreadable(str(error)) from error
    raise Unreadable(f"no target: {data!r:.100}")
