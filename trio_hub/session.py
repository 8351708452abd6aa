"""Who somebody is."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Credentials", "Session"]


def _is_sayable(session: Session, attribute: attrs.Attribute[str], user: str) -> None:
    """Refuse a name that nobody can have, or that cannot be said in any message."""
    if not user:
        raise ValueError("a user has a name")
    user.encode()  # not so with half of a surrogate pair, which JSON may hold


def _is_mapping(session: Session, attribute: attrs.Attribute[Mapping[str, Any]], claims: Mapping[str, Any]) -> None:
    if not isinstance(claims, Mapping):
        raise TypeError(f"claims are a mapping, not {type(claims).__name__}")


@attrs.frozen
class Session:
    """Who a connection belongs to: the user's id, and whatever else the application knows (`claims`).

    `id` tells one session of the user from another (a login, a device): it is what `session` targets, and what can be
    revoked alone. `lasts` is for how many seconds it is good, from the moment it was shown; when they have run out its
    connections are closed with 4502. `extended` says that each request of theirs starts that time anew.
    """

    user: str = attrs.field(validator=[attrs.validators.instance_of(str), _is_sayable])
    claims: Mapping[str, Any] = attrs.field(factory=dict, validator=_is_mapping, repr=False)
    id: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    lasts: float = attrs.field(default=math.inf, validator=attrs.validators.gt(0))
    extended: bool = False


@attrs.frozen
class Credentials:
    """What somebody showed at the door.

    `token` comes from an ``Authorization: Bearer`` header of the upgrade, or from an `authentication_challenge` on
    the open link; None where nothing was shown. `headers` (lower-case names) and `query` are the upgrade's own,
    `address` is where it came from (empty for a Unix socket).
    """

    token: str | None = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    query: Mapping[str, list[str]] = attrs.field(factory=dict, repr=False)
    address: str = ""

    @property
    def ticket(self) -> str | None:
        """The ticket in the query of the URL: the one secret that may stand there, since it is good for one use."""
        return self.query.get("ticket", [None])[-1]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; of several with one name the first, which is the one of the most specific path."""
        cookies: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            name, equals, value = pair.strip().partition("=")
            if equals:
                cookies.setdefault(name, value.strip('"'))
        return cookies

    @property
    def basic(self) -> tuple[str, str] | None:
        """The name and password of an ``Authorization: Basic`` header (RFC 7617)."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:
            return None
        return (name, password) if colon else None

    @property
    def are_shown(self) -> bool:
        """Whether a token or a ticket was shown. Cookies and Basic credentials may be there for somebody before us."""
        return self.token is not None or self.ticket is not None
