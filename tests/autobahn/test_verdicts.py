"""A report is read so that no failure can hide in it."""

import pytest

from tests.autobahn.verdicts import as_table, failures, verdicts_of


@pytest.mark.parametrize(
    ("behavior", "close", "verdict"),
    [
        ("OK", "OK", "OK"),
        ("NON-STRICT", "OK", "NON-STRICT"),
        ("OK", "INFORMATIONAL", "INFORMATIONAL"),
        ("INFORMATIONAL", "NON-STRICT", "NON-STRICT"),
        ("FAILED", "OK", "FAILED"),
        ("OK", "WRONG CODE", "FAILED"),
        ("NON-STRICT", "UNCLEAN", "FAILED"),
    ],
)
def test_the_worse_of_two_verdicts_counts(behavior, close, verdict):
    assert verdicts_of({"2.10": {"behavior": behavior, "behaviorClose": close}}) == {"2.10": verdict}


def test_the_table_counts_by_section_and_names_what_failed():
    well, wrong = {"behavior": "OK", "behaviorClose": "OK"}, {"behavior": "FAILED", "behaviorClose": "OK"}
    verdicts = verdicts_of({"10.1.1": well, "2.10": wrong, "2.9": well})
    assert list(verdicts) == ["2.9", "2.10", "10.1.1"]
    assert failures(verdicts) == ["2.10"]
    lines = as_table(verdicts).splitlines()
    assert lines[2].split() == ["2", "pings", "and", "pongs", "1", "0", "0", "1"]
    assert lines[-1] == "failed: 2.10"
