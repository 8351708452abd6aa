"""Events that other nodes have said: each is delivered here once, and what is missing before it is told of as a gap."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

import msgspec
import trio

from trio_hub.cluster.backplane import Arrival
from trio_hub.cluster.channels import whom
from trio_hub.cluster.envelopes import Carried, Envelope, Unreadable
from trio_hub.cluster.nodes import Node
from trio_hub.cluster.reliably import Reliably
from trio_hub.errors import Misuse
from trio_hub.hub.hub import Hub
from trio_hub.targets import Target
from trio_hub.wire.bodies import Body

__all__ = ["NONSENSE", "Hearing"]

NONSENSE: Final = (Unreadable, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of what others say who speak another version, or are nobody."""

_RECENT: Final = 10_000  # numbers of what may come twice


class _Event(msgspec.Struct):
    event: str
    data: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Event)


def _check(open_json: bytes) -> None:
    """Raise `ValueError` unless this is an event as an open object: nobody else looks at what nodes say."""
    _decoder.decode(open_json + b"}")


class Hearing:
    """Has `hub` deliver what is heard. Counts events that were `heard`, that came `twice`, and `holes`."""

    def __init__(self, hub: Hub, reliably: Reliably) -> None:
        self._hub = hub
        self._reliably = reliably
        self._recent: OrderedDict[tuple[str, int], None] = OrderedDict()
        self.heard = 0
        self.twice = 0
        self.holes = 0

    async def hear(self, node: Node, arrival: Arrival, envelopes: list[Envelope]) -> None:
        """Deliver what has arrived from a node. What cannot be read is a hole, behind which the others are delivered;
        raises why, in the end.
        """
        target, failure = whom(arrival.channel), None
        for envelope in envelopes:
            try:
                if self._is_new(node, arrival, envelope):
                    await self._deliver(node, arrival, envelope, target)
            except NONSENSE as error:
                failure = error
                if node.is_here:
                    self.tell_hole(arrival.channel)
        if failure is not None:
            raise failure

    def _is_new(self, node: Node, arrival: Arrival, envelope: Envelope) -> bool:
        is_new, is_missing = True, False
        if not arrival.reliable:
            is_new, is_missing = node.heard.note(arrival.channel, envelope.previous, envelope.number)
        if is_missing:
            self.tell_hole(arrival.channel)
        if is_new and not (envelope.is_copy and self.is_known(node, envelope.number)):
            return True
        self.twice += 1
        return False

    async def _deliver(self, node: Node, arrival: Arrival, envelope: Envelope, target: Target | None) -> None:
        carried = Carried.spelled_so(envelope.said, target)
        _check(carried.json)
        self.heard += 1
        expires_at = math.inf if carried.lifetime == math.inf else trio.current_time() + carried.lifetime
        body = Body.of_json(carried.json, delivery=carried.delivery, expires_at=expires_at)
        body.mark = node.name, -envelope.number if arrival.reliable else envelope.number
        to = self._reliably.come(body.mark, carried.target) if arrival.reliable else carried.target
        try:
            await self._hub.publish_carried(body, carried.name, to=to, edits=carried.edits)
        except Misuse as error:
            raise Unreadable(f"event {carried.name!r}: {error}") from error

    def is_known(self, node: Node, number: int) -> bool:
        """Whether this was asked about the same number before."""
        key = node.name, number
        is_known = key in self._recent
        self._recent[key] = None
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return is_known

    def tell_hole(self, channel: str) -> None:
        """Tell those of a gap for whom something on this channel may have been."""
        self.holes += 1
        target = whom(channel)
        if target is not None:
            self._hub.roster.tell_gap(target)
