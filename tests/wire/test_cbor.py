"""CBOR that strangers may send: data, and nothing else."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_hub.wire import cbor

data = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=data)
def test_what_is_said_is_understood(value):
    assert cbor.loads(cbor.dumps(value)) == value


@given(value=data, behind=st.binary(min_size=1, max_size=5))
def test_nothing_may_stand_behind_the_end(value, behind):
    with pytest.raises(ValueError, match="behind the end"):
        cbor.loads(cbor.dumps(value) + behind)


@given(value=data)
def test_half_of_it_is_nothing(value):
    whole = cbor.dumps(value)
    for size in range(min(len(whole), 50)):
        with pytest.raises(cbor.Undecodable):
            cbor.loads(whole[:size])


@pytest.mark.parametrize("number", [*range(2), *range(4, 60), 100, 256, 258, 260, 261, 1004, 1040, 43000, 55799, 2**40])
@pytest.mark.parametrize("value", ["a+", 1, b"x", [1, 2], {}])
def test_a_tag_asks_for_more_than_data(number, value):
    with pytest.raises(cbor.Undecodable):
        cbor.loads(cbor2.dumps(cbor2.CBORTag(number, value)))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("9f01ff", "an array of indefinite length"),
        ("bf616101ff", "a map of indefinite length"),
        ("7f6161ff", "text of indefinite length"),
        ("5f4161ff", "bytes of indefinite length"),
        ("a2616101616102", "the same key twice"),
        ("ff", "an end of nothing"),
        ("61ff", "text that is not UTF-8"),
        ("1c", "a size that is reserved"),
        ("9bffffffffffffffff", "an array larger than the world"),
        ("5b7fffffffffffffff", "bytes larger than the world"),
        ("81" * 65 + "01", "65 arrays in each other"),
        ("d81c80", "a shared value"),
        ("d81d00", "a reference to one"),
    ],
)
def test_other_things_that_are_refused(said, why):
    with pytest.raises(cbor.Undecodable):
        cbor.loads(bytes.fromhex(said))


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 65535, 65536, 70_000])
def test_an_array_begins_with_its_count(count):
    assert cbor.loads(cbor.array_head(count) + b"\x01" * count) == [1] * count
