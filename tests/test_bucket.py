"""A token bucket: nobody gets more than the rate and one burst, and whoever waits gets that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_hub.bucket import Bucket, Rate


def test_a_burst_at_once_and_then_the_rate():
    bucket = Bucket(Rate(2, burst=3))
    assert [bucket.take(1, 100.0) for _ in range(8)] == [True] * 6 + [False] * 2
    assert bucket.take(1, 100.5)
    assert not bucket.take(1, 100.5)
    assert [bucket.take(1, 1000.0) for _ in range(8)] == [True] * 6 + [False] * 2


def test_one_that_is_too_large_is_paid_for():
    bucket = Bucket(Rate(10))
    assert bucket.take(100, 0.0)
    assert not bucket.take(1, 8.9)
    assert bucket.take(1, 9.1)


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_a_rate_is_something(per_second, burst):
    with pytest.raises(ValueError, match="must be"):
        Rate(per_second, burst)


@given(
    per_second=st.floats(0.1, 1000),
    burst=st.floats(0.1, 10),
    waits=st.lists(st.floats(0, 5), max_size=50),
)
def test_in_no_time_more_is_taken_than_the_rate_and_a_burst_allow(per_second, burst, waits):
    bucket, now, taken = Bucket(Rate(per_second, burst)), 0.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(1, now)
        assert taken <= per_second * (now + burst) + 1 + 1e-6
