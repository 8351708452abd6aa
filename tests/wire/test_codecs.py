"""The two spellings, word by word as the protocol has them; then whatever a peer might say instead."""

from __future__ import annotations

import json
import math

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import (
    Ack,
    AckReplies,
    Cancel,
    CloseReason,
    Event,
    MalformedRequest,
    Reply,
    Request,
    Resumed,
)
from trio_hub.wire.codecs import CODECS, COMPAT, V1_JSON, Body
from trio_hub.wire.frames import FrameReader, close_frame

both_spellings = pytest.mark.parametrize("codec", [COMPAT, V1_JSON], ids=["compat", "v1"])
LARGEST = 2**53 - 1
TOWN = Event("posted", {"text": "hüllo"}, {"topic": "town"})


def frames_in(written: bytes) -> list[str]:
    """Return the text frames in what a server wrote, as any client would read them."""
    reader = FrameReader(masked=False, max_message=10_000_000, max_fragments=1)
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


def test_a_v1_batch_is_never_mistaken_for_the_one_before():
    a, b, c = (Body(Event("e", name)) for name in "abc")
    owed = [a, b]
    for expected in ("ab", "abc"):
        texts = frames_in(V1_JSON.frames(owed, 0))
        assert [json.loads(text)["data"] for text in texts] == list(expected)
        owed.append(c)
    lookalike = [Body(Event("e", name)) for name in "ba"]
    assert [json.loads(text)["data"] for text in frames_in(V1_JSON.frames(lookalike, 0))] == ["b", "a"]


@both_spellings
def test_no_events_are_no_bytes(codec):
    codec.frames([Body(TOWN), Body(TOWN)], 0)
    assert codec.frames([], 5) == b""


def test_recipients_share_a_compat_frame_up_to_its_number():
    body = Body(TOWN)
    COMPAT.frames([body], 10)
    assert body.compat_beginning(3) is body.compat_beginning(3)
    assert COMPAT.frames([body], 99) == body.compat_beginning(3) + b"99}"


@both_spellings
def test_an_event_is_what_it_was_when_it_was_encoded(codec):
    data = {"n": 1}
    body = Body(Event("e", data))
    data["n"] = 2
    for _ in range(2):
        (text,) = frames_in(codec.frames([body], 0))
        assert json.loads(text)["data"] == {"n": 1}


@both_spellings
@given(text=st.text(max_size=100))
def test_an_event_counts_for_no_less_than_it_takes_on_the_wire(codec, text):
    body = Body(Event("e", text, {"topic": text}))
    assert body.size >= len(codec.frames([body], LARGEST))


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
    assert CODECS == {None: COMPAT, "trio-hub.v1.json": V1_JSON}
    assert (COMPAT.acknowledges, V1_JSON.acknowledges) == (False, True)


# -- batches -----------------------------------------------------------------------------------------------------


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
def test_a_binary_frame_ends_the_link_with_1003(codec):
    for said_by in (codec.from_client, codec.from_server):
        with pytest.raises(PeerFault, match="binary frame") as caught:
            said_by(b'{"seq": 1, "action": "a"}')
        assert caught.value.code == 1003


@pytest.mark.parametrize("word", ["ack", "ack_replies", "cancel"])
@pytest.mark.parametrize("number", ["-1", "1.0", "null", '"1"', "false", "[1]", "9007199254740992"])
def test_acknowledgements_and_cancels_need_a_whole_number(word, number):
    fault = fault_of(V1_JSON, f'{{"{word}": {number}}}')
    assert (fault.code, fault.reason) == (1003, f"expected a whole number at `$.{word}`")


@pytest.mark.parametrize("word", ["ack", "ack_replies", "cancel"])
def test_compat_has_no_acknowledgements_and_no_cancels(word):
    fault = fault_of(COMPAT, f'{{"{word}": 1}}')
    assert (fault.code, fault.reason) == (1003, f"no message of this subprotocol has the members {{{word}}}")


@both_spellings
@pytest.mark.parametrize("rest", ["", ', "action": null', ', "action": ""', ', "action": 5', ', "action": ["a"]'])
def test_a_request_without_an_action_can_still_be_answered(codec, rest):
    assert codec.from_client(f'{{"seq": 4{rest}}}') == [
        MalformedRequest(4, "Expected non-empty `str` - at `$.action`"),
    ]


@both_spellings
@pytest.mark.parametrize("deadline", ["-1", '"1"', "true", "[]", "1e300", "9007199254740992", "99999999999999999999"])
def test_a_request_with_a_bad_deadline_can_still_be_answered(codec, deadline):
    assert codec.from_client(f'{{"seq": 4, "action": "a", "deadline": {deadline}}}') == [
        MalformedRequest(4, "Expected milliseconds >= 0 - at `$.deadline`"),
    ]


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
        ('{"seq": 1, "action": "a", "traceparent": "00-1", "ack": 7}', Request(1, "a")),
        ('{"seq": 1, "seq": 2, "action": "a", "action": "b"}', Request(2, "b")),
        ('{"seq": 1, "action": "a", "data": 340282366920938463463374607431768211456}', Request(1, "a", 2**128)),
        ('{"seq": 1, "action": "\\ud83d\\ude00"}', Request(1, "😀")),
    ],
)
def test_requests_are_understood(codec, said, request_):
    assert codec.from_client(said) == [request_]


@settings(deadline=None, max_examples=300)
@given(
    said=st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from([*'{}[]":,', '"seq"', '"ack"', '"action"', "1", "-1", "0", '"a"', "null"])).map(
            "".join
        ),
        st.dictionaries(
            st.sampled_from(["seq", "action", "data", "deadline", "ack", "ack_replies", "cancel", "x"]),
            st.one_of(st.none(), st.booleans(), st.integers(-1, 2), st.floats(), st.text(max_size=3)),
        ).map(json.dumps),
    ),
    codec=st.sampled_from([COMPAT, V1_JSON]),
)
def test_whatever_a_client_says_is_understood_or_its_fault(said, codec):
    try:
        messages = codec.from_client(said)
    except PeerFault as fault:
        close, code = close_frame(CloseReason(fault.code, fault.reason)), fault.code
        assert len(close) <= 127
        assert code in (1003, 1007)
    else:
        assert all(isinstance(item, Request | MalformedRequest | Ack | AckReplies | Cancel) for item in messages)


# -- what servers say wrongly ------------------------------------------------------------------------------------


@both_spellings
@pytest.mark.parametrize(
    "said",
    [
        "{}",
        "5",
        '{"event": 5}',
        '{"event": null, "data": {}}',
        '{"event": "a", "seq": "1"}',
        '{"event": "a", "seq": -1}',
        '{"event": "a", "seq": true}',
        '{"status": "OK"}',
        '{"status": "OK", "seq_reply": null}',
        '{"status": "FAIL", "seq_reply": 1.5}',
        '{"status": "PERHAPS", "seq_reply": 1}',
        '{"resumed": {}}',
        '{"resumed": {"connection_id": 1, "next": 1, "requests": 1}}',
        '{"resumed": {"connection_id": "k", "next": -1, "requests": 1}}',
        '{"resumed": {"connection_id": "k", "next": 1, "requests": null}}',
        '{"seq": 1, "action": "a"}',
    ],
)
def test_what_no_server_says_is_a_fault(codec, said):
    with pytest.raises(PeerFault) as caught:
        codec.from_server(said)
    assert caught.value.code == 1003


@both_spellings
@pytest.mark.parametrize(
    "error", ["", ', "error": null', ', "error": {"id": 5}', ', "error": {"id": "a", "message": "b"}']
)
def test_a_failure_without_a_clear_reason_is_still_a_failure(codec, error):
    (reply,) = codec.from_server(f'{{"status": "FAIL", "seq_reply": 4{error}}}')
    assert reply == Reply(4, None, (500, "unknown", "the server gave no reason that we understand"))


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


# -- there and back ----------------------------------------------------------------------------------------------

numbers = st.integers(0, LARGEST)
names = st.text(min_size=1, max_size=12)
data = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**80), 2**80),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=10,
)
requests = st.builds(
    Request,
    st.integers(1, LARGEST),
    names,
    data,
    st.one_of(st.none(), st.integers(0, 10**10).map(lambda milliseconds: milliseconds / 1000)),
)
failures = st.tuples(st.integers(400, 599), names, st.text())
replies = st.one_of(st.builds(Reply, numbers, data), st.builds(Reply, numbers, error=failures))
events = st.builds(Event, st.text(), data, st.one_of(st.none(), st.dictionaries(st.text(), data, max_size=2)))


@settings(deadline=None)
@given(codec=st.sampled_from([COMPAT, V1_JSON]), message=requests)
@example(V1_JSON, Request(1, "a", None, 1.001))  # 1.001 * 1000 < 1001
def test_a_request_arrives_as_it_was_sent(codec, message):
    assert codec.from_client(codec.encode(message)) == [message]


@settings(deadline=None)
@given(
    message=st.one_of(
        st.builds(Ack, numbers, st.none() | names),
        st.builds(AckReplies, numbers),
        st.builds(Cancel, numbers),
    )
)
def test_acknowledgements_and_cancels_arrive_as_they_were_sent(message):
    assert V1_JSON.from_client(V1_JSON.encode(message)) == [message]


@settings(deadline=None)
@given(
    codec=st.sampled_from([COMPAT, V1_JSON]), message=st.one_of(replies, st.builds(Resumed, names, numbers, numbers))
)
def test_replies_and_resumed_arrive_as_they_were_sent(codec, message):
    assert codec.from_server(codec.encode(message)) == [message]


@settings(deadline=None)
@given(codec=st.sampled_from([COMPAT, V1_JSON]), said=st.lists(events, max_size=4), first=st.integers(0, LARGEST - 4))
def test_events_arrive_as_they_were_published_with_the_number_where_it_is_written(codec, said, first):
    received = [codec.from_server(text) for text in frames_in(codec.frames([Body(event) for event in said], first))]
    explicit = codec is COMPAT
    assert received == [
        [attrs.evolve(event, number=number if explicit else None)] for number, event in enumerate(said, first)
    ]


def test_numbers_that_are_none_become_null():
    """JSON has no words for NaN and the infinities; msgspec, like browsers, writes null."""
    (text,) = frames_in(V1_JSON.frames([Body(Event("e", [math.nan, math.inf, -math.inf]))], 0))
    assert V1_JSON.from_server(text) == [Event("e", [None, None, None])]
