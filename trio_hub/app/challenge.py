"""The in-band challenge: who showed nothing at the upgrade says who they are on the open link.

Its first request must be an `authentication_challenge`, in time; a resume is decided only after that. On a link that is
authenticated already, the same request renews the session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import attrs
import msgspec
import trio

from trio_hub.app.auth import Authenticate, checked
from trio_hub.app.sessions import Sessions
from trio_hub.errors import RequestFailed
from trio_hub.link.link import Link
from trio_hub.messages import CloseCode, CloseReason, MalformedRequest, Reply, Request
from trio_hub.peer.connection import Connection
from trio_hub.session import Credentials, Session
from trio_hub.wire.codecs import Codec, FromClient

__all__ = ["CHALLENGE", "again", "challenge"]

CHALLENGE = "authentication_challenge"

_NOT_AUTHENTICATED = CloseReason(CloseCode.NOT_AUTHENTICATED, "the token is not known")
_LATER = CloseReason.come_again(5)
_TOO_LATE = CloseReason(CloseCode.NOT_AUTHENTICATED, "no authentication_challenge came in time")


def _busy() -> RequestFailed:
    return RequestFailed(503, "busy", "nobody can say who you are at the moment")


@attrs.frozen
class Challenge:
    """What an `authentication_challenge` brings."""

    token: str


async def challenge(
    link: Link, codec: Codec, authenticate: Authenticate, credentials: Credentials, within: float
) -> Session | None:
    """Read requests until one brings credentials that are good; return whose they are.

    Other requests are answered with 401 meanwhile; what comes behind the challenge in the same read is held back for
    the connection. None, and the link has ended with 4500, for a bad token or when nothing came within that many
    seconds. Raises `PeerFault` and `LinkLost` as `Link.receive` does.
    """
    asked = None
    with trio.move_on_after(within):
        while True:
            messages = await link.receive()
            for place, message in enumerate(messages):
                parts = codec.from_client(message)
                for part_place, part in enumerate(parts):
                    if isinstance(part, Request) and part.action == CHALLENGE:
                        asked = part
                        session = await _try(link, codec, authenticate, credentials, part)
                        if session is not None:
                            behind = _said_again(link, codec, parts[part_place + 1 :])
                            link.hold_back([*behind, *messages[place + 1 :]])
                        return session
                    _refuse(link, codec, part)
                    await link.writer.wait_for_room()  # who does not read our replies gets to ask no more
            link.writer.flush()
    if asked is not None:
        _answer_failed(link, codec, asked, _busy())
    link.end(_TOO_LATE if asked is None else _LATER)
    return None


async def _try(
    link: Link, codec: Codec, authenticate: Authenticate, credentials: Credentials, request: Request
) -> Session | None:
    try:
        token = msgspec.convert(request.data, Challenge).token
    except msgspec.ValidationError as error:
        _answer(link, codec, Reply(request.seq, None, (400, "bad_request", str(error))))
        link.end(_NOT_AUTHENTICATED)
        return None
    session, failure = None, RequestFailed(401, "not_authenticated", "the token is not known")
    try:
        session = checked(await authenticate(attrs.evolve(credentials, token=token)))
    except RequestFailed as refused:
        failure = refused
    if session is None:
        _answer_failed(link, codec, request, failure)
        link.end(_LATER if failure.status >= 500 or failure.status == 429 else _NOT_AUTHENTICATED)
        return None
    _answer(link, codec, Reply(request.seq))
    return session


def _refuse(link: Link, codec: Codec, said: FromClient) -> None:
    if isinstance(said, Request | MalformedRequest):
        _answer(link, codec, Reply(said.seq, None, (401, "not_authenticated", "authenticate first")))


def _said_again(link: Link, codec: Codec, parts: Iterable[FromClient]) -> list[str | bytes]:
    """Return what stood behind the challenge in one batch, each in a message of its own; answer what is malformed."""
    messages = []
    for part in parts:
        if isinstance(part, MalformedRequest):
            _answer(link, codec, Reply(part.seq, None, (400, "bad_request", part.fault)))
        else:
            messages.append(codec.encode(part))
    return messages


def _answer_failed(link: Link, codec: Codec, request: Request, failure: RequestFailed) -> None:
    _answer(link, codec, Reply(request.seq, None, (failure.status, failure.id, failure.message)))


def _answer(link: Link, codec: Codec, reply: Reply) -> None:
    link.post(codec.encode(reply))
    link.writer.flush()


def again(
    authenticate: Authenticate, sessions: Sessions, within: float
) -> Callable[[Connection, Challenge], Awaitable[None]]:
    """Return the handler of challenges on a link that is authenticated already: a session is renewed. The user stays
    who they are. `authenticate` has so many seconds.
    """

    async def handle(connection: Connection, data: Challenge) -> None:
        since = sessions.moment
        with trio.move_on_after(within):
            session = checked(await authenticate(Credentials(data.token, address=connection.address or "")))
            if session is None or session.user != connection.user:
                raise RequestFailed(401, "not_authenticated", "the token is not known, or is another user's")
            await sessions.renew(connection, session, since)
            return
        raise _busy()

    return handle
