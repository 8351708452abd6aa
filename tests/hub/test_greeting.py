"""Connection ids, and what is remembered of those that are no more."""

from trio_hub import HubOptions
from trio_hub.hub.greeting import Former, Greeter, is_connection_id
from trio_hub.wire.bodies import Tally

OPTIONS = HubOptions(remembered=3)


def test_ids_are_26_characters_and_never_the_same():
    greeter = Greeter("1", OPTIONS, Tally())
    ids = {greeter.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_connection_id(id) for id in ids)


def test_what_is_no_id():
    for text in ("", "a" * 25, "a" * 27, "A" * 26, "a" * 25 + "é", "a" * 25 + "\n", "a" * 26 + "\n"):
        assert not is_connection_id(text)


def test_an_id_of_another_hub_means_a_restart():
    here, there = Greeter("1", OPTIONS, Tally()), Greeter("1", OPTIONS, Tally())
    assert here.former(there.new_id()).reason == "restarted"
    assert here.former(here.new_id()).reason == "unknown"


def test_a_bounded_number_is_remembered():
    greeter = Greeter("1", OPTIONS, Tally())
    ids = [greeter.new_id() for _ in range(5)]
    for n, id in enumerate(ids):
        greeter.remember(id, Former("expired", n))
    assert [greeter.former(id).last for id in ids] == [None, None, 2, 3, 4]
