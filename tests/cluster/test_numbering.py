"""Whatever is lost between two nodes is noticed, by the next beat at the latest, and nothing else is."""

import hypothesis.strategies as st
from hypothesis import given, settings

from trio_hub.cluster.numbering import Heard, Said

CHANNELS = "abc"


def say(said: Said, channel: str) -> tuple[str, int, int]:
    number = said.next_number()
    return channel, said.note(channel), number


def test_a_hole_is_noticed_with_the_next_message():
    said, heard = Said(), Heard()
    heard.listens_to(CHANNELS)
    heard.check(said.beat(), CHANNELS)
    assert heard.note(*say(said, "a")) == (True, False)
    say(said, "b")
    assert heard.note(*say(said, "a")) == (True, False)
    say(said, "a")
    assert heard.note(*say(said, "a")) == (True, True)


def test_a_hole_at_the_end_is_noticed_with_the_next_beat():
    said, heard = Said(), Heard()
    heard.listens_to(CHANNELS)
    heard.check(said.beat(), CHANNELS)
    say(said, "a")
    assert heard.check(said.beat(), CHANNELS) == ["a"]
    assert heard.check(said.beat(), CHANNELS) == []


def test_a_message_that_comes_twice_or_too_late_is_none():
    said, heard = Said(), Heard()
    heard.listens_to(CHANNELS)
    heard.check(said.beat(), CHANNELS)
    first, second = say(said, "a"), say(said, "a")
    assert heard.note(*second) == (True, True)
    assert heard.note(*second) == (False, False)
    assert heard.note(*first) == (False, False)


def test_what_was_said_before_it_was_listened_to_is_not_missing():
    said, heard = Said(), Heard()
    heard.check(said.beat(), CHANNELS)
    say(said, "a")
    say(said, "b")
    heard.listens_to("ab")
    assert heard.note(*say(said, "a")) == (True, False)
    assert heard.check(said.beat(), CHANNELS) == []
    say(said, "b")
    assert heard.check(said.beat(), CHANNELS) == ["b"]


def test_a_beat_that_was_lost_is_asked_for():
    said, heard = Said(), Heard()
    heard.listens_to(CHANNELS)
    heard.check(said.beat(), CHANNELS)
    say(said, "a")
    said.beat()
    say(said, "b")
    beat = said.beat()
    assert heard.misses(beat)
    assert heard.known is not None
    assert heard.check(said.since(heard.known), CHANNELS) == ["b", "a"]
    assert not heard.misses(said.beat())


def test_what_did_not_leave_is_missing_on_new_channels_too():
    said, heard = Said(), Heard()
    heard.check(said.beat(), CHANNELS)
    heard.listens_to(CHANNELS)
    say(said, "a")
    said.note_lost()
    assert heard.check(said.beat(), CHANNELS) == ["a"]


def test_on_new_channels_too_something_may_be_missing_after_an_interruption():
    said, heard = Said(), Heard()
    heard.check(said.beat(), CHANNELS)
    heard.listens_to(CHANNELS)
    say(said, "a")
    heard.doubt()
    assert heard.check(said.beat(), CHANNELS) == ["a"]


def test_what_nobody_remembers_may_be_missing_anywhere():
    said, heard = Said(most=2), Heard()
    heard.listens_to(CHANNELS)
    heard.check(said.beat(), CHANNELS)
    for channel in "abcabc":
        say(said, channel)
    assert said.since(0).latest is None
    assert heard.check(said.since(0), CHANNELS) is None
    assert heard.known == 6


@settings(max_examples=1000)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), st.sampled_from(CHANNELS), st.booleans()),
            st.tuples(st.just("beat"), st.just(""), st.booleans()),
            st.tuples(st.just("listen"), st.sampled_from(CHANNELS), st.just(True)),
            st.tuples(st.just("ignore"), st.sampled_from(CHANNELS), st.just(True)),
        )
    )
)
def test_every_loss_is_told_and_nothing_else(story):
    """`lost` are channels on which something is missing that was not told of; a beat that comes leaves none."""
    said, heard = Said(), Heard()
    heard.check(said.beat(), ())
    listened: set[str] = set()
    fresh: set[str] = set()  # since the last beat that came
    lost: set[str] = set()
    any_lost: set[str] = set()  # those on fresh channels included
    for what, channel, comes in story:
        if what == "listen" and channel not in listened:
            listened.add(channel)
            fresh.add(channel)
            heard.listens_to([channel])
        elif what == "ignore":
            for each in (listened, fresh, lost, any_lost):
                each.discard(channel)
        elif what == "say":
            message = say(said, channel)
            if channel not in listened:
                continue
            if not comes:
                any_lost.add(channel)
                if channel not in fresh:
                    lost.add(channel)
                continue
            is_new, is_missing = heard.note(*message)
            assert is_new
            assert channel not in lost or is_missing
            assert not is_missing or channel in any_lost
            lost.discard(channel)
            any_lost.discard(channel)
            fresh.discard(channel)
        elif what == "beat":
            beat = said.beat()
            if not comes:
                continue
            is_answer = heard.misses(beat)
            if is_answer:
                assert heard.known is not None
                beat = said.since(heard.known)
            told = heard.check(beat, listened)
            assert told is not None
            assert lost <= set(told)
            assert is_answer or set(told) <= any_lost
            fresh.clear()
            lost.clear()
            any_lost.clear()


def test_what_did_not_leave_is_missing_before_the_first_that_did():
    said, heard = Said(), Heard()
    heard.check(said.beat(), CHANNELS)
    heard.listens_to(CHANNELS)
    say(said, "a")
    said.note_lost()
    assert heard.note(*say(said, "a")) == (True, False)
    assert heard.check(said.beat(), CHANNELS) == ["a"]
