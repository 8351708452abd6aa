"""Ways to say who one is: each looks at what it is for, and at nothing else."""

from __future__ import annotations

import base64
import json

import pytest

from trio_hub import (
    CloseCode,
    Misuse,
    Refused,
    RequestFailed,
    Server,
    Session,
    by_cookie,
    by_password,
    by_token,
    first_of,
    known_tokens,
)
from trio_hub.session import Credentials
from trio_hub.testing import open_world


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def test_an_empty_token_is_nobodys():
    with pytest.raises(Misuse, match="empty token"):
        known_tokens({"t": "ann", "": "bob"})


async def test_a_token_that_has_become_empty_is_nobodys_either():
    tokens = {"t": "ann"}
    authenticate = known_tokens(tokens)
    tokens[""] = "bob"
    assert await authenticate(Credentials("")) is None


async def named(*shown: str) -> Session:
    return Session(" ".join(shown))


async def nobody(*shown: str) -> None:
    return None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {}),
        ({"cookie": "sid=abc"}, {"sid": "abc"}),
        ({"cookie": 'a=1; sid="x=y"; ;nothing; b='}, {"a": "1", "sid": "x=y", "b": ""}),
        ({"cookie": "sid=specific; sid=general"}, {"sid": "specific"}),
    ],
)
def test_cookies(headers, expected):
    assert Credentials(None, headers).cookies == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        (basic("ann:secret"), ("ann", "secret")),
        (basic("ann:a:b"), ("ann", "a:b")),
        (basic("grü:ß"), ("grü", "ß")),
        (basic("ann"), None),
        ({"authorization": "basic !!!"}, None),
        ({"authorization": "Basic /w=="}, None),
        ({"authorization": "Bearer x"}, None),
    ],
)
def test_basic_credentials(headers, expected):
    assert Credentials(None, headers).basic == expected


async def test_each_way_looks_at_its_own():
    everything = Credentials("t", {**basic("ann:pw"), "cookie": "sid=c"})
    assert (await by_token(named)(everything)).user == "t"
    assert (await by_cookie("sid", named)(everything)).user == "c"
    assert (await by_password(named)(everything)).user == "ann pw"
    for way in (by_token(named), by_cookie("other", named), by_password(named)):
        assert await way(Credentials(None, {"cookie": "sid=c"})) is None


async def test_a_wrong_password_is_refused_at_once(autojump_clock):
    way = first_of(by_password(nobody), by_token(named))
    async with open_world(authenticate=way) as world:
        with pytest.raises(Refused, match="401"):
            async with world.open_link(headers=basic("ann:wrong")):
                pass


async def test_an_application_refuses_with_a_status_of_its_own(autojump_clock):
    async def authenticate(credentials):
        if credentials.token == "banned":
            raise RequestFailed(403, "banned", "you are banned until Sunday")
        return

    async with open_world(authenticate=authenticate) as world:
        with pytest.raises(Refused, match="403") as caught:
            async with world.open_link(headers={"Authorization": "Bearer banned"}):
                pass
        assert b"until Sunday" in caught.value.body
        async with world.open_link() as link:
            await link.send(json.dumps({"seq": 1, "action": "authentication_challenge", "data": {"token": "banned"}}))
            reply = json.loads(await anext(link))
            assert reply["error"]["status_code"] == 403
            assert [message async for message in link] == []
            assert link.closed.code == CloseCode.NOT_AUTHENTICATED


async def test_the_first_that_knows_decides():
    way = first_of(by_cookie("sid", nobody), by_token(named), by_password(named))
    assert (await way(Credentials("t", {**basic("ann:pw"), "cookie": "sid=c"}))).user == "t"
    assert (await way(Credentials(None, basic("ann:pw")))).user == "ann pw"
    assert await way(Credentials(None)) is None


async def test_every_token_is_a_session_of_its_own():
    way = known_tokens({"one": "ann", "two": "ann"})
    one, two, again = [await way(Credentials(token)) for token in ("one", "two", "one")]
    assert one.id == again.id != two.id
    assert "one" not in one.id


def test_any_page_and_cookies_are_refused_at_the_start():
    for way in (by_cookie("sid", named), first_of(by_token(named), by_cookie("sid", named))):
        with pytest.raises(Misuse, match="cookies"):
            Server(authenticate=way, origins=["*"])
    Server(authenticate=by_token(named), origins=["*"])


async def test_where_any_page_may_connect_cookies_are_not_shown(autojump_clock):
    shown = []

    async def authenticate(credentials):
        shown.append(credentials)
        return Session("ann")

    headers = {"Origin": "https://any.example", "Cookie": "sid=c"}
    async with open_world(authenticate=authenticate, origins=["*"]) as world, world.open_link(headers=headers):
        assert shown[0].cookies == {}
    listed = ["https://any.example"]
    async with (
        open_world(authenticate=authenticate, origins=listed) as world,
        world.open_link(headers=headers),
    ):
        assert shown[1].cookies == {"sid": "c"}


@pytest.mark.parametrize("origin", ["https://example.org/", "example.org", "null", ""])
def test_what_is_no_origin_is_said_at_the_start(origin):
    with pytest.raises(Misuse, match="origin"):
        Server(origins=[origin])


def test_rules_are_plain_functions():
    async def may(session, name, event=None):
        return False

    for rule in ("may_subscribe", "may_publish", "topics_of"):
        with pytest.raises(Misuse, match="plain function"):
            Server(**{rule: may})


@pytest.mark.parametrize("answer", ["ann", True, {"user": "ann"}])
async def test_what_is_no_session_lets_nobody_in(answer, autojump_clock, caplog):
    async def authenticate(credentials):
        return answer

    async with open_world(authenticate=authenticate) as world:
        with pytest.raises(Refused, match="500"):
            async with world.open_link():
                pass
    assert "returns a Session" in caplog.text


@pytest.mark.parametrize(("user", "claims"), [("", {}), (None, {}), ("\ud800", {}), ("ann", None)])
def test_what_no_session_can_be(user, claims):
    with pytest.raises((TypeError, ValueError)):
        Session(user, claims)


async def test_nothing_secret_is_shown_in_a_repr():
    credentials = Credentials("t0ken", {**basic("ann:passw0rd"), "cookie": "sid=c00kie"}, {"ticket": ["t1cket"]})
    session = Session("ann", {"email": "private"})
    for secret in ("t0ken", "passw0rd", "c00kie", "t1cket", "private"):
        assert secret not in repr(credentials) + repr(session)
