"""JSON Web Tokens: who shows a good one comes in; nobody comes in by any other, and nobody stumbles over it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import math
import sys
import time

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trio_hub import CloseCode, Closed, Misuse, Refused, RequestFailed, Server, Session, claim
from trio_hub.app.jwt import jwt_tokens
from trio_hub.session import Credentials
from trio_hub.testing import open_world

SECRET = "a secret that is long enough to be one, and more of it for HS512"
RSA, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC, OTHER_EC = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def token_of(key=SECRET, algorithm: str = "HS256", headers: dict | None = None, **claims) -> str:
    """Return a token of ann that is good for an hour, with other claims where they are said; None leaves one out."""
    payload = {"sub": "ann", "exp": int(time.time()) + 3600, **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.PyJWT().encode(payload, key, algorithm, headers) if _is_sound(payload) else _by_hand(payload)


def _is_sound(payload) -> bool:
    return isinstance(payload.get("sub", ""), str)


def _by_hand(payload, header: dict | None = None) -> str:
    """Return a token that PyJWT would not make, with a good HS256 signature all the same."""
    signed = spelled(header or {"alg": "HS256", "typ": "JWT"}, payload)
    return f"{signed}.{_part(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"


def spelled(header, payload) -> str:
    """Return what is signed of a token."""
    return ".".join([_part(json.dumps(each).encode()) for each in (header, payload)])


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def whose(token: str, key=SECRET, algorithms=("HS256",), **rules) -> Session | None:
    return await jwt_tokens(key, algorithms=algorithms, **rules)(Credentials(token))


# -- good ones


async def test_a_token_says_who_somebody_is_and_for_how_long():
    session = await whose(token_of(role="editor", sid="phone", jti="t1"))
    assert (session.user, session.id, session.claims["role"]) == ("ann", "phone", "editor")
    assert 3590 < session.lasts <= 3600
    assert not session.extended


@pytest.mark.parametrize(("claims", "id"), [({}, ""), ({"jti": "t1"}, "t1"), ({"sid": "", "jti": "t1"}, "t1")])
async def test_where_no_session_is_named_the_token_is_one(claims, id):
    assert (await whose(token_of(**claims))).id == id


@pytest.mark.parametrize(
    ("private", "algorithm"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256")], ids=["RS256", "PS384", "ES256"]
)
async def test_public_keys_are_taken_in_every_form(private, algorithm):
    token = token_of(private, algorithm)
    for key in (pem(private), pem(private).decode(), private.public_key()):
        assert (await whose(token, key, [algorithm])).user == "ann"
    assert (
        await whose(token, pem(OTHER_RSA if private is RSA else ec.generate_private_key(ec.SECP256R1())), [algorithm])
        is None
    )


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_secrets_are_text_or_bytes(algorithm):
    for key in (SECRET, SECRET.encode()):
        assert (await whose(token_of(SECRET, algorithm), key, [algorithm])).user == "ann"
        assert await whose(token_of(SECRET[::-1], algorithm), key, [algorithm]) is None


async def test_without_an_end_it_is_refused_unless_that_is_allowed():
    token = token_of(exp=None)
    assert await whose(token) is None
    assert (await whose(token, allow_endless=True)).lasts == math.inf
    assert (await whose(token_of(), allow_endless=True)).lasts <= 3600


async def test_clocks_may_differ_by_the_leeway():
    past, future = token_of(exp=int(time.time()) - 5), token_of(nbf=int(time.time()) + 5)
    assert await whose(past) is await whose(future) is None
    assert 0 < (await whose(past, leeway=30)).lasts <= 25
    assert (await whose(future, leeway=30)).user == "ann"


async def test_an_application_makes_its_own_sessions():
    async def find(payload) -> Session | None:
        return Session(payload["email"], id="x", lasts=5) if "email" in payload else None

    assert await whose(token_of(email="ann@example.org"), session=find) == Session("ann@example.org", id="x", lasts=5)
    assert await whose(token_of(), session=find) is None
    session = await whose(token_of(), session=lambda payload: Session(payload["sub"].upper()))
    assert session.user == "ANN"
    assert session.lasts <= 3600, "no longer than the token"


async def test_who_shows_nothing_is_nobody():
    assert await jwt_tokens(SECRET, algorithms=["HS256"])(Credentials(None)) is None


# -- bad ones

AUDIENCE = {"audience": "hub"}
ISSUER = {"issuer": "https://id.example"}
NOW = int(time.time())

BAD = {
    "expired": (token_of(exp=NOW - 1), {}),
    "not yet valid": (token_of(nbf=NOW + 86_400), {}),
    "of the future": (token_of(iat=NOW + 86_400), {}),
    "an endless end": (_by_hand({"sub": "ann", "exp": math.inf}), {}),
    "an end that is no number": (_by_hand({"sub": "ann", "exp": "soon"}), {}),
    "an end that is a list": (_by_hand({"sub": "ann", "exp": [1]}), {"allow_endless": True}),
    "for somebody else": (token_of(aud="shop"), AUDIENCE),
    "for several others": (token_of(aud=["shop", "mail"]), AUDIENCE),
    "for nobody in particular": (token_of(), AUDIENCE),
    "for anybody but us": (token_of(aud="shop"), {}),
    "an audience that is no text": (token_of(aud=5), AUDIENCE),
    "of somebody else": (token_of(iss="https://evil.example"), ISSUER),
    "of nobody": (token_of(), ISSUER),
    "no sub": (token_of(sub=None), {}),
    "an empty sub": (token_of(sub=""), {}),
    "a sub that is a number": (token_of(sub=5), {}),
    "a sub that is a list": (token_of(sub=["ann"]), {}),
    "a session that is a number": (token_of(sid=5), {}),
    "a payload that is a list": (_by_hand(["ann"]), {}),
    "unsigned": (jwt.encode({"sub": "ann", "exp": NOW + 3600}, None, "none"), {}),
    "unsigned in capitals": (spelled({"alg": "NONE"}, {"sub": "ann", "exp": NOW + 3600}) + ".", {}),
    "another algorithm": (token_of(SECRET, "HS512"), {}),
    "an algorithm that is a list": (_by_hand({"sub": "ann", "exp": NOW + 3600}, {"alg": ["HS256"]}), {}),
    "no algorithm": (_by_hand({"sub": "ann", "exp": NOW + 3600}, {"typ": "JWT"}), {}),
    "what must be known is not": (_by_hand({"sub": "ann", "exp": NOW + 3600}, {"alg": "HS256", "crit": ["x"]}), {}),
    "another secret": (token_of(SECRET[::-1]), {}),
    "half": (token_of()[:-10], {}),
    "no signature": (token_of().rpartition(".")[0] + ".", {}),
    "two parts": (token_of().rpartition(".")[0], {}),
    "nothing": ("", {}),
    "words": ("not a token", {}),
    "dots": ("..", {}),
    "other letters": ("é.ü.ß", {}),
    "half a character": ("\ud800.a.b", {}),
    "a deep header": (_part(b"[" * 100_000) + ".e30.", {}),
    "a header that is no text": (_part(b"\xff\xfe") + ".e30.", {}),
}


def test_a_token_like_the_bad_ones_is_good():
    """So that each of them is refused for what it is called."""
    assert jwt.decode(_by_hand({"sub": "ann", "exp": NOW + 3600}), SECRET, ["HS256"])["sub"] == "ann"


@pytest.mark.parametrize(("token", "rules"), BAD.values(), ids=BAD.keys())
async def test_a_bad_token_is_nobodys_and_nothing_of_it_is_logged(token, rules, caplog):
    with caplog.at_level(logging.DEBUG):
        assert await whose(token, **rules) is None
    for part in [part for part in token.split(".") if len(part) > 3]:
        assert part not in caplog.text
    assert "ann" not in caplog.text
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


async def test_the_right_audience_and_issuer_are_let_in():
    token = token_of(aud=["shop", "hub"], iss="https://id.example")
    assert (await whose(token, **AUDIENCE, **ISSUER)).user == "ann"
    assert (await whose(token, audience=["hub", "chat"])).user == "ann"


async def test_a_public_key_is_no_secret():
    """Everybody has the public key; a token that is signed with it as if it were a secret is nobody's."""
    signed = spelled({"alg": "HS256"}, {"sub": "eve", "exp": NOW + 3600})
    confused = f"{signed}.{_part(hmac.digest(pem(RSA), signed.encode(), hashlib.sha256))}"
    assert await whose(confused, pem(RSA), ["RS256"]) is None
    assert await whose(confused, lambda header: pem(RSA), ["RS256", "ES256"]) is None
    assert await whose(confused, lambda header: pem(RSA), ["HS256"]) is None


# -- keys that are found


async def test_a_key_is_found_by_what_the_header_says():
    keys = {"one": pem(RSA), "two": pem(EC)}
    asked = []

    async def find(header):
        asked.append(header["alg"])
        return keys[header["kid"]]

    way = jwt_tokens(find, algorithms=["RS256", "ES256"])
    for name, private, algorithm in [("one", RSA, "RS256"), ("two", EC, "ES256")]:
        assert (await way(Credentials(token_of(private, algorithm, {"kid": name})))).user == "ann"
    for headers in ({"kid": "two"}, {"kid": "three"}, {}):  # of another kind, unknown, not said
        assert await way(Credentials(token_of(RSA, "RS256", headers))) is None
    assert asked == ["RS256", "ES256", "RS256", "RS256", "RS256"]
    assert await way(Credentials(token_of())) is None
    assert len(asked) == 5, "about an algorithm that is not ours, nobody is asked"


async def test_a_set_of_keys_is_used_as_it_is():
    key = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "one", "alg": "RS256"}
    keys = jwt.PyJWKSet.from_dict({"keys": [key]})
    way = jwt_tokens(lambda header: keys[header["kid"]], algorithms=["RS256"])
    assert (await way(Credentials(token_of(RSA, "RS256", {"kid": "one"})))).user == "ann"
    assert await way(Credentials(token_of(RSA, "RS256", {"kid": "two"}))) is None
    assert await way(Credentials(token_of(OTHER_RSA, "RS256", {"kid": "one"}))) is None


async def test_where_no_key_can_be_found_at_the_moment_the_application_says_so(autojump_clock):
    def find(header):
        raise RequestFailed(503, "no_keys", "the keys cannot be had")

    async with open_world(authenticate=jwt_tokens(find, algorithms=["HS256"])) as world:
        with pytest.raises(Refused, match="503"):
            async with world.open_link(headers={"Authorization": f"Bearer {token_of()}"}):
                pass


async def test_a_weak_key_that_is_found_is_told_to_us_and_not_to_them(autojump_clock, caplog):
    way = jwt_tokens(lambda header: "hunter2", algorithms=["HS256"])
    async with open_world(authenticate=way) as world:
        with pytest.raises(Refused, match="500") as caught:
            async with world.open_link(headers={"Authorization": f"Bearer {token_of()}"}):
                pass
    assert b"bytes" not in caught.value.body
    assert "32 random bytes or more, not 7" in caplog.text
    assert "hunter2" not in caplog.text
    assert token_of().rpartition(".")[2] not in caplog.text


# -- at the start


@pytest.mark.parametrize(
    ("key", "algorithms", "words"),
    [
        (SECRET, [], "which algorithms"),
        (SECRET, "HS256", "which algorithms"),
        (SECRET, ["none"], "nobody has signed"),
        (SECRET, ["HS256", "None"], "nobody has signed"),
        (SECRET, ["HS255"], "HS255"),
        (pem(RSA), ["HS256", "RS256"], "do not go together"),
        (lambda header: None, ["ES256", "HS256"], "do not go together"),
        (SECRET[:31], ["HS256"], "32 random bytes or more, not 31"),
        (SECRET[:63].encode(), ["HS256", "HS512"], "64 random bytes or more, not 63"),
        ("", ["HS256"], "HS256"),
        (pem(RSA), ["HS256"], "none for HS256"),
        (SECRET, ["RS256"], "none for RS256"),
        (pem(EC), ["RS256"], "none for RS256"),
        (pem(RSA), ["RS256", "ES256"], "none for ES256"),
        (None, ["HS256"], "none for HS256"),
        (rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key(), ["RS256"], "2048 bits"),
    ],
)
def test_what_would_let_anybody_in_is_refused_at_the_start(key, algorithms, words):
    with pytest.raises(Misuse, match=words) as caught:
        jwt_tokens(key, algorithms=algorithms)
    assert "secret that is" not in str(caught.value)


@pytest.mark.parametrize("leeway", [-1, math.inf, math.nan])
def test_a_leeway_is_seconds(leeway):
    with pytest.raises(Misuse, match="leeway"):
        jwt_tokens(SECRET, algorithms=["HS256"], leeway=leeway)


def test_where_pyjwt_is_missing_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(Misuse, match=r"install trio-hub\[jwt\]"):
        jwt_tokens(SECRET, algorithms=["HS256"])


# -- on the wire


def server_for(**arguments) -> Server:
    return Server(authenticate=jwt_tokens(SECRET, algorithms=["HS256"]), **arguments)


async def test_a_bad_token_is_refused_with_401_and_a_good_one_opens_the_link(autojump_clock):
    async with open_world(server_for()) as world:
        for bad in (token_of(exp=NOW - 1), "garbage"):
            with pytest.raises(Refused, match="401"):
                async with world.open_link(headers={"Authorization": f"Bearer {bad}"}):
                    pass
        async with world.open_client(token=token_of(role="editor")):
            (connection,) = world.server.hub.connections(claim("role", "editor"))
            assert connection.user == "ann"


async def test_a_page_shows_its_token_in_band(autojump_clock):
    async with open_world(server_for()) as world:
        for token, status in [(token_of(), "OK"), (token_of(exp=NOW - 1), "FAIL"), ("é", "FAIL")]:
            async with world.open_link() as link:
                request = {"seq": 1, "action": "authentication_challenge", "data": {"token": token}}
                await link.send(json.dumps(request))
                assert json.loads(await anext(link))["status"] == status


async def test_a_newer_token_renews_the_session_on_the_open_link(autojump_clock):
    first = token_of(exp=int(time.time()) + 20)
    async with open_world(server_for()) as world, world.open_client(token=first) as client:
        await trio.sleep(15)
        await client.authenticate(token_of(exp=int(time.time()) + 1000, role="editor"))
        await trio.sleep(500)
        (connection,) = world.server.hub.connections(claim("role", "editor"))
        assert connection.statistics().links == 1
        for bad in (token_of(exp=NOW - 1), token_of(sub="eve")):
            with pytest.raises(RequestFailed, match="401"):
                await client.authenticate(bad)
        assert connection.user == "ann"


async def test_when_the_token_has_run_out_the_link_is_closed_with_4502(autojump_clock):
    async with (
        open_world(server_for()) as world,
        world.open_client(token=token_of(exp=int(time.time()) + 60)) as client,
    ):
        begun = trio.current_time()
        with pytest.raises(Closed) as caught:
            await client.receive()
        assert caught.value.close.code == CloseCode.SESSION_EXPIRED
        assert 55 < trio.current_time() - begun <= 61.5
