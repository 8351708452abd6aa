"""Actions: their types are checked before a handler sees them."""

import attrs
import pytest

from trio_hub import Misuse, RequestFailed, Router
from trio_hub.messages import Request


@attrs.frozen
class Move:
    x: int
    y: int = 0


@pytest.fixture
def router():
    router = Router()

    @router.action("move", ordered=True)
    def move(connection, data: Move):
        return (connection, data)

    @router.action("anything")
    async def anything(connection, data):
        return data

    return router


def test_data_becomes_what_the_handler_asked_for(router):
    assert router("c", Request(1, "move", {"x": 1, "y": 2})) == ("c", Move(1, 2))
    assert router("c", Request(1, "move", {"x": 1, "more": "is ignored"})) == ("c", Move(1, 0))


@pytest.mark.parametrize(
    ("data", "place"),
    [({"x": "1"}, "$.x"), ({"x": 1, "y": None}, "$.y"), ({}, "`x`"), (None, "`x`"), ([], "object"), (5, "object")],
)
def test_data_of_another_form_is_refused_by_its_place(router, data, place):
    with pytest.raises(RequestFailed) as caught:
        router("c", Request(1, "move", data))
    assert caught.value.status == 400
    assert place in caught.value.message


async def test_a_handler_without_a_type_takes_anything(router):
    assert await router("c", Request(1, "anything", [1, {"a": None}])) == [1, {"a": None}]


def test_an_action_nobody_knows_is_refused(router):
    with pytest.raises(RequestFailed) as caught:
        router("c", Request(1, "fly"))
    assert (caught.value.status, caught.value.id) == (404, "unknown_action")


def test_ordered_is_what_was_registered_so(router):
    assert [router.ordered(action) for action in ("move", "anything", "fly")] == [True, False, False]


def test_a_name_is_taken_once(router):
    with pytest.raises(Misuse, match="move"):
        router.action("move")(lambda connection, data: None)


def test_a_handler_takes_a_connection_and_data():
    with pytest.raises(Misuse, match="1 parameters"):
        Router().action("odd")(lambda data: None)
