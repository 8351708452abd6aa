"""How events look between nodes."""

from __future__ import annotations

import pytest

from trio_hub import Edit, Misuse, claim, connection, everyone, expires, latest, topic, user, volatile
from trio_hub.cluster.channels import channels_of, says_all, whom
from trio_hub.cluster.envelopes import Carried, Envelope, Sealing, Unreadable, envelopes_from
from trio_hub.delivery import MUST
from trio_hub.targets import Target

JSON = b'{"event":"tick","data":{}'
TOWN = topic("town")
TARGETS = [
    TOWN,
    user("ann"),
    everyone(),
    connection("a" * 26),
    claim("role", "editor"),
    TOWN | user("ann"),
    TOWN & user("ann"),
    TOWN - user("ann"),
]


def crossed(event: Carried, *, whole: bool, target: Target | None) -> Carried:
    payload = Sealing("a").sealed_envelopes("t:town", [Envelope(2, 1, False, event.spelled(whole=whole))])
    [envelope] = envelopes_from(Sealing("b").opened("t:town", "a", payload))
    assert (envelope.number, envelope.previous, envelope.is_copy) == (2, 1, False)
    return Carried.spelled_so(envelope.said, target)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_channel_says_who_should_hear_only_where_it_says_all(target: Target) -> None:
    channels = channels_of(target)
    assert says_all(target) == (len(channels) == 1 and whom(channels[0]) == target)


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("delivery", [MUST, volatile(), latest("place"), expires(3)], ids=str)
@pytest.mark.parametrize("edits", [(), (Edit("mentions", {"users": ["ann"]}),)])
@pytest.mark.parametrize("own", [TOWN, None])
def test_an_event_that_crosses_is_the_same(target, delivery, edits, own):
    event = Carried("tick", JSON, target, delivery, delivery.lifetime, edits)
    assert crossed(event, whole=target != own, target=own) == event


def test_what_must_be_delivered_is_known_by_identity_at_another_node() -> None:
    event = Carried("tick", JSON, TOWN, MUST)
    for whole in (True, False):
        assert crossed(event, whole=whole, target=TOWN).delivery is MUST, "a hub offers those alone in bursts"


def test_of_an_event_as_most_are_nothing_is_said_but_itself() -> None:
    assert Carried("tick", JSON, TOWN).spelled(whole=False) == ["tick", JSON]


def test_edits_that_nobody_can_spell_are_refused_at_once() -> None:
    with pytest.raises(Misuse, match="editor"):
        Carried("tick", JSON, TOWN, edits=[Edit("mentions", {"users": object()})]).spelled(whole=False)


def test_what_is_edited_after_it_was_spelled_crosses_as_it_was() -> None:
    users = ["ann"]
    said = Carried("tick", JSON, TOWN, edits=[Edit("mentions", {"users": users})]).spelled(whole=False)
    users.append("bob")
    assert Carried.spelled_so(said, TOWN).edits == (Edit("mentions", {"users": ["ann"]}),)


MUST_SPELLED = [False, None, None, None]


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["tick"],
        ["tick", "{}"],
        [1, JSON],
        ["tick", JSON, ["topic", "town"], MUST_SPELLED],
        ["tick", JSON, ["town"], MUST_SPELLED, b"\x80"],
        ["tick", JSON, ["topic", "town"], [False, 3, None, None], b"\x80"],
        ["tick", JSON, ["topic", "town"], MUST_SPELLED, b"\xff"],
        ["tick", JSON, ["topic", "town"], MUST_SPELLED, b"\x81\x80"],
    ],
    ids=str,
)
def test_nonsense_is_no_event(said: list[object]) -> None:
    with pytest.raises(Unreadable):
        Carried.spelled_so(said, TOWN)


def test_an_event_without_a_target_is_none_where_the_channel_has_none() -> None:
    with pytest.raises(Unreadable):
        Carried.spelled_so(["tick", JSON], None)


@pytest.mark.parametrize("payload", [3, {}, [3], [[1, 2]], [["1", 2, False]], [[1, "2", False]], [[1, 2, 3]]], ids=str)
def test_nonsense_is_no_envelope(payload: object) -> None:
    sealing = Sealing("a")
    with pytest.raises(Unreadable):
        envelopes_from(sealing.opened("t:town", "a", sealing.sealed("t:town", payload)))


def test_what_was_said_on_one_channel_by_one_node_is_believed_there_and_of_it_alone() -> None:
    payload = Sealing("a", b"k" * 32).sealed("u:ann", ["secret"])
    ours = Sealing("b", b"k" * 32)
    assert ours.opened("u:ann", "a", payload) == ["secret"]
    for channel, node in (("u:eve", "a"), ("u:ann", "c"), ("u:an", "na")):
        with pytest.raises(Unreadable, match="signed"):
            ours.opened(channel, node, payload)
