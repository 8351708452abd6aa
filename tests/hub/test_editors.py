"""Editors by name: found, given their arguments, and told apart from what is none."""

from __future__ import annotations

import enum

import attrs
import msgspec
import pytest
import trio

from trio_hub import (
    ClientOptions,
    Edit,
    Editors,
    Event,
    Misuse,
    Server,
    Session,
    claim,
    connection,
    everyone,
    sensitive,
    topic,
)
from trio_hub.testing import open_world


@attrs.frozen
class Mentioned:
    users: set[str]


@attrs.frozen
class Person:
    name: str
    email: str


editors = Editors()


@editors.editor("mentions", key=lambda connection, mentioned: connection.user in mentioned.users)
def mention(event: Event, is_mentioned: bool, mentioned: Mentioned) -> Event:
    return attrs.evolve(event, data={**event.data, "mentioned": is_mentioned})


@editors.editor("veto", key=lambda connection, arguments: connection.user)
def veto(event: Event, user: str, arguments) -> Event | None:
    return None if user == arguments["user"] else event


async def by_name(credentials) -> Session | None:
    return None if credentials.token is None else Session(credentials.token, {"role": credentials.token})


@pytest.fixture
async def world():
    async with open_world(Server(authenticate=by_name, editors=editors)) as world:
        yield world


async def test_an_edit_by_name_is_what_the_editor_makes_of_it(world, autojump_clock):
    async with (
        world.open_client(token="ann", topics=["town"]) as ann,
        world.open_client(token="bob", topics=["town"]) as bob,
    ):
        edits = [Edit("mentions", {"users": ["ann"]})]
        await world.server.publish(Event("post", {"n": 1}), to=topic("town"), editors=edits)
        assert (await ann.receive()).data == {"n": 1, "mentioned": True}
        assert (await bob.receive()).data == {"n": 1, "mentioned": False}


async def test_several_edit_in_their_order_and_one_may_veto(world, autojump_clock):
    async with world.open_client(token="ann") as ann, world.open_client(token="bob") as bob:
        both = [Edit("veto", {"user": "ann"}), Edit("mentions", {"users": ["bob"]})]
        await world.server.publish(Event("post", {"n": 1}), to=everyone(), editors=both)
        await world.server.publish(Event("post", {"n": 2}), to=everyone())
        assert (await ann.receive()).data == {"n": 2}
        assert (await bob.receive()).data == {"n": 1, "mentioned": True}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit("nothing"), "no editor 'nothing'"),
        (Edit("mentions"), "mentions.*users"),
        (Edit("mentions", {"users": "ann"}), "mentions.*array"),
        (Edit("mentions", {"users": [1]}), r"mentions.*\$.users"),
        ("mentions", "expected Editor"),
    ],
)
async def test_what_cannot_be_edited_is_not_published(edit, words, world, autojump_clock):
    with pytest.raises(Misuse, match=words):
        await world.server.publish(Event("post", {}), to=everyone(), editors=[edit])
    assert world.server.hub.statistics().published == 0


def test_names_and_forms_are_checked_when_they_are_registered():
    several = Editors()
    several.editor("one", key=lambda connection, arguments: None)(veto)
    with pytest.raises(Misuse, match="already"):
        several.editor("one", key=lambda connection, arguments: None)(veto)
    with pytest.raises(Misuse, match="2 parameters"):
        several.editor("two", key=lambda connection, arguments: None)(lambda event, key: event)


async def test_what_is_sensitive_is_for_some_alone(world, autojump_clock):
    async with world.open_client(token="editor") as editor, world.open_client(token="reader") as reader:
        whole = {"name": "ann", "email": "ann@example.org"}
        only = sensitive("email", "phone", only_for=claim("role", "editor"))
        await world.server.publish(Event("user", whole), to=everyone(), editors=[only])
        await world.server.publish(Event("list", [whole]), to=everyone(), editors=[only])
        await world.server.publish(Event("person", Person("ann", "ann@example.org")), to=everyone(), editors=[only])
        assert [(await editor.receive()).data for _ in range(3)] == [whole, [whole], whole]
        assert [(await reader.receive()).data for _ in range(2)] == [{"name": "ann"}] * 2
    with pytest.raises(Misuse, match="session"):
        sensitive("email", only_for=everyone() - connection("x"))


class Member(enum.Enum):
    EMAIL = "email"


@pytest.mark.parametrize("cbor", [False, True])
@pytest.mark.parametrize(
    ("member", "data"),
    [
        ("1", {1: "secret", "b": 2}),
        ("1e22", {1e22: "secret", "b": 2}),
        ("email", {Member.EMAIL: "secret", "b": 2}),
        ("a", msgspec.Raw(b'{"a": "secret", "b": 2}')),
    ],
)
async def test_what_is_sensitive_is_so_by_the_name_that_clients_hear(member, data, cbor, world, autojump_clock):
    async with world.open_client(token="reader", options=ClientOptions(cbor=cbor)) as reader:
        only = sensitive(member, only_for=claim("role", "editor"))
        await world.server.publish(Event("user", data), to=everyone(), editors=[only])
        with trio.fail_after(5):
            assert (await reader.receive()).data == {"b": 2}
