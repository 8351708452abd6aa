"""The two spellings, word by word as the protocol has them; then whatever a peer might say instead."""

from __future__ import annotations

import json
import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.protocol import CLIENT
from websockets.protocol import Protocol as IndependentPeer

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import (
    Ack,
    AckReplies,
    Cancel,
    Event,
    Reply,
    Request,
    Resumed,
)
from trio_hub.options import CompressionOptions
from trio_hub.wire.bodies import Body, Tally
from trio_hub.wire.codecs import CODECS, COMPAT, V1_CBOR, V1_JSON
from trio_hub.wire.deflate import Deflater, Inflater
from trio_hub.wire.reading import FrameReader

both_spellings = pytest.mark.parametrize("codec", [COMPAT, V1_JSON], ids=["compat", "v1"])
LARGEST = 2**53 - 1
TOWN = Event("posted", {"text": "hüllo"}, {"topic": "town"})


def frames_in(written: bytes) -> list[str]:
    """Return the text frames in what a server wrote, as any client would read them."""
    inflater = Inflater(15, 10_000_000, keeps_context=False)
    reader = FrameReader(masked=False, max_message=10_000_000, max_fragments=1, inflater=inflater)
    received = reader.feed(written)
    assert not reader.midway
    assert all(type(text) is str for text in received)
    return received


def members(text: str) -> list[tuple[str, object]]:
    """Return the members of an event in the order in which they stand."""
    return list(json.loads(text).items())


def fault_of(codec, said) -> PeerFault:
    with pytest.raises(PeerFault) as caught:
        codec.from_client(said)
    return caught.value


# -- events ------------------------------------------------------------------------------------------------------


def test_a_compat_event_ends_with_its_number():
    (text,) = frames_in(COMPAT.frames([Body(TOWN)], 7))
    assert members(text) == [
        ("event", "posted"),
        ("data", {"text": "hüllo"}),
        ("broadcast", {"topic": "town"}),
        ("seq", 7),
    ]


def test_a_v1_event_is_the_same_without_a_number():
    (text,) = frames_in(V1_JSON.frames([Body(TOWN)], 7))
    assert members(text) == [("event", "posted"), ("data", {"text": "hüllo"}), ("broadcast", {"topic": "town"})]


@both_spellings
def test_broadcast_is_left_out_where_there_is_none(codec):
    (text,) = frames_in(codec.frames([Body(Event("hello"))], 0))
    assert [name for name, _ in members(text)][:2] == ["event", "data"]
    assert "broadcast" not in json.loads(text)
    assert json.loads(text)["data"] == {}


@pytest.mark.parametrize("border", [1, 10, 100, 1_000, 10**9, LARGEST])
def test_compat_numbers_are_right_where_they_grow_longer(border):
    body = Body(TOWN)
    first = max(0, border - 3)
    texts = frames_in(COMPAT.frames([body] * 6, first))
    assert [json.loads(text)["seq"] for text in texts] == list(range(first, first + 6))
    alone = [COMPAT.frames([body], number) for number in range(first, first + 6)]
    assert b"".join(alone) == COMPAT.frames([body] * 6, first)


@pytest.mark.parametrize("border", [125, 65535])
def test_compat_frames_are_right_where_one_more_digit_needs_a_longer_header(border):
    overhead = len('{"event":"e","data":"","seq":9}')
    body = Body(Event("e", "x" * (border - overhead)))
    nine, ten = COMPAT.frames([body], 9), COMPAT.frames([body], 10)
    assert len(ten) - len(nine) > 1, "the header grew with the number"
    assert [json.loads(text)["seq"] for text in frames_in(ten + nine + ten)] == [10, 9, 10]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 130), max_size=8), first=st.integers(0, 2_000))
def test_compat_frames_are_right_for_any_sizes_and_numbers(sizes, first):
    bodies = [Body(Event("e", "x" * size)) for size in sizes]
    events = [COMPAT.from_server(text) for text in frames_in(COMPAT.frames(bodies, first))]
    assert events == [[Event("e", "x" * size, None, number)] for number, size in enumerate(sizes, first)]


def test_recipients_share_the_bytes_of_a_v1_event_whatever_its_number():
    body = Body(TOWN)
    assert V1_JSON.frames([body], 1) is V1_JSON.frames([body], 9)


def test_recipients_flushed_one_after_the_other_share_the_bytes_of_a_v1_batch():
    bodies = [Body(Event("e", number)) for number in range(3)]
    assert V1_JSON.frames(list(bodies), 1) is V1_JSON.frames(list(bodies), 9)


def test_recipients_share_a_compat_frame_up_to_its_number():
    body = Body(TOWN)
    COMPAT.frames([body], 10)
    assert body.compat_beginning(3) is body.compat_beginning(3)
    assert COMPAT.frames([body], 99) == body.compat_beginning(3) + b"99}"


# -- events, compressed

LONG = Event("posted", {"text": "the same again, " * 40, "rate": "100 %d"}, {"topic": "town"})


class CountingDeflater:
    """Notes what it deflates."""

    options = CompressionOptions(above=100)

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def deflate(self, payload: bytes) -> bytes:
        self.payloads.append(payload)
        return Deflater(15, self.options).deflate(payload)


@both_spellings
def test_a_body_is_deflated_once_for_every_number_and_recipient(codec):
    deflater = CountingDeflater()
    bodies = [Body(LONG), Body(LONG)]
    for first in (1, 9, 10, 99, 1000):
        for owed in (bodies, bodies[:1], bodies * 3):
            heard = frames_in(codec.deflating(deflater).frames(owed, first))
            assert [codec.from_server(text)[0].data for text in heard] == [LONG.data] * len(owed)
    assert len(deflater.payloads) == 2


def test_what_differs_between_compressed_recipients_is_only_the_number():
    frames = COMPAT.deflating(CountingDeflater()).frames
    body = Body(LONG)
    nine, ten, eleven = (frames([body], number) for number in (9, 10, 11))
    assert len(nine) < len(COMPAT.frames([body], 9)) / 5
    assert ten.removesuffix(b"10}\x00") == eleven.removesuffix(b"11}\x00")
    assert [json.loads(text)["seq"] for text in frames_in(nine + ten + eleven)] == [9, 10, 11]


@both_spellings
@pytest.mark.parametrize("keeps_context", [False, True], ids=["no context", "context"])
def test_an_independent_peer_inflates_what_recipients_share(codec, keeps_context):
    peer = IndependentPeer(CLIENT)
    peer.extensions = [PerMessageDeflate(not keeps_context, False, 15, 15)]
    for first in (1, 10):
        peer.receive_data(codec.deflating(CountingDeflater()).frames([Body(LONG), Body(TOWN), Body(LONG)], first))
        heard = [codec.from_server(bytes(frame.data).decode())[0].data for frame in peer.events_received()]
        assert heard == [LONG.data, TOWN.data, LONG.data]


@both_spellings
def test_small_bodies_are_left_alone_also_beside_others(codec):
    deflater = CountingDeflater()
    bodies = [Body(TOWN), Body(LONG), Body(TOWN)]
    written = codec.deflating(deflater).frames(bodies, 5)
    assert codec.frames([bodies[0]], 5) in written
    assert [json.loads(text)["data"] for text in frames_in(written)] == [TOWN.data, LONG.data, TOWN.data]
    assert len(deflater.payloads) == 1


@both_spellings
def test_other_windows_have_frames_of_their_own(codec):
    body = Body(Event("e", [str(number) for number in range(1000)]))
    wide, narrow = (codec.deflating(Deflater(bits, CompressionOptions())).frames([body], 3) for bits in (15, 9))
    assert wide != narrow
    assert frames_in(wide) == frames_in(narrow)


@both_spellings
def test_a_deflated_body_counts_no_more_when_the_last_who_holds_it_lets_go(codec):
    tally = Tally()
    frames = codec.deflating(CountingDeflater()).frames
    bodies = [Body(LONG), Body(LONG)]
    for body in bodies:
        body.count_in(tally)
    frames(bodies, 1)
    del bodies, body
    codec.let_go()
    assert tally.size == 0


def test_attrs_classes_are_data():
    @attrs.frozen
    class Point:
        x: int

    (text,) = frames_in(V1_JSON.frames([Body(Event("moved", Point(3)))], 0))
    assert V1_JSON.from_server(text) == [Event("moved", {"x": 3})]


# -- the other messages, as they are spelled ---------------------------------------------------------------------


@both_spellings
@pytest.mark.parametrize(
    ("message", "spelled"),
    [
        (Reply(4), {"status": "OK", "seq_reply": 4}),
        (Reply(4, {"text": "pong"}), {"status": "OK", "seq_reply": 4, "data": {"text": "pong"}}),
        (Reply(4, False), {"status": "OK", "seq_reply": 4, "data": False}),
        (
            Reply(4, error=(400, "bad_request", "Expected `str`")),
            {
                "status": "FAIL",
                "seq_reply": 4,
                "error": {"id": "bad_request", "message": "Expected `str`", "status_code": 400},
            },
        ),
        (Resumed("k3", 42, 17), {"resumed": {"connection_id": "k3", "next": 42, "requests": 17}}),
        (Request(4, "subscribe", {"topic": "town"}), {"seq": 4, "action": "subscribe", "data": {"topic": "town"}}),
        (Request(4, "ping", deadline=1.5), {"seq": 4, "action": "ping", "data": None, "deadline": 1500}),
        (Ack(41), {"ack": 41}),
        (Ack(41, "k3"), {"ack": 41, "connection_id": "k3"}),
        (AckReplies(3), {"ack_replies": 3}),
        (Cancel(4), {"cancel": 4}),
    ],
)
def test_messages_are_spelled_as_the_protocol_says(codec, message, spelled):
    assert json.loads(codec.encode(message)) == spelled


def test_every_codec_is_found_by_its_subprotocol():
    assert CODECS == {None: COMPAT, "trio-hub.v1.json": V1_JSON, "trio-hub.v1.cbor": V1_CBOR}
    assert [codec.acknowledges for codec in CODECS.values()] == [False, True, True]


# -- batches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [V1_JSON, V1_CBOR], ids=["json", "cbor"])
@pytest.mark.parametrize("count", [2, 30, 300])
def test_v1_says_several_events_in_one_frame(codec, count):
    events = [Event("e", {"n": n}) for n in range(count)]
    written = codec.frames([Body(event) for event in events], 5)
    (batch,) = FrameReader(masked=False, max_message=10_000_000, max_fragments=1).feed(written)
    assert codec.from_server(batch) == events


def test_cbor_says_bytes_as_they_are_where_json_says_text():
    reply = Reply(1, {"raw": b"\x00\xff"})
    assert V1_CBOR.from_server(V1_CBOR.encode(reply)) == [reply]
    assert V1_JSON.from_server(V1_JSON.encode(reply)) == [Reply(1, {"raw": "AP8="})]
    (event,) = V1_CBOR.from_server(
        FrameReader(masked=False, max_message=1000, max_fragments=1).feed(
            V1_CBOR.frames([Body(Event("e", reply.data))], 1)
        )[0]
    )
    assert event.data == {"raw": "AP8="}, "an event says the same to everybody"


def test_v1_takes_a_batch_in_its_order():
    assert V1_JSON.from_client('[{"ack": 1}, {"seq": 2, "action": "a"}, {"cancel": 2}]') == [
        Ack(1),
        Request(2, "a"),
        Cancel(2),
    ]
    assert V1_JSON.from_server('[{"event": "a", "data": 1}, {"status": "OK", "seq_reply": 2}]') == [
        Event("a", 1),
        Reply(2),
    ]
    assert V1_JSON.from_client("[]") == []


def test_compat_takes_no_batch():
    fault = fault_of(COMPAT, '[{"seq": 1, "action": "a"}]')
    assert (fault.code, fault.reason) == (1003, "a message is a JSON object, not list")


@pytest.mark.parametrize("bad", ["5", "null", '"seq"', '[{"ack": 2}]', '{"nack": 2}', '{"seq": 0}'])
def test_one_bad_member_spoils_a_batch(bad):
    for said_by in (V1_JSON.from_client, V1_JSON.from_server):
        with pytest.raises(PeerFault) as caught:
            said_by(f'[{{"ack": 1}}, {bad}]')
        assert caught.value.code == 1003


# -- what clients say wrongly ------------------------------------------------------------------------------------


@both_spellings
@pytest.mark.parametrize(
    "said",
    [
        "",
        " ",
        "{",
        "nonsense",
        "{'seq': 1}",
        '{"seq": 1, "action": "a"} {}',
        '{"seq": 01, "action": "a"}',
        '{"seq": NaN, "action": "a"}',
        '{"seq": 1, "action": "a", "data": Infinity}',
        '{"seq": 1, "action": "a", "data": 1e999}',
        '{"seq": 1, "action": "a", "data": "\\ud800"}',
        '{"seq": 1, "action": "\\udc00a"}',
        '{"\\ud800": 1}',
        '{"seq": 1, "action": "a", "data": "\n"}',
        "\ufeff{}",
        pytest.param("[" * 100_000, id="deep arrays"),
        pytest.param('{"a":' * 100_000, id="deep objects"),
        pytest.param('{"seq": 1, "action": "a", "data": ' + "[" * 50_000 + "]" * 50_000 + "}", id="deep data"),
        pytest.param("9" * 100_000, id="huge number"),
        pytest.param('{"seq": ' + "9" * 100_000 + "}", id="huge request number"),
    ],
)
def test_what_is_no_json_ends_the_link_with_1007(codec, said):
    fault = fault_of(codec, said)
    assert fault.code == 1007
    assert fault.reason.startswith("not valid JSON: ")


@both_spellings
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("1", "a message is a JSON object, not int"),
        ("null", "a message is a JSON object, not NoneType"),
        ('"seq"', "a message is a JSON object, not str"),
        ("true", "a message is a JSON object, not bool"),
        ("{}", "no message of this subprotocol has the members {}"),
        ('{"action": "a"}', "no message of this subprotocol has the members {action}"),
        ('{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}', "no message of this subprotocol has the members {a, b, c, d, e}"),
        ('{"event": "hello"}', "no message of this subprotocol has the members {event}"),
        ('{"seq": null, "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": "1", "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": 1.0, "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": true, "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": -1, "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": 9007199254740992, "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": 18446744073709551617, "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": 1, "seq": [], "action": "a"}', "expected a whole number at `$.seq`"),
        ('{"seq": 0, "action": "a"}', "request number below 1, to which no reply is possible"),
    ],
)
def test_what_is_no_message_ends_the_link_with_1003(codec, said, reason):
    fault = fault_of(codec, said)
    assert (fault.code, fault.reason) == (1003, reason)


@both_spellings
@pytest.mark.parametrize(
    ("said", "request_"),
    [
        ('{"seq": 1, "action": "a"}', Request(1, "a")),
        ('{"action": "a", "data": null, "seq": 9007199254740991}', Request(LARGEST, "a")),
        ('{"seq": 1, "action": "a", "data": [1, "ü"]}', Request(1, "a", [1, "ü"])),
        ('{"seq": 1, "action": "a", "deadline": 0}', Request(1, "a", None, 0.0)),
        ('{"seq": 1, "action": "a", "deadline": 2500}', Request(1, "a", None, 2.5)),
        ('{"seq": 1, "action": "a", "deadline": 0.5}', Request(1, "a", None, 0.0005)),
        ('{"seq": 1, "action": "a", "deadline": null}', Request(1, "a")),
        ('{"seq": 1, "action": "a", "traceparent": "00-1", "ack": 7}', Request(1, "a", traceparent="00-1")),
        ('{"seq": 1, "action": "a", "traceparent": "00-1", "deadline": 0}', Request(1, "a", None, 0.0, "00-1")),
        ('{"seq": 1, "action": "a", "traceparent": 7}', Request(1, "a")),
        ('{"seq": 1, "seq": 2, "action": "a", "action": "b"}', Request(2, "b")),
        ('{"seq": 1, "action": "a", "data": 340282366920938463463374607431768211456}', Request(1, "a", 2**128)),
        ('{"seq": 1, "action": "\\ud83d\\ude00"}', Request(1, "😀")),
    ],
)
def test_requests_are_understood(codec, said, request_):
    assert codec.from_client(said) == [request_]


# -- what cannot be said -----------------------------------------------------------------------------------------

endless: list[object] = []
endless.append(endless)
UNSPEAKABLE = {
    "object": object(),
    "function": print,
    "endless": endless,
    "huge int": 10**5000,
    "lone surrogate": "\ud800",
    "lone surrogate as a name": {"\ud800": 1},
    "tuple as a name": {(1, 2): 3},
    "deep in": [{"a": [object()]}],
}


@pytest.mark.parametrize("name", UNSPEAKABLE)
def test_data_that_json_cannot_hold_is_our_own_mistake(name):
    value = UNSPEAKABLE[name]
    for event in (Event("e", value), Event("e", {}, {"topic": value})):
        with pytest.raises(Misuse, match="cannot be encoded"):
            Body(event)
    for message in (Reply(1, value), Request(1, "a", value)):
        with pytest.raises(Misuse, match="cannot be encoded"):
            V1_JSON.encode(message)


def test_names_that_utf8_cannot_hold_are_our_own_mistake():
    with pytest.raises(Misuse):
        Body(Event("\ud800"))
    with pytest.raises(Misuse):
        COMPAT.encode(Request(1, "\udfff"))


def test_numbers_that_are_none_become_null():
    """JSON has no words for NaN and the infinities; msgspec, like browsers, writes null."""
    (text,) = frames_in(V1_JSON.frames([Body(Event("e", [math.nan, math.inf, -math.inf]))], 0))
    assert V1_JSON.from_server(text) == [Event("e", [None, None, None])]
