"""What every codec must do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import (
    Ack,
    AckReplies,
    Cancel,
    CloseCode,
    CloseReason,
    End,
    Event,
    Item,
    MalformedRequest,
    More,
    Reply,
    Request,
    Resumed,
)
from trio_hub.options import CompressionOptions
from trio_hub.wire.bodies import Body
from trio_hub.wire.codecs import Codec, FromServer
from trio_hub.wire.deflate import Deflater, Inflater
from trio_hub.wire.frames import close_frame
from trio_hub.wire.reading import FrameReader

__all__ = ["CodecContract"]

_LARGEST: Final = 2**53 - 1
_DEFLATERS: Final = [Deflater(15, CompressionOptions(above=above)) for above in (0, 100)]
_NO_NUMBERS: Final = (None, "1", 1.5, True, -1, [1], _LARGEST + 1)

_for_any = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])  # subclasses run it too
_numbers = st.integers(0, _LARGEST)
_names = st.text(min_size=1, max_size=12)
_data = st.recursive(
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
_deadlines = st.none() | st.integers(0, 10**10).map(lambda milliseconds: milliseconds / 1000)
_windows = st.none() | st.integers(1, _LARGEST)
_requests = st.builds(Request, st.integers(1, _LARGEST), _names, _data, _deadlines, st.none() | _names, _windows)
_failures = st.tuples(st.integers(400, 599), _names, st.text())
_replies = st.builds(Reply, _numbers, _data) | st.builds(Reply, _numbers, error=_failures)
_resumed = st.builds(Resumed, _names, _numbers, _numbers, st.none() | _numbers)
_parts = st.builds(Item, _numbers, _data) | st.builds(End, _numbers, st.none() | _failures)
_acknowledgements = st.one_of(
    st.builds(Ack, _numbers, st.none() | _names),
    st.builds(AckReplies, _numbers),
    st.builds(Cancel, _numbers),
    st.builds(More, _numbers, _numbers),
)
_events = st.builds(Event, st.text(), _data, st.none() | st.dictionaries(st.text(), _data, max_size=2))
_nearly_messages = st.dictionaries(
    st.sampled_from("seq action data deadline items ack ack_replies cancel more event status seq_reply x".split()),
    st.one_of(st.none(), st.booleans(), st.integers(-1, 2), st.floats(-2, 2), st.text(max_size=3)),
)


class CodecContract:
    """Subclass it, set `codec`, and override `spell` where messages are no JSON text::

    class TestMine(CodecContract):
        codec = MINE
    """

    codec: ClassVar[Codec]

    def spell(self, value: Any) -> str | bytes:
        """Return a message that holds this value of dictionaries, lists, text, numbers, booleans and None."""
        return json.dumps(value)

    # -- there and back

    @_for_any
    @given(message=_requests)
    @example(Request(1, "a", None, 1.001))  # 1.001 * 1000 < 1001
    def test_a_request_arrives_as_it_was_sent(self, message: Request) -> None:
        assert self.codec.from_client(self.codec.encode(message)) == [message]

    @_for_any
    @given(message=_replies | _resumed | _parts)
    def test_replies_and_resumed_arrive_as_they_were_sent(self, message: Reply | Resumed | Item | End) -> None:
        assert self.codec.from_server(self.codec.encode(message)) == [message]

    @_for_any
    @given(message=_requests | _acknowledgements | _replies | _parts)
    def test_who_asks_and_answers_is_understood_in_both(
        self, message: Request | Ack | AckReplies | Cancel | More | Reply | Item | End
    ) -> None:
        assert self.codec.from_peer(self.codec.encode(message)) == [message]

    @_for_any
    @given(data=_data, number=_numbers)
    def test_the_parts_of_a_streamed_reply_may_be_framed_as_events(self, data: Any, number: int) -> None:
        written = self.codec.frames([Body(Event("item", data), reply_to=number)], 7)
        assert self._understood(written) == [Item(number, data)]

    @_for_any
    @given(message=_acknowledgements)
    def test_acknowledgements_and_cancels_arrive_where_they_are_part_of_it(
        self, message: Ack | AckReplies | Cancel | More
    ) -> None:
        encoded = self.codec.encode(message)
        if self.codec.acknowledges:
            assert self.codec.from_client(encoded) == [message]
        else:
            self._is_fault(self.codec.from_client, encoded)

    @_for_any
    @given(events=st.lists(_events, max_size=4), first=st.integers(0, _LARGEST - 4) | st.integers(0, 200))
    def test_events_arrive_in_order_with_their_numbers_unless_they_are_acknowledged(
        self, events: list[Event], first: int
    ) -> None:
        """Whoever acknowledges counts along; the others have to read the number."""
        written = self.codec.frames([Body(event) for event in events], first)
        assert self._heard(written) == self._numbered(events, first)

    @_for_any
    @given(events=st.lists(_events, max_size=4), firsts=st.lists(st.integers(0, _LARGEST - 4), min_size=1, max_size=4))
    def test_who_agreed_to_compression_hears_the_same(self, events: list[Event], firsts: list[int]) -> None:
        bodies = [Body(event) for event in events]
        for deflater in _DEFLATERS:
            for first in firsts:
                assert self._heard(self.codec.deflating(deflater).frames(bodies, first)) == self._numbered(
                    events, first
                )
                assert self._heard(self.codec.frames(bodies, first)) == self._numbered(events, first)

    # -- what a server writes

    def test_no_events_are_no_bytes(self) -> None:
        self.codec.frames([Body(Event("e")), Body(Event("e"))], 0)
        assert self.codec.frames([], 5) == b""

    def test_events_are_never_mistaken_for_those_before(self) -> None:
        a, b, c = (Body(Event("e", name)) for name in "abc")
        owed = [a, b]
        for expected in ("ab", "abc"):
            assert [event.data for event in self._heard(self.codec.frames(owed, 0))] == list(expected)
            owed.append(c)
        lookalikes = [Body(Event("e", name)) for name in "ba"]
        assert [event.data for event in self._heard(self.codec.frames(lookalikes, 0))] == ["b", "a"]

    def test_an_event_is_what_it_was_when_it_was_encoded(self) -> None:
        data = {"n": 1}
        body = Body(Event("e", data))
        data["n"] = 2
        for number in range(2):
            (event,) = self._heard(self.codec.frames([body], number))
            assert event.data == {"n": 1}

    @_for_any
    @given(text=st.text(max_size=100))
    def test_an_event_counts_for_no_less_than_it_takes_on_the_wire(self, text: str) -> None:
        body = Body(Event("e", text, {"topic": text}))
        assert body.size >= len(self.codec.frames([body], _LARGEST))

    @pytest.mark.parametrize("value", [object(), print, "\ud800"], ids=["an object", "a function", "a lone surrogate"])
    def test_what_cannot_be_said_is_a_misuse(self, value: object) -> None:
        for message in (Reply(1, value), Request(1, "a", value), Reply(1, {"deep": [value]})):
            with pytest.raises(Misuse):
                self.codec.encode(message)

    def test_its_subprotocol_can_stand_in_a_header(self) -> None:
        name = self.codec.subprotocol
        assert name is None or (name.isascii() and not set(name) & set(' ,;:="\\/()<>@?[]{}\t'))

    # -- what peers say wrongly

    @_for_any
    @given(value=_nearly_messages | _data)
    def test_whatever_a_peer_says_is_understood_or_its_fault(self, value: Any) -> None:
        self._is_understood_or_a_fault(self.spell(value))

    @_for_any
    @given(said=st.text(max_size=60) | st.binary(max_size=60))
    def test_nonsense_is_the_fault_of_whoever_says_it(self, said: str | bytes) -> None:
        self._is_understood_or_a_fault(said)

    def test_a_message_that_is_not_whole_is_no_message(self) -> None:
        whole = self.codec.encode(Request(1, "a", {"text": "hello"}))
        for size in range(len(whole)):
            for hear in self._hearings():
                self._is_fault(hear, whole[:size], CloseCode.INVALID_DATA)

    def test_a_frame_of_the_other_kind_is_not_understood(self) -> None:
        said: str | bytes = self.codec.encode(Request(1, "a"))
        other = said.encode() if isinstance(said, str) else said.decode("latin-1")
        for hear in self._hearings():
            self._is_fault(hear, other, CloseCode.UNSUPPORTED)

    @pytest.mark.parametrize("value", [1, None, "seq", True, {}, {"action": "a"}, {"event": "e"}], ids=repr)
    def test_what_no_client_says_is_a_fault(self, value: Any) -> None:
        self._is_fault(self.codec.from_client, self.spell(value), CloseCode.UNSUPPORTED)

    @pytest.mark.parametrize(
        "value",
        [
            {},
            5,
            {"event": 5},
            {"event": None, "data": {}},
            {"event": "a", "seq": "1"},
            {"event": "a", "seq": -1},
            {"event": "a", "seq": True},
            {"status": "OK"},
            {"status": "OK", "seq_reply": None},
            {"status": "FAIL", "seq_reply": 1.5},
            {"status": "PERHAPS", "seq_reply": 1},
            {"resumed": {}},
            {"resumed": {"connection_id": 1, "next": 1, "requests": 1}},
            {"resumed": {"connection_id": "k", "next": -1, "requests": 1}},
            {"resumed": {"connection_id": "k", "next": 1, "requests": None}},
            {"seq": 1, "action": "a"},
        ],
        ids=repr,
    )
    def test_what_no_server_says_is_a_fault(self, value: Any) -> None:
        self._is_fault(self.codec.from_server, self.spell(value), CloseCode.UNSUPPORTED)

    @pytest.mark.parametrize("number", [*_NO_NUMBERS, 0], ids=repr)
    def test_a_request_needs_a_number_to_be_answered_to(self, number: Any) -> None:
        said = self.spell({"seq": number, "action": "a"})
        fault = self._is_fault(self.codec.from_client, said, CloseCode.UNSUPPORTED)
        assert "number" in fault.reason

    @pytest.mark.parametrize("word", ["ack", "ack_replies", "cancel"])
    @pytest.mark.parametrize("number", _NO_NUMBERS, ids=repr)
    def test_acknowledgements_and_cancels_need_a_number(self, word: str, number: Any) -> None:
        fault = self._is_fault(self.codec.from_client, self.spell({word: number}), CloseCode.UNSUPPORTED)
        assert word in fault.reason

    @pytest.mark.parametrize("rest", [{}, *({"action": wrong} for wrong in (None, "", 5, ["a"]))], ids=repr)
    def test_a_request_without_an_action_can_still_be_answered(self, rest: dict[str, Any]) -> None:
        self._is_malformed({"seq": 4, **rest}, "$.action")

    @pytest.mark.parametrize("deadline", [-1, "1", True, [], 1e300, _LARGEST + 1], ids=repr)
    def test_a_request_with_a_bad_deadline_can_still_be_answered(self, deadline: Any) -> None:
        self._is_malformed({"seq": 4, "action": "a", "deadline": deadline}, "$.deadline")

    @pytest.mark.parametrize(
        "rest", [{}, *({"error": error} for error in (None, {"id": 5}, {"id": "a", "message": "b"}))], ids=repr
    )
    def test_a_failure_without_a_clear_reason_is_still_a_failure(self, rest: dict[str, Any]) -> None:
        (reply,) = self.codec.from_server(self.spell({"status": "FAIL", "seq_reply": 4, **rest}))
        assert isinstance(reply, Reply)
        assert reply.seq_reply == 4
        assert reply.error is not None
        assert reply.error[0] == 500

    # -- how the tests above judge

    def _hearings(self) -> Sequence[Callable[[str | bytes], Sequence[object]]]:
        return (self.codec.from_client, self.codec.from_server)

    def _numbered(self, events: list[Event], first: int) -> list[Event]:
        """Return events as a client hears them, the first with this number: whoever acknowledges counts by itself."""
        return [
            attrs.evolve(event, number=None if self.codec.acknowledges else number)
            for number, event in enumerate(events, first)
        ]

    def _heard(self, written: bytes) -> list[Event]:
        """Return the events in what a server wrote, as any client would read them."""
        understood = self._understood(written)
        events = [said for said in understood if isinstance(said, Event)]
        assert len(events) == len(understood)
        return events

    def _understood(self, written: bytes) -> list[FromServer]:
        inflater = Inflater(15, 2**30, keeps_context=False)
        reader = FrameReader(masked=False, max_message=2**30, max_fragments=1, inflater=inflater)
        received = reader.feed(written)
        assert not reader.midway
        heard: list[FromServer] = []
        for message in received:
            assert isinstance(message, str | bytes)
            heard += self.codec.from_server(message)
        return heard

    def _is_fault(
        self, hear: Callable[[str | bytes], Sequence[object]], said: str | bytes, code: int | None = None
    ) -> PeerFault:
        """Check that this is a fault, which can be told in a close frame; return it."""
        with pytest.raises(PeerFault) as caught:
            hear(said)
        fault = caught.value
        assert fault.code in ((CloseCode.UNSUPPORTED, CloseCode.INVALID_DATA) if code is None else (code,))
        assert fault.reason
        close_frame(CloseReason(fault.code, fault.reason))
        return fault

    def _is_understood_or_a_fault(self, said: str | bytes) -> None:
        for hear in self._hearings():
            try:
                messages = hear(said)
            except PeerFault:
                self._is_fault(hear, said)
            else:
                assert all(attrs.has(type(message)) for message in messages)

    def _is_malformed(self, value: dict[str, Any], named: str) -> None:
        (request,) = self.codec.from_client(self.spell(value))
        assert isinstance(request, MalformedRequest)
        assert request.seq == value["seq"]
        assert named in request.fault
