"""What the pages name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["security.rst", "promises.rst", "conformance.rst", "performance.rst", "running.rst"]


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_is_there(page):
    named = set(re.findall(r"tests/[\w/]+\.py", (ROOT / "docs" / page).read_text()))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
