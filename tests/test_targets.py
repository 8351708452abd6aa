"""Targets: data that is put together, and what of it a recipient may know."""

from __future__ import annotations

import pytest

from trio_hub import (
    Event,
    Misuse,
    Session,
    Target,
    all_of,
    any_of,
    claim,
    connection,
    everyone,
    session,
    topic,
    user,
    users,
)
from trio_hub.targets import meets_claim
from trio_hub.testing import open_world


def test_a_chain_stays_flat():
    chain = topic("0")
    for n in range(1, 1000):
        chain = chain | topic(str(n))
    assert len(chain.parts) == 1000
    assert chain == any_of(*(topic(str(n)) for n in range(1000)))
    omitted = everyone() - user("a") - user("b")
    assert omitted.parts == (everyone(), user("a"), user("b"))
    assert (topic("a") & topic("b") & topic("c")).parts == (topic("a"), topic("b"), topic("c"))


def test_one_of_one_is_that_one():
    assert any_of(topic("a")) == topic("a")
    assert all_of(topic("a")) == topic("a")
    assert users("ann") == user("ann")


@pytest.mark.parametrize(
    ("target", "public"),
    [
        (topic("town") - user("ann") - connection("x"), {"topic": "town"}),
        (topic("town") & claim("role", "editor"), {"topic": "town"}),
        (claim("role", "editor") & topic("town"), {"topic": "town"}),
        (topic("town") | topic("sea"), {}),
        (users("ann", "bob"), {}),
        (claim("role", "editor"), {}),
        (session("s1"), {}),
        (everyone() - user("ann"), {}),
    ],
)
def test_a_recipient_may_know_what_all_of_them_have_in_common(target, public):
    assert target.public() == public


def test_connection_ids_are_renamed_wherever_they_stand():
    target = (topic("a") - connection("x")) | connection("y")
    assert target.renamed(str.upper) == (topic("a") - connection("X")) | connection("Y")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target("planet", "mars"),
        lambda: topic(""),
        lambda: claim("", "x"),
        lambda: claim("banned"),
        lambda: Target("claim", "banned"),
        lambda: claim("roles", ["x"]),
        lambda: topic("a") | "b",
        lambda: topic("a") - None,
        lambda: all_of(),
    ],
)
def test_what_is_no_target_is_said_at_once(make):
    with pytest.raises(Misuse):
        make()


@pytest.mark.parametrize(
    ("claimed", "value", "is_met"),
    [
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (1, 1.0, True),
        (0, False, False),
        (None, None, True),
        (0, None, False),
        (["a", "b"], "b", True),
        ([0, "a"], False, False),
        ({1, "a"}, 1, True),
        ({True}, 1, False),
    ],
)
def test_a_claim_is_met_by_the_same_value_alone(claimed, value, is_met):
    assert meets_claim({"x": claimed}, claim("x", value)) is is_met


def test_claims_of_other_values_are_other_targets():
    assert claim("level", True) != claim("level", 1)
    assert claim("level", 0, "a") | topic("a") != claim("level", False, "a") | topic("a")
    assert len({claim("level", True), claim("level", 1), claim("level", 1.0)}) == 2


async def test_of_two_publishes_at_once_each_reaches_its_own(autojump_clock):
    async def authenticate(credentials) -> Session:
        return Session(credentials.token, {"level": True if credentials.token == "yes" else 1})

    async with (
        open_world(authenticate=authenticate) as world,
        world.open_client(token="yes") as yes,
        world.open_client(token="one") as one,
    ):
        world.server.hub.publish_nowait(Event("for yes"), to=claim("level", True))
        world.server.hub.publish_nowait(Event("for one"), to=claim("level", 1))
        await world.server.publish(Event("end"), to=everyone())
        assert [(await yes.receive()).name for _ in range(2)] == ["for yes", "end"]
        assert [(await one.receive()).name for _ in range(2)] == ["for one", "end"]


def test_targets_are_not_composed_without_end():
    target = topic("a")
    for _ in range(15):
        target = (target | topic("b")) & topic("c")
    target = target | topic("b")
    with pytest.raises(Misuse, match="deep"):
        target & topic("c")


@pytest.mark.parametrize("make", [topic, user, lambda text: claim("role", text), lambda text: claim(text, 1)])
def test_half_a_character_is_no_text(make):
    with pytest.raises(Misuse, match="encoded"):
        make("half \ud800")
