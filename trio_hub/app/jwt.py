"""JSON Web Tokens (RFC 7519): somebody else has signed who a user is, and we know the key.

What is believed of a token is said by the application, never by the token itself (RFC 8725): which algorithms, whose
key, for whom it was made. A token is looked at with the key of the one algorithm that it names, if that is among ours,
so that a public key is never taken for a secret. PyJWT does the cryptography; it comes with the extra ``jwt``.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

from trio_hub.app.auth import Authenticate, by_token
from trio_hub.errors import Misuse
from trio_hub.session import Session

__all__ = ["KeyOf", "SessionOf", "jwt_tokens", "session_of"]

log = logging.getLogger("trio_hub.server")

KeyOf = Callable[[Mapping[str, Any]], Any]
"""Returns the key for a token with this header, which nobody has verified: None, or a `KeyError`, where there is none.

It may be async.
"""

SessionOf = Callable[[Mapping[str, Any]], Session | Awaitable[Session | None] | None]
"""Returns whose session the payload of a good token is; None where it is nobody's. It may be async."""

_LEAST_RSA = 2048  # bits, RFC 7518 section 3.3


def session_of(payload: Mapping[str, Any]) -> Session | None:
    """Return a session of the user ``sub``, with the payload as its claims, and ``sid``, or else ``jti``, as its id.

    None without ``sub``, or where one of these is no text.
    """
    user, id = payload.get("sub"), payload.get("sid") or payload.get("jti") or ""
    if not (isinstance(user, str) and user and isinstance(id, str)):
        return None
    return Session(user, payload, id)


def jwt_tokens(
    key: Any,
    *,
    algorithms: Sequence[str],
    audience: str | Sequence[str] | None = None,
    issuer: str | None = None,
    leeway: float = 0.0,
    session: SessionOf = session_of,
    allow_endless: bool = False,
) -> Authenticate:
    """Return an `authenticate` that lets in whoever shows a token that is signed with `key` by one of `algorithms`.

    `key` is a secret, or a public key (PEM, of ``cryptography``, or a PyJWK), or a function that finds it, for sets of
    keys: see `KeyOf`. `audience` and `issuer` are what the token must say in ``aud`` and ``iss``; without `audience`, a
    token that is meant for anybody in particular is not for us. `session` makes a session of the payload. It lasts
    until the token's ``exp``, plus the `leeway`: seconds by which clocks may differ. A token without ``exp`` is no
    good, unless it may be endless (`allow_endless`).

    Raises `Misuse` where PyJWT is missing, for algorithms that must not stand together, and for a key that is weak, or
    none of theirs. A weak key that was found later fails the upgrade, with 500.
    """
    if not 0 <= leeway < math.inf:
        raise Misuse("a leeway is seconds, 0 or more")
    _check_algorithms(algorithms)
    rules = _Rules(frozenset(algorithms), audience, issuer, leeway, allow_endless)
    if not callable(key):
        _check_key(key, algorithms)

    async def find(token: str) -> Session | None:
        header = rules.header_of(token)
        if header is None:
            return None
        found = await _find_key(key, header) if callable(key) else key
        payload = None if found is None else rules.payload_of(token, header["alg"], found)
        if payload is None:
            return None
        lasts = rules.lasts(payload)
        whose: Session | None = await _awaited(session(payload))
        return (
            None
            if whose is None
            else attrs.evolve(whose, lasts=min(whose.lasts, lasts), extended=whose.extended and lasts == math.inf)
        )

    return by_token(find)


@attrs.frozen
class _Rules:
    """What a token must be like."""

    algorithms: frozenset[str]
    audience: str | Sequence[str] | None
    issuer: str | None
    leeway: float
    allow_endless: bool

    def header_of(self, token: str) -> Mapping[str, Any] | None:
        """Return the header, of which nothing is verified, but that its algorithm is one of ours; else None."""
        jwt = _pyjwt()
        try:
            header: dict[str, Any] = jwt.get_unverified_header(token)
            if header["alg"] not in self.algorithms or "crit" in header:  # we know no extensions that must be known
                raise jwt.InvalidAlgorithmError
        except Exception as error:  # whatever a stranger's text makes of a parser
            _tell(error)
            return None
        return header

    def payload_of(self, token: str, algorithm: str, key: Any) -> Mapping[str, Any] | None:
        """Return the payload of a token that is good by this key, and at this time; else None.

        Raises `Misuse` for a key that is too weak.
        """
        jwt = _pyjwt()
        try:
            prepared = _prepared(key, algorithm)
        except Exception as error:  # who writes tokens chooses which of our keys meets which of our algorithms
            _tell(error)
            return None
        _check_strength(prepared, algorithm)
        try:
            payload: dict[str, Any] = jwt.decode(
                token,
                prepared,
                algorithms=[algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=self.leeway,
                options={"require": [] if self.allow_endless else ["exp"]},
            )
            if self.lasts(payload) <= 0:
                raise jwt.ExpiredSignatureError
        except Exception as error:
            _tell(error)
            return None
        return payload

    def lasts(self, payload: Mapping[str, Any]) -> float:
        """Return for how many seconds from now a token with this payload is good."""
        ends_at = payload.get("exp")
        return math.inf if ends_at is None else int(ends_at) + self.leeway - time.time()


def _tell(error: Exception) -> None:
    """Tell why a token is no good, but nothing of what it says: it may be good elsewhere."""
    log.debug("a token is no good: %s", type(error).__name__)


async def _find_key(find: KeyOf, header: Mapping[str, Any]) -> Any:
    try:
        return await _awaited(find(header))
    except KeyError:
        return None


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


# -- algorithms and keys


def _check_algorithms(algorithms: Sequence[str]) -> None:
    """Raise `Misuse` unless these can stand together."""
    jwt = _pyjwt()
    if isinstance(algorithms, str) or not algorithms:
        raise Misuse('say which algorithms tokens are signed by, as in ["RS256"]')
    for name in algorithms:
        if name.lower() == "none":
            raise Misuse("a token that nobody has signed says nothing: none is no algorithm")
        try:
            jwt.get_algorithm_by_name(name)
        except NotImplementedError as error:
            raise Misuse(f"{name}: {error}") from error
    if len({_is_symmetric(name) for name in algorithms}) > 1:
        raise Misuse("secrets and public keys do not go together: who knows the public key would sign with it")


def _is_symmetric(algorithm: str) -> bool:
    return algorithm.startswith("HS")


def _is_rsa(algorithm: str) -> bool:
    return algorithm.startswith(("RS", "PS"))


def _check_key(key: Any, algorithms: Sequence[str]) -> None:
    """Raise `Misuse` unless this key is good for each of these algorithms."""
    for name in algorithms:
        try:
            prepared = _prepared(key, name)
        except Exception as error:  # by its name alone: what it says may hold the key
            raise Misuse(f"the key is none for {name}: {type(error).__name__}") from None
        _check_strength(prepared, name)


def _prepared(key: Any, algorithm: str) -> Any:
    """Return a key as this algorithm takes it. Raises whatever PyJWT does, or `TypeError`, for one of another kind."""
    jwt = _pyjwt()
    if isinstance(key, jwt.PyJWK):
        key = key.key
    prepared = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    if _is_rsa(algorithm):
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

        if not isinstance(prepared, RSAPrivateKey | RSAPublicKey):  # older PyJWT take any kind of PEM
            raise TypeError("not an RSA key")
    return prepared


def _check_strength(prepared: Any, algorithm: str) -> None:
    """Raise `Misuse` for a key that is shorter than it must be (RFC 7518 sections 3.2, 3.3 and 3.5)."""
    if _is_symmetric(algorithm):
        least = int(algorithm[2:]) // 8
        if len(prepared) < least:
            raise Misuse(f"a key for {algorithm} is {least} random bytes or more, not {len(prepared)}")
    elif _is_rsa(algorithm) and prepared.key_size < _LEAST_RSA:
        raise Misuse(f"a key for {algorithm} has {_LEAST_RSA} bits or more, not {prepared.key_size}")


def _pyjwt() -> Any:
    """Return PyJWT. Raises `Misuse` where it is not installed."""
    try:
        import jwt
    except ImportError as error:
        raise Misuse("JSON Web Tokens need PyJWT: install trio-hub[jwt]") from error
    return jwt
