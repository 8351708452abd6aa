"""Every input that once reached something new, or once failed, through its target again; without a fuzzer."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


def test_every_target_has_a_corpus():
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_kept_inputs_pass(target):
    kept = sorted((CORPUS / target).iterdir())
    assert kept
    for file in kept:
        try:
            TARGETS[target](file.read_bytes())
        except Exception as error:
            pytest.fail(f"{file.relative_to(CORPUS)}: {error!r}")
