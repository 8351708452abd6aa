"""The list of mutations is still one of the code as it is."""

import pytest

from tests.mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("broken", MUTATIONS, ids=lambda each: each.name)
def test_every_mutation_can_still_be_made(broken):
    source = (ROOT / broken.path).read_text()
    assert broken.apply(source) != source
    compile(broken.apply(source), broken.path.name, "exec")
