"""How events look between nodes: their JSON as it was encoded once, and beside it, as data, who should hear it.

A payload is CBOR. Where nodes share a key, its first 16 bytes say so (HMAC-SHA-256, cut), and of the channel and the
node that it was said on and by: whoever may write to the backplane and does not have the key is not believed, nor what
they say once more elsewhere.
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
    "spelled_edits",
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
    delivery: Delivery = MUST
    lifetime: float = math.inf
    edits: Sequence[Edit] = ()

    def spelled(self, *, whole: bool) -> list[Any]:
        """Return it as data; unless `whole`, without its target, where its channel says that. Raises `Misuse`.

        Most events are for whom their channel is, must be delivered, and are not edited: nothing is said of that.
        """
        if not (whole or self.edits) and self.delivery is MUST:
            return [self.name, self.json]
        delivery = spelled_delivery(self.delivery, self.lifetime)
        return [self.name, self.json, spelled_target(self.target), delivery, spelled_edits(self.edits)]

    @classmethod
    def spelled_so(cls, data: Sequence[Any], target: Target | None) -> Carried:
        """Return what is spelled so, on a channel that is for this target. Raises `Unreadable`."""
        try:
            match data:
                case [str(name), bytes(json)] if target is not None:
                    return cls(name, json, target)
                case [str(name), bytes(json), spelled, [*delivery], bytes(edits)]:
                    return cls(
                        name,
                        json,
                        target_from(spelled),
                        *delivery_from(delivery),
                        tuple([Edit(*edit) for edit in cbor.loads(edits)]),
                    )
        except (*cbor.Undecodable, Misuse, TypeError, ValueError) as error:
            raise Unreadable(str(error)) from error
        raise Unreadable(f"no event: {data!r:.100}")


@attrs.frozen
class Envelope:
    """An event on one channel: its number at the node that said it, the number before on this channel, and itself.

    `is_copy` says that it is on other channels as well. `said` is a `Carried`, spelled.
    """

    number: int
    previous: int
    is_copy: bool
    said: Sequence[Any]

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        return len(self.said[1])


class Sealing:
    """Makes payloads of this `node`, and reads those of nodes that have the same key, or none."""

    def __init__(self, node: str, key: bytes | None = None) -> None:
        self._node = node
        self._key = key

    def sealed(self, channel: str, value: Any) -> bytes:
        """Return a payload that says this on a channel."""
        data = cbor.dumps(value)
        return data if self._key is None else self._mac(channel, self._node, data) + data

    def opened(self, channel: str, node: str, payload: bytes) -> Any:
        """Return what a payload says that came on this channel, from this node. Raises `Unreadable`."""
        if self._key is not None:
            mac, payload = payload[:_MAC], payload[_MAC:]
            if not hmac.compare_digest(mac, self._mac(channel, node, payload)):
                raise Unreadable("it is not signed with our key")
        try:
            return cbor.loads(payload)
        except cbor.Undecodable as error:
            raise Unreadable(str(error)) from error

    def _mac(self, channel: str, node: str, data: bytes) -> bytes:
        assert self._key is not None
        where = f"{len(channel)} {len(node)} {channel}{node}".encode()
        return hmac.digest(self._key, where + data, hashlib.sha256)[:_MAC]

    def sealed_envelopes(self, channel: str, envelopes: Sequence[Envelope]) -> bytes:
        """Return a payload that holds these, in order."""
        return self.sealed(channel, [[each.number, each.previous, each.is_copy, *each.said] for each in envelopes])


def envelopes_from(data: Any) -> list[Envelope]:
    """Return the envelopes that a payload says. Raises `Unreadable`."""
    envelopes = []
    if not isinstance(data, list):
        raise Unreadable(f"no envelopes: {data!r:.100}")
    for item in data:
        match item:
            case [int(number), int(previous), bool(is_copy), *said]:
                envelopes.append(Envelope(number, previous, is_copy, said))
            case _:
                raise Unreadable(f"no envelope: {item!r:.100}")
    return envelopes


def spelled_edits(edits: Sequence[Edit]) -> bytes:
    """Return edits as bytes. Raises `Misuse` for arguments that others could not read, such as sets and dates."""
    try:
        spelled = cbor.dumps([[edit.name, dict(edit.arguments)] for edit in edits])
        if edits:
            cbor.loads(spelled)
    except (*cbor.Unencodable, *cbor.Undecodable) as error:
        raise Misuse(f"arguments of an editor that cannot cross to other nodes: {error}") from error
    return spelled


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
