"""Small words, and how they look to people."""

from __future__ import annotations

import pytest

from trio_hub import CloseReason, LinkLost


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (CloseReason(1000), "1000"),
        (CloseReason(1012, "see you, Ännchen"), "1012 see you, Ännchen"),
        (CloseReason(4000, "gone\nERROR forged \x1b[31m"), "4000 gone\\nERROR forged \\x1b[31m"),
    ],
)
def test_a_close_reason_is_one_line_whatever_a_stranger_said(reason, shown):
    assert str(reason) == str(LinkLost(reason)) == shown
