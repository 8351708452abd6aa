"""Written events, in runs: whatever goes in and out, it is the same as a plain list of them."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_outbox import UNIT, body, size_of
from trio_hub.wire.kept import Kept, Run

SOME = [body(0) for _ in range(6)]


def kept_of(*lengths):
    """Return runs of so many events, and all the events."""
    kept, events = Kept(), []
    for length in lengths:
        run = [body(0) for _ in range(length)]
        kept.append(Run(run))
        events += run
    return kept, events


def assert_holds(kept, events):
    assert list(kept) == events
    assert (kept.count, kept.size) == (len(events), size_of(events))


def test_a_run_knows_its_size_or_is_told():
    assert Run(SOME).size == size_of(SOME)
    assert Run(SOME, 7).size == 7
    assert Run(SOME).count == 6


@pytest.mark.parametrize("count", range(7))
def test_the_oldest_go_and_the_latest_come_back(count):
    kept, events = kept_of(1, 3, 2)
    kept.forget(count)
    assert_holds(kept, events[count:])

    kept, events = kept_of(1, 3, 2)
    assert kept.take_back(count) == events[6 - count :]
    assert_holds(kept, events[: 6 - count])


def test_what_is_forgotten_of_a_run_is_held_by_nobody():
    kept, events = kept_of(4)
    kept.forget(3)
    (run,) = kept._runs
    assert run.bodies == events[3:]


def test_a_shared_run_is_left_alone():
    run = Run(list(SOME))
    one, other = Kept(), Kept()
    one.append(run)
    other.append(run)
    one.forget(2)
    one.take_back(3)
    assert_holds(one, SOME[2:3])
    assert_holds(other, SOME)


@pytest.mark.parametrize(
    ("most_count", "most_units", "surplus"),
    [(6, 6, 0), (5, 6, 1), (6, 5, 1), (2, 5, 4), (5, 2, 4), (6, 0, 5), (1, 0, 5)],
)
def test_the_surplus_is_what_exceeds_a_bound_but_never_the_latest(most_count, most_units, surplus):
    kept, _ = kept_of(4, 2)
    assert kept.size == 6 * UNIT
    assert kept.surplus(most_count, most_units * UNIT) == surplus


moves = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["forget", "take_back"]), st.integers(0, 12)),
)


def test_a_surplus_is_found_by_looking_at_what_goes_alone():
    """Counted: where a bound in bytes is met, this is asked for each event, however many are kept."""
    looked_at = []

    class Watched(Run):
        @property
        def bodies(self):
            looked_at.append(self)
            return self.__dict__["bodies"]

        @bodies.setter
        def bodies(self, bodies):
            self.__dict__["bodies"] = bodies

    kept = Kept()
    for _ in range(1000):
        kept.append(Watched([body(0)]))
    looked_at.clear()
    assert kept.surplus(2000, 999 * UNIT) == 1
    assert len(looked_at) <= 2


@given(st.lists(moves, max_size=40))
def test_runs_are_a_list_in_disguise(story):
    kept, plain = Kept(), deque()
    for move, count in story:
        if move == "append":
            run = [body(0) for _ in range(count)]
            kept.append(Run(run))
            plain += run
        elif move == "forget":
            count = min(count, len(plain))
            kept.forget(count)
            for _ in range(count):
                plain.popleft()
        else:
            count = min(count, len(plain))
            assert kept.take_back(count) == [plain.pop() for _ in range(count)][::-1]
        assert_holds(kept, list(plain))
