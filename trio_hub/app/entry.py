"""Who may come in: what an upgrade asks for, whose it is, and what is said to those who may not.

Plain decisions about one request head, and one question to the application. A refusal is an `HTTPFault`, so that a
stranger is told while nothing is open yet.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import attrs

from trio_hub.app.auth import Authenticate, checked, reads_cookies
from trio_hub.app.callers import host_of, is_origin
from trio_hub.app.sessions import TopicsOf, own_topics
from trio_hub.app.topics import MaySubscribe, check_topic
from trio_hub.errors import Misuse, RequestFailed
from trio_hub.hub.greeting import is_connection_id
from trio_hub.link.heads import HTTPFault, RequestHead
from trio_hub.options import HubOptions
from trio_hub.session import Credentials, Session
from trio_hub.wire.codecs import CODECS, Codec

__all__ = ["Entry", "Wish"]

log = logging.getLogger("trio_hub.server")

_ANY_PAGE = "*"


@attrs.frozen
class Wish:
    """What an upgrade asks for, checked: how to talk, where to go on, and what to hear."""

    codec: Codec
    resume: tuple[str, int] | None
    topics: tuple[str, ...]


class Entry:
    """Decides about everybody who wants to come in. `paths` are where WebSockets are served, `origins` the pages that
    may connect beside those of the server's own host, ``*`` for any.

    Raises `Misuse` for any page together with cookies, by which any page could speak for whoever looks at it.
    """

    def __init__(
        self,
        options: HubOptions,
        *,
        authenticate: Authenticate,
        may_subscribe: MaySubscribe,
        topics_of: TopicsOf,
        origins: Sequence[str],
        paths: Sequence[str],
    ) -> None:
        self._options = options
        for origin in origins:
            if origin != _ANY_PAGE and not is_origin(origin):
                raise Misuse(f"an origin is https://example.org, with a port if need be, and not {origin!r}")
        if _ANY_PAGE in origins and reads_cookies(authenticate):
            raise Misuse("browsers send cookies for every page: with these, say which pages may connect")
        self._authenticate = authenticate
        self._may_subscribe = may_subscribe
        self._topics_of = topics_of
        self._origins = frozenset(origins)
        self._paths = frozenset(paths)

    def wish(self, head: RequestHead) -> Wish:
        """Return what an upgrade asks for. Raises `HTTPFault` where that cannot be."""
        if head.path not in self._paths:
            raise HTTPFault(404, f"WebSockets are served at {', '.join(sorted(self._paths))}")
        if not self._may_connect(head.headers.get("origin"), head.headers.get("host")):
            raise HTTPFault(403, "Pages of this origin may not connect")
        resume = _resume_wish(head.query)
        topics = _topics_wish(head.query, self._options.topics)
        codec = next((CODECS[name] for name in head.subprotocols if name in CODECS), CODECS[None])
        return Wish(codec, resume, topics)

    def _may_connect(self, origin: str | None, host: str | None) -> bool:
        """Whether pages of this origin may connect; programs have none."""
        if origin is None or _ANY_PAGE in self._origins:
            return True
        return origin in self._origins or host_of(origin) == host

    def credentials(self, head: RequestHead, address: str) -> Credentials:
        """Return what is shown in this head. Where any page may connect, cookies and Basic credentials are not:
        browsers send them by themselves, whatever page it is that asks.
        """
        headers: Mapping[str, str] = head.headers
        if _ANY_PAGE in self._origins:
            headers = {name: value for name, value in headers.items() if not _is_sent_by_itself(name, value)}
        return Credentials(head.bearer, headers, head.query, address)

    async def session(self, credentials: Credentials) -> Session | None:
        """Return who asks, or None where they must say so in band.

        Raises `HTTPFault` for a token that is no good, and where the application fails. The deadline is the caller's.
        """
        try:
            session = checked(await self._authenticate(credentials))
        except RequestFailed as failure:
            status = failure.status if 400 <= failure.status <= 599 else 500
            raise HTTPFault(status, failure.message) from failure
        except Exception as error:
            log.exception("`authenticate` failed")
            raise HTTPFault(500, "Nobody can say who you are at the moment") from error
        if session is None and credentials.are_shown:
            raise HTTPFault(401, "What was shown is not known", {"WWW-Authenticate": "Bearer"})
        return session

    def topics(self, session: Session, wish: Wish) -> list[str]:
        """Return what they hear from the beginning: what they wish, and what is theirs without asking.

        Raises `HTTPFault` where they may not hear what they wish, or all of it would be too much.
        """
        try:
            refused = [name for name in wish.topics if not self._may_subscribe(session, name)]
            topics = list(dict.fromkeys([*own_topics(self._topics_of, session), *wish.topics]))
        except Exception as error:
            log.exception("`may_subscribe` or `topics_of` failed")
            raise HTTPFault(500, "Nobody can say what you may hear at the moment") from error
        if refused:
            raise HTTPFault(403, f"You may not subscribe to {refused[0]!r}")
        if len(topics) > self._options.topics:
            raise HTTPFault(400, f"A connection may subscribe to {self._options.topics} topics")
        return topics


def _is_sent_by_itself(name: str, value: str) -> bool:
    """Whether browsers send this header whatever page it is that asks."""
    return name == "cookie" or (name == "authorization" and value.lower().startswith("basic"))


def _resume_wish(query: dict[str, list[str]]) -> tuple[str, int] | None:
    """Return the connection id and next number asked for; Mattermost's client sends an empty id at first."""
    id = query.get("connection_id", [""])[-1]
    number = query.get("sequence_number", ["0"])[-1]
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        raise HTTPFault(400, "sequence_number is not a whole number")
    if not id:
        return None
    if not is_connection_id(id):
        raise HTTPFault(400, "connection_id is not 26 lower-case letters and digits")
    return id, int(number)


def _topics_wish(query: dict[str, list[str]], most: int) -> tuple[str, ...]:
    names = [name for value in query.get("topics", []) for name in value.split(",") if name]
    if len(names) > most:
        raise HTTPFault(400, f"A connection may subscribe to {most} topics")
    for name in names:
        try:
            check_topic(name)
        except RequestFailed as failure:
            raise HTTPFault(400, failure.message) from failure
    return tuple(names)
