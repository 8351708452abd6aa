"""Who somebody is: the seam for an application's users, and ready-made ways to fill it.

An application hands in one async function, ``authenticate(credentials) -> Session | None``. It is asked at the upgrade,
with whatever was shown there; what was shown and is no good is refused there, with 401, so that the client backs off.
If it says None to nothing at all, the link is opened, and its first request must be an `authentication_challenge`
(`challenge`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from weakref import WeakSet

from trio_hub.errors import Misuse, RequestFailed
from trio_hub.session import Credentials, Session

__all__ = [
    "Authenticate",
    "by_cookie",
    "by_password",
    "by_token",
    "checked",
    "first_of",
    "guests",
    "known_tokens",
    "reads_cookies",
]

Authenticate = Callable[[Credentials], Awaitable[Session | None]]
"""Says whose these credentials are; None where they are nobody's. Within the opening's deadline.

`RequestFailed` refuses with a status of its own: what it says is what is answered.
"""

_readers: WeakSet[Authenticate] = WeakSet()  # of cookies


async def guests(credentials: Credentials) -> Session:
    """Let everybody in, with any token or none, as one user called ``guest``."""
    return Session("guest")


def known_tokens(tokens: Mapping[str, str]) -> Authenticate:
    """Return an `authenticate` that knows these tokens, each with its user id, and lets nobody else in.

    Each token is a session of its own, so what came in by it can be revoked alone. Raises `Misuse` for an empty one,
    which anybody can show.
    """
    if not all(tokens):
        raise Misuse("an empty token lets everybody in")

    async def authenticate(credentials: Credentials) -> Session | None:
        if not credentials.token:
            return None
        shown = credentials.token.encode()
        found = None
        for token, user in tokens.items():  # every one, in constant time each: how long it takes tells nothing
            if hmac.compare_digest(token.encode(), shown):
                found = user
        return None if found is None else Session(found, id=hashlib.sha256(shown).hexdigest()[:16])

    return authenticate


def by_token(find: Callable[[str], Awaitable[Session | None]]) -> Authenticate:
    """Return an `authenticate` that asks `find` whose a token is: one of the ``Authorization: Bearer`` header, or one
    that was shown in band.
    """

    async def authenticate(credentials: Credentials) -> Session | None:
        return None if credentials.token is None else await find(credentials.token)

    return authenticate


def by_cookie(name: str, find: Callable[[str], Awaitable[Session | None]]) -> Authenticate:
    """Return an `authenticate` that asks `find` whose the value of this cookie is.

    Browsers send cookies whatever page asks, so it cannot be joined with letting all pages in (``origins=["*"]``).
    """

    async def authenticate(credentials: Credentials) -> Session | None:
        value = credentials.cookies.get(name)
        return None if value is None else await find(value)

    _readers.add(authenticate)
    return authenticate


def by_password(find: Callable[[str, str], Awaitable[Session | None]]) -> Authenticate:
    """Return an `authenticate` that asks `find` about the name and password of an ``Authorization: Basic`` header.

    That is what ``wss://name:password@host`` says. Those that are not known are refused, whatever else is shown.
    """

    async def authenticate(credentials: Credentials) -> Session | None:
        if credentials.basic is None:
            return None
        session = await find(*credentials.basic)
        if session is None:
            raise RequestFailed(401, "not_authenticated", "the name or the password is not known")
        return session

    return authenticate


def first_of(*ways: Authenticate) -> Authenticate:
    """Return an `authenticate` that asks one way after the other, until one knows who it is."""

    async def authenticate(credentials: Credentials) -> Session | None:
        for way in ways:
            session = await way(credentials)
            if session is not None:
                return session
        return None

    if any(map(reads_cookies, ways)):
        _readers.add(authenticate)
    return authenticate


def checked(session: Session | None) -> Session | None:
    """Return what an `authenticate` has returned. Raises `TypeError` where that is no session."""
    if session is not None and not isinstance(session, Session):
        raise TypeError(f"`authenticate` returns a Session or None, not {type(session).__name__}")
    return session


def reads_cookies(authenticate: Authenticate) -> bool:
    """Whether this way looks at cookies, as far as we made it."""
    return authenticate in _readers
