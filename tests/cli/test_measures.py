"""Latencies and numbers, at a desk."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_hub.cli.bench.measures import Histogram, Ledger, Series, Verdict


def series(asked, *doubtful):
    said = Series(asked=asked)
    for number in range(1, asked + 1):
        if number in doubtful:
            said.doubt()
        else:
            said.accept()
    return said


def ledger(*came):
    """A ledger of one publisher, to which these numbers came; None is a gap that was told."""
    heard = Ledger(1)
    for number in came:
        if number is None:
            heard.note_gap()
        else:
            heard.note(0, number)
    return heard


# -- the histogram


def test_a_histogram_of_nothing_has_no_quantile():
    histogram = Histogram()
    assert (histogram.count, histogram.largest, histogram.quantile(0.5)) == (0, 0, 0)


def test_small_numbers_are_kept_exactly():
    histogram = Histogram()
    for number in range(50):
        histogram.add(number)
    assert [histogram.quantile(share) for share in (0, 0.5, 0.9, 1)] == [0, 24, 44, 49]


@given(st.lists(st.integers(0, 2**46 - 1), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_within_its_precision(numbers, share):
    histogram = Histogram()
    for number in numbers:
        histogram.add(number)
    exact = next(number for rank, number in enumerate(sorted(numbers), 1) if rank >= share * len(numbers))
    assert abs(histogram.quantile(share) - exact) <= 0.016 * exact
    assert histogram.largest == max(numbers)


@given(st.lists(st.integers(0, 2**40)), st.lists(st.integers(0, 2**40)))
def test_two_histograms_make_one(some, others):
    one, other, both = Histogram(), Histogram(), Histogram()
    for number in some:
        one.add(number)
        both.add(number)
    for number in others:
        other.add(number)
        both.add(number)
    one.add_all(other)
    assert (one.count, one.largest) == (both.count, both.largest)
    assert one.quantile(0.9) == both.quantile(0.9)


def test_what_is_out_of_bounds_is_counted_at_the_bound():
    histogram = Histogram()
    histogram.add(-5)
    histogram.add(2**60)
    assert (histogram.quantile(0.5), histogram.largest) == (0, 2**46 - 1)


# -- what was said


def test_what_was_not_answered_is_given_up():
    said = series(3)
    said.asked = 5
    assert said.give_up() == 2
    assert (said.accepted, said.doubtful, said.give_up()) == (3, [4, 5], 0)


@pytest.mark.parametrize(
    ("said", "last"), [(series(0), 0), (series(3), 3), (series(4, 2, 4), 3), (series(4, 3, 4), 2), (series(2, 1, 2), 0)]
)
def test_the_last_that_was_accepted(said, last):
    assert said.last_accepted == last


# -- what was heard of it


def test_everything_came():
    assert ledger(1, 2, 3).verdict([series(3)]) == Verdict(due=3, delivered=3)


def test_what_is_left_out_is_missing_silently():
    assert ledger(1, 4).verdict([series(5)]) == Verdict(due=5, delivered=2, silent=3)


def test_what_is_left_out_where_a_gap_was_told_is_not_silent():
    assert ledger(1, None, 4, 6).verdict([series(6)]) == Verdict(due=6, delivered=3, told=2, silent=1)


def test_behind_a_gap_also_what_never_came_is_told():
    assert ledger(1, None).verdict([series(3)]) == Verdict(due=3, delivered=1, told=2)
    assert ledger().verdict([series(3)], away=True) == Verdict(due=3, told=3)


def test_a_gap_is_told_for_all_publishers():
    heard = Ledger(2)
    heard.note(1, 1)
    heard.note_gap()
    heard.note(0, 2)
    heard.note(1, 3)
    assert heard.verdict([series(2), series(3)]) == Verdict(due=5, delivered=3, told=2)


def test_a_repeated_number_is_a_duplicate_and_a_late_one_out_of_order():
    verdict = ledger(1, 2, 2, 5, 4, 4, 3).verdict([series(5)])
    assert verdict == Verdict(due=5, delivered=5, duplicates=2, out_of_order=2)


def test_what_was_not_accepted_is_due_to_nobody():
    assert ledger(1, 3).verdict([series(4, 2, 4)]) == Verdict(due=2, delivered=2)


def test_what_came_though_it_was_in_doubt_is_extra():
    assert ledger(1, 2, 3).verdict([series(4, 2, 4)]) == Verdict(due=2, delivered=2, extra=1)


def test_it_is_up_to_the_last_that_was_accepted():
    assert ledger(1, 3).is_up_to([series(5, 4, 5)])
    assert not ledger(1, 2).is_up_to([series(3)])
    assert not ledger().is_up_to([series(1)])


def test_more_holes_than_are_kept_still_count():
    count = 3000
    heard = ledger(*range(2, 2 * count + 1, 2))
    assert heard.verdict([series(2 * count)]) == Verdict(due=2 * count, delivered=count, silent=count)
    heard.note(0, 1)
    assert heard.verdict([series(2 * count)]).duplicates == 1


@given(
    came=st.lists(st.integers(1, 12) | st.none(), max_size=30),
    asked=st.integers(12, 15),
    doubtful=st.sets(st.integers(1, 15)),
    away=st.booleans(),
)
def test_the_sum_adds_up_whatever_came(came, asked, doubtful, away):
    doubtful &= set(range(asked + 1))
    verdict = ledger(*came).verdict([series(asked, *doubtful)], away=away)
    numbers = [number for number in came if number is not None]
    accepted = set(range(1, asked + 1)) - doubtful
    assert verdict.due == len(accepted) == verdict.delivered + verdict.told + verdict.silent
    assert verdict.delivered == len(accepted & set(numbers))
    assert verdict.extra == len(doubtful & set(numbers))
    assert verdict.duplicates == len(numbers) - len(set(numbers))
    if None not in came and not away:
        assert verdict.told == 0
