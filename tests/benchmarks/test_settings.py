"""What a scenario is told to measure."""

from argparse import Namespace

import pytest

from benchmarks.__main__ import _settings

NOTHING = dict.fromkeys(("links", "sizes", "crowd", "rounds", "seconds", "profile"))


@pytest.mark.parametrize(("links", "pooled"), [(None, (1000,)), ((7, 9), (7, 9))])
def test_a_pool_has_a_number_of_links_of_its_own_unless_one_is_said(links, pooled):
    assert _settings(Namespace(**NOTHING | {"links": links}, quick=False)).pooled == pooled
