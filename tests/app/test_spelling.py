"""Targets that back ends spell: what each means, and where the fault is in one that means nothing."""

from __future__ import annotations

import re

import pytest

from trio_hub import RequestFailed, all_of, any_of, claim, connection, everyone, session, topic, user
from trio_hub.app.spelling import target_of


@pytest.mark.parametrize(
    ("spelled", "target"),
    [
        ("everyone", everyone()),
        ({"topic": "town"}, topic("town")),
        ({"user": "ann"}, user("ann")),
        ({"connection": "x"}, connection("x")),
        ({"session": "s"}, session("s")),
        ({"claim": ["role", "editor", "owner"]}, claim("role", "editor", "owner")),
        ({"claim": ["level", 3, None, True]}, claim("level", 3, None, True)),
        ({"any": [{"topic": "town"}, {"user": "ann"}]}, any_of(topic("town"), user("ann"))),
        ({"any": []}, any_of()),
        ({"all": [{"topic": "town"}, {"claim": ["role", "x"]}]}, all_of(topic("town"), claim("role", "x"))),
        ({"minus": [{"topic": "town"}, {"user": "ann"}, {"user": "bob"}]}, topic("town") - user("ann") - user("bob")),
        ({"minus": ["everyone", {"any": [{"user": "ann"}]}]}, everyone() - user("ann")),
    ],
)
def test_what_is_spelled_is_a_target(spelled, target):
    assert target_of(spelled, "$.to") == target


def deep(levels: int) -> object:
    spelled: object = {"topic": "town"}
    for level in range(levels):
        spelled = {("any", "all")[level % 2]: [spelled, {"user": "ann"}]}
    return spelled


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        ("nobody", "$.to"),
        (None, "$.to"),
        ([], "$.to"),
        ({}, "$.to"),
        ({"topic": ""}, "$.to"),
        ({"topic": "a,b"}, "$.to.topic"),
        ({"topic": 1}, "$.to"),
        ({"topic": "a", "user": "b"}, "$.to"),
        ({"planet": "mars"}, "$.to"),
        ({"claim": []}, "$.to"),
        ({"claim": ["role", {}]}, "$.to"),
        ({"claim": ["", 1]}, "$.to"),
        ({"all": []}, "$.to"),
        ({"minus": ["everyone"]}, "$.to"),
        ({"any": ["everyone", {"all": [{"topic": "x"}, {"topic": ""}]}]}, "$.to.any[1].all[1]"),
        ({"minus": [{"topic": "x"}, {"topic": "\n"}]}, "$.to.minus[1].topic"),
        (deep(200), "`$.to"),
        (deep(400), "`$.to"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(spelled, place):
    with pytest.raises(RequestFailed, match=re.escape(place)) as caught:
        target_of(spelled, "$.to")
    assert caught.value.status == 400
