"""permessage-deflate: the words and the bytes of RFC 7692, and what it leaves to those who mean no good."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_hub.errors import PeerFault
from trio_hub.options import CompressionOptions, LinkOptions
from trio_hub.wire.deflate import CLOSING, OFFER, Inflater, Parameters, agreed_in, answer_to, stored_head

MIB = 2**20
HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
HELLO_AGAIN = bytes.fromhex("f2 00 11 00 00")
DEFLATERS = {
    bits: Parameters(server_max_window_bits=bits).carried_out(LinkOptions(), client=False)[0] for bits in range(9, 16)
}
"""By window."""


def inflater(max_message: int = 1000, *, window_bits: int = 15, keeps_context: bool = False) -> Inflater:
    return Inflater(window_bits, max_message, keeps_context=keeps_context)


def fault_of(inflater: Inflater, payload: bytes) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        inflater.inflate(payload, last=True)
    return caught.value


# -- what is agreed on

NEITHER_KEEPS = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate", NEITHER_KEEPS),
        ("permessage-deflate; client_max_window_bits", NEITHER_KEEPS),
        ("permessage-deflate; client_max_window_bits=8", NEITHER_KEEPS),
        ("permessage-deflate;server_no_context_takeover ; client_no_context_takeover", NEITHER_KEEPS),
        ("permessage-deflate; server_max_window_bits=10", f"{NEITHER_KEEPS}; server_max_window_bits=10"),
        ('permessage-deflate; server_max_window_bits="10"', f"{NEITHER_KEEPS}; server_max_window_bits=10"),
        # of section 7.1.3, where the first offer would do for us, too
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
            f"{NEITHER_KEEPS}; server_max_window_bits=10",
        ),
        ("x-another; y=1, permessage-deflate", NEITHER_KEEPS),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", NEITHER_KEEPS),
        ("permessage-deflate; unknown, permessage-deflate", NEITHER_KEEPS),
    ],
)
def test_a_server_accepts_the_first_offer_that_it_can(offers, answer):
    assert str(answer_to(offers)) == answer


@pytest.mark.parametrize(
    "offer",
    [
        "",
        ",",
        "x-webkit-deflate-frame",
        "permessage-bzip2; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=8",  # zlib's smallest window is 512 bytes
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=1e1",
        'permessage-deflate; server_max_window_bits="10',
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; x=y",
        "permessage-deflate;",
    ],
)
def test_a_server_declines_what_it_does_not_know(offer):
    assert answer_to(offer) is None


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [
        ("permessage-deflate", Parameters()),
        (" permessage-deflate ; server_no_context_takeover", Parameters(server_no_context_takeover=True)),
        (NEITHER_KEEPS, Parameters(server_no_context_takeover=True, client_no_context_takeover=True)),
        ("permessage-deflate; client_max_window_bits=9", Parameters(client_max_window_bits=9)),
        ("permessage-deflate; server_max_window_bits=8", Parameters(server_max_window_bits=8)),
    ],
)
def test_a_client_understands_what_the_server_agreed_to(answer, agreed):
    assert agreed_in(answer) == agreed


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "x-another",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
    ],
)
def test_a_client_refuses_what_it_did_not_offer(answer):
    with pytest.raises(PeerFault) as caught:
        agreed_in(answer)
    assert caught.value.code == 1002


def test_a_client_offers_to_do_without_context_and_with_any_window():
    assert str(OFFER) == "permessage-deflate; client_no_context_takeover; client_max_window_bits=15"
    assert str(answer_to(str(OFFER))) == NEITHER_KEEPS


def test_what_limits_our_window_depends_on_which_end_we_are():
    agreed = Parameters(server_max_window_bits=9, client_max_window_bits=12)
    windows = [agreed.carried_out(LinkOptions(), client=client)[0].window_bits for client in (False, True)]
    assert windows == [9, 12]


def test_who_agreed_on_the_same_shares_a_deflater():
    options = [LinkOptions(compression=CompressionOptions(level=level)) for level in (1, 1, 9)]
    one, same, other = (Parameters().carried_out(each, client=False)[0] for each in options)
    assert one is same
    assert one is not other


# -- the RFC's own bytes (sections 7.2.3.1 to 7.2.3.6)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("f2 48 cd c9 c9 07 00", id="one block"),
        pytest.param("00 05 00 fa ff 48 65 6c 6c 6f 00", id="a stored block"),
        pytest.param("f3 48 cd c9 c9 07 00 00", id="a last block"),
        pytest.param("f2 48 05 00 00 00 ff ff ca c9 c9 07 00", id="two blocks"),
    ],
)
@pytest.mark.parametrize("keeps_context", [False, True], ids=["no context", "context"])
def test_hello_in_every_form_of_the_rfc(payload, keeps_context):
    hears = inflater(5, keeps_context=keeps_context)
    for _ in range(2):
        assert hears.inflate(bytes.fromhex(payload), last=True) == b"Hello"


def test_hello_in_two_fragments():
    hears = inflater()
    assert hears.inflate(HELLO[:3], last=False) + hears.inflate(HELLO[3:], last=True) == b"Hello"


def test_a_second_hello_leans_on_the_first_where_context_is_kept():
    hears = inflater(keeps_context=True)
    assert [hears.inflate(payload, last=True) for payload in (HELLO, HELLO_AGAIN)] == [b"Hello"] * 2


def test_without_context_nothing_leans_on_what_was_said_before():
    hears = inflater()
    hears.inflate(HELLO, last=True)
    assert fault_of(hears, HELLO_AGAIN).code == 1007


def test_an_empty_message_is_a_byte():
    assert DEFLATERS[15].deflate(b"") == b"\x00"
    assert inflater(0).inflate(b"\x00", last=True) == b""


def test_hello_is_written_as_in_the_rfc():
    assert DEFLATERS[15].deflate(b"Hello") == HELLO


# -- there and back


@given(messages=st.lists(st.binary(max_size=300), max_size=4), bits=st.integers(9, 15), cut=st.integers(0, 99))
@example(messages=[bytes(10_000)], bits=9, cut=3)
def test_what_is_deflated_is_inflated_whatever_the_window_and_the_fragments(messages, bits, cut):
    for keeps_context in (False, True):
        hears = inflater(10_000, window_bits=bits, keeps_context=keeps_context)
        for message in messages:
            deflated = DEFLATERS[bits].deflate(message)
            assert hears.inflate(deflated[:cut], last=False) + hears.inflate(deflated[cut:], last=True) == message


@given(beginning=st.binary(max_size=300), tail=st.binary(max_size=70))
def test_a_tail_may_follow_plain(beginning, tail):
    payload = DEFLATERS[15].deflate(beginning) + stored_head(len(tail)) + tail + CLOSING
    assert inflater(keeps_context=True).inflate(payload, last=True) == beginning + tail


@given(messages=st.lists(st.binary(max_size=100), max_size=5))
def test_a_peer_may_use_last_blocks_between_others(messages):
    payload = b""
    for message in messages:
        stream = zlib.compressobj(wbits=-15)
        payload += stream.compress(message) + stream.flush()
    assert inflater().inflate(payload + b"\x00", last=True) == b"".join(messages)


# -- those who mean no good


def test_a_bomb_is_refused_before_it_takes_memory():
    bomb = DEFLATERS[15].deflate(bytes(256 * MIB))
    tracemalloc.start()
    try:
        fault = fault_of(inflater(MIB), bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (fault.code, fault.reason) == (1009, "message inflates to more than 1048576 bytes")
    assert most < 4 * MIB


def test_a_bomb_in_fragments_is_refused_too():
    deflated = DEFLATERS[15].deflate(bytes(1000) + bytes(range(256)) * 4)
    hears = inflater(1500)
    heard = hears.inflate(deflated[:100], last=False)
    assert 1000 < len(heard) <= 1500
    assert fault_of(hears, deflated[100:]).code == 1009


def test_the_largest_message_is_heard_and_the_next_has_as_much_room():
    hears = inflater(2000, keeps_context=True)
    for _ in range(2):
        assert hears.inflate(DEFLATERS[15].deflate(bytes(2000)), last=True) == bytes(2000)
    assert fault_of(hears, DEFLATERS[15].deflate(bytes(2001))).code == 1009


def test_last_blocks_without_end_are_refused():
    fault = fault_of(inflater(), b"\x03\x00" * 10_000 + b"\x00")
    assert (fault.code, fault.reason) == (1008, "fragment has more than 16 last blocks")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(b"\xff" * 5, "invalid block type", id="no block"),
        pytest.param(b"Hello", "invalid", id="plain text"),
        pytest.param(b"\x00" + struct.pack("<HH", 5, 5) + b"Hello", "invalid stored block lengths", id="no complement"),
        pytest.param(HELLO_AGAIN, "invalid distance too far back", id="before the beginning"),
        pytest.param(HELLO[:-2], "", id="not whole"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(DEFLATERS[15].deflate(bytes(range(200)))[:-40], "it ends within a block", id="without an end"),
    ],
)
@pytest.mark.parametrize("keeps_context", [False, True], ids=["no context", "context"])
def test_what_is_not_deflated_is_a_fault_that_says_so(payload, reason, keeps_context):
    fault = fault_of(inflater(keeps_context=keeps_context), payload)
    assert fault.code == 1007
    assert fault.reason.startswith("message is not deflated: ")
    assert reason in fault.reason


@given(payload=st.binary(max_size=200))
def test_whatever_comes_is_inflated_or_a_fault(payload):
    with suppress(PeerFault):
        assert len(inflater(100).inflate(payload, last=True)) <= 100
