"""Masking: one operation, two implementations, the same bytes."""

from __future__ import annotations

import runpy
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.speedups import apply_mask as apply_mask_in_c

from trio_hub.wire import masking
from trio_hub.wire.masking import apply_mask, apply_mask_in_python

keys = st.binary(min_size=4, max_size=4)


@pytest.mark.parametrize("mask", [apply_mask, apply_mask_in_python, apply_mask_in_c])
def test_masking_writes_the_example_of_the_rfc(mask):
    """RFC 6455 section 5.7: a single-frame masked text message."""
    assert mask(b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("7f9f4d5158")


@given(data=st.binary(max_size=300), key=keys)
def test_python_and_c_agree_on_every_byte(data, key):
    assert apply_mask_in_python(data, key) == apply_mask_in_c(data, key)


@given(data=st.binary(max_size=300), key=keys)
def test_masking_twice_changes_nothing(data, key):
    assert apply_mask_in_python(apply_mask_in_python(data, key), key) == data


def test_the_c_function_is_used_where_it_is_installed():
    assert apply_mask is apply_mask_in_c


def test_without_the_c_function_masking_is_done_in_python(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)  # importing it fails from here on
    module = runpy.run_path(masking.__file__)
    assert module["apply_mask"] is module["apply_mask_in_python"]
    assert module["apply_mask"](b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("7f9f4d5158")
