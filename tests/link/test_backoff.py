"""How long a client waits before it dials again, and whether it does."""

import random

import pytest

from trio_hub import CloseReason, LinkLost, Refused
from trio_hub.link.backoff import Backoff, comes_back

LOST = LinkLost(CloseReason(1006))


class Highest(random.Random):
    """Draws the longest wait, always."""

    def uniform(self, a, b):
        return b


def refused(status, **headers):
    return Refused(CloseReason(1006), status, headers, b"")


def test_the_longest_wait_doubles_up_to_its_bound_and_starts_again():
    backoff = Backoff(0.5, 3, 300, Highest())
    assert [backoff.after(LOST) for _ in range(5)] == [0.5, 1, 2, 3, 3]
    backoff.reset()
    assert backoff.after(LOST) == 0.5


def test_a_wait_may_be_bounded_from_outside():
    backoff = Backoff(4, 30, 300, Highest())
    assert [backoff.after(LOST, most=15) for _ in range(4)] == [4, 8, 15, 15]
    assert backoff.after(LOST) == 30


def test_many_clients_spread_evenly_over_the_wait():
    waits = sorted(Backoff(1, 30, 300, random.Random(seed)).after(LOST) for seed in range(1000))
    for tenth in range(10):
        assert 60 <= sum(tenth / 10 <= wait < (tenth + 1) / 10 for wait in waits) <= 140


def test_it_never_overflows():
    backoff = Backoff(0.5, 30, 300, Highest())
    assert [backoff.after(LOST) for _ in range(2000)][-1] == 30


@pytest.mark.parametrize(
    ("lost", "advice"),
    [
        (LinkLost(CloseReason(1012, '{"retry_after": 3.2}')), 3.2),
        (LinkLost(CloseReason(1001, '{"retry_after": 3}')), 3),
        (LinkLost(CloseReason(1000, '{"retry_after": 3}')), 0),
        (LinkLost(CloseReason(1012, '{"retry_after": "soon"}')), 0),
        (LinkLost(CloseReason(1012, "{oops")), 0),
        (LinkLost(CloseReason(1012, '{"retry_after": -5}')), 0),
        (LinkLost(CloseReason(1012, '{"retry_after": 1e9}')), 300),
        (LinkLost(CloseReason(1012, '{"retry_after": NaN}')), 0),
        (LinkLost(CloseReason(1012, '{"other": 1}')), 0),
        (refused(503, **{"retry-after": "7"}), 7),
        (refused(503, **{"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}), 0),
        (refused(503), 0),
    ],
)
def test_the_server_s_advice_comes_on_top(lost, advice):
    assert Backoff(0.5, 30, 300, Highest()).after(lost) == pytest.approx(advice + 0.5)


def test_how_much_advice_is_taken_is_to_be_said():
    backoff = Backoff(0.5, 30, 3600, Highest())
    assert backoff.after(refused(503, **{"retry-after": "3000"})) == 3000.5
    assert Backoff(0.5, 30, 0, Highest()).after(refused(503, **{"retry-after": "3000"})) == 0.5


@pytest.mark.parametrize(
    ("lost", "answer"),
    [
        (LOST, True),
        (LinkLost(CloseReason(1000)), True),
        (LinkLost(CloseReason(1012)), True),
        (LinkLost(CloseReason(4100)), True),
        (LinkLost(CloseReason(4101)), False),
        (LinkLost(CloseReason(4102)), True),
        (LinkLost(CloseReason(4500)), False),
        (LinkLost(CloseReason(4999)), False),
        (refused(401), False),
        (refused(403), False),
        (refused(404), False),
        (refused(429), True),
        (refused(502), True),
        (refused(503), True),
    ],
)
def test_who_comes_back(lost, answer):
    assert comes_back(lost) is answer
