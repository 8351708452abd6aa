"""Patience runs out when what was due at some moment is not done in time, and never otherwise."""

from trio_hub.peer.patience import Patience


def test_it_runs_out_when_nothing_is_done_for_too_long():
    patience = Patience(10)
    assert not patience.has_run_out(100, done=0, due=1)
    assert not patience.has_run_out(110, done=0, due=5)
    assert patience.has_run_out(110.1, done=0, due=5)


def test_it_begins_anew_with_everything_that_is_done():
    patience = Patience(10)
    assert not patience.has_run_out(0, done=0, due=2)
    assert not patience.has_run_out(9, done=1, due=4)
    assert not patience.has_run_out(10, done=2, due=4), "that was due; now 4 are"
    assert not patience.has_run_out(20, done=3, due=4)
    assert patience.has_run_out(20.1, done=3, due=9)


def test_it_lasts_for_ever_where_nothing_is_due():
    patience = Patience(10)
    for now in range(0, 1000, 7):
        assert not patience.has_run_out(now, done=3, due=3)
    assert not patience.has_run_out(1000, done=3, due=4), "due since at most the last look"


def test_what_was_dropped_is_due_no_more():
    patience = Patience(10)
    assert not patience.has_run_out(0, done=1, due=3)
    assert not patience.has_run_out(5, done=1, due=1)
    assert not patience.has_run_out(20, done=1, due=2)
    assert not patience.has_run_out(25, done=2, due=2)
