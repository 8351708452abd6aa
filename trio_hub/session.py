"""Who somebody is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Credentials", "Session"]


@attrs.frozen
class Session:
    """Who a connection belongs to: the user's id, and whatever else the application knows (`claims`)."""

    user: str = attrs.field(validator=attrs.validators.instance_of(str))
    claims: Mapping[str, Any] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class Credentials:
    """What somebody showed at the door.

    `token` comes from an ``Authorization: Bearer`` header of the upgrade, or from an `authentication_challenge` on
    the open link; None where nothing was shown. `headers` (lower-case names) and `query` are the upgrade's own.
    """

    token: str | None = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    query: Mapping[str, list[str]] = attrs.field(factory=dict, repr=False)
