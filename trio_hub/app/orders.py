"""What back ends ask for by plain HTTP, as they spell it."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import attrs
import msgspec

from trio_hub.app.callers import is_origin
from trio_hub.app.spelling import target_of
from trio_hub.app.topics import SpelledDelivery, delivery_of
from trio_hub.delivery import Delivery
from trio_hub.errors import RequestFailed
from trio_hub.hub.editors import Edit
from trio_hub.link.heads import HTTPFault
from trio_hub.messages import Event
from trio_hub.session import Session
from trio_hub.targets import Target

__all__ = ["Publication", "TicketOrder", "publications_in", "ticket_order_in"]

T = TypeVar("T")


@attrs.frozen
class Publication:
    """One event as `POST /publish` spells it."""

    event: str
    to: Any
    data: Any = attrs.field(factory=dict)
    delivery: SpelledDelivery = "must"
    editors: Sequence[Edit] = ()

    def read(self, place: str) -> tuple[Event, Target, Delivery, Sequence[Edit]]:
        """Return what is to be published. Raises `HTTPFault` for a form that we do not know; it stands at `place`."""
        try:
            target, delivery = target_of(self.to, f"{place}.to"), delivery_of(self.delivery, place)
        except RequestFailed as failure:
            raise HTTPFault(failure.status, failure.message) from failure
        return Event(self.event, self.data), target, delivery, self.editors


def publications_in(body: bytes) -> tuple[list[Publication], bool]:
    """Return the publications in a body, and whether it is an array of them. Raises `HTTPFault` for what is none."""
    if body.lstrip().startswith(b"["):
        return _decoded(body, list[Publication]), True
    return [_decoded(body, Publication)], False


class TicketOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ticket as `POST /tickets` spells it: whose session it opens, for how many seconds that `lasts` (for ever, where
    nothing is said), and from where alone it is good.

    Members that we do not know are refused: a limit that is misspelt would be none.
    """

    user: Annotated[str, msgspec.Meta(min_length=1)]
    claims: dict[str, Any] = {}
    session: str = ""
    lasts: Annotated[float, msgspec.Meta(gt=0)] | None = None
    extended: bool = False
    origin: str | None = None
    address: str | None = None

    def opened(self) -> Session:
        """Return the session that the ticket opens."""
        lasts = math.inf if self.lasts is None else self.lasts
        return Session(self.user, self.claims, self.session, lasts, self.extended)

    def checked_origin(self) -> str | None:
        """Return it, as browsers say it. Raises `HTTPFault` for what none of them says."""
        if self.origin is not None and not is_origin(self.origin):
            raise HTTPFault(400, "Expected scheme and host, as https://example.org - at `$.origin`")
        return self.origin

    def checked_address(self) -> str | None:
        """Return it, as sockets say it. Raises `HTTPFault` for what is none."""
        try:
            return None if self.address is None else str(ipaddress.ip_address(self.address))
        except ValueError:
            raise HTTPFault(400, "Expected an IP address - at `$.address`") from None


def ticket_order_in(body: bytes) -> TicketOrder:
    """Return the order in a body. Raises `HTTPFault` for what is none."""
    return _decoded(body, TicketOrder)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPFault(400, str(error)) from error
