"""Many messages at once, at a desk: what is spelled how, who may say what, and whose turn it is."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.effort import examples
from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import Kind
from trio_hub.wire.inbound import Arriving
from trio_hub.wire.outbound import Departing
from trio_hub.wire.stream_words import number_in, number_of
from trio_hub.wire.streams import Multiplexer

ALL = 1 << 20
HELLO = b"\x05\x0a\x02"  # a window of 10 bytes, 2 messages


def side(*, window: int = 10, messages: int = 2, chunk: int = 4, greeted: bool = True) -> Multiplexer:
    """Return one side, which has said hello and, where it is `greeted`, heard `HELLO`."""
    multiplexer = Multiplexer(window=window, messages=messages, chunk=chunk)
    multiplexer.draw(ALL)
    if greeted:
        multiplexer.hear(HELLO)
    return multiplexer


def offered(multiplexer: Multiplexer, data: bytes, *, last: bool = True, kind: int = Kind.BINARY) -> Departing:
    """Return a message whose first data is offered."""
    departing = Departing(kind)
    multiplexer.outbound.offer(departing, data, last=last)
    return departing


def heard(multiplexer: Multiplexer, *frames: bytes) -> Arriving:
    """Hear frames of which the first begins a message; return that."""
    arriving = multiplexer.hear(frames[0])
    assert arriving is not None
    for frame in frames[1:]:
        assert multiplexer.hear(frame) is None
    return arriving


def fault_of(multiplexer: Multiplexer, *frames: str | bytes) -> str:
    """Hear frames of which the last is a fault; return what is wrong with it."""
    for frame in frames[:-1]:
        multiplexer.hear(frame)
    with pytest.raises(PeerFault) as caught:
        multiplexer.hear(frames[-1])
    return caught.value.reason


# -- spelling


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "4040"),
        (16383, "7fff"),
        (16384, "80004000"),
        (2**30 - 1, "bfffffff"),
        (2**30, "c000000040000000"),
        (2**62 - 1, "ffffffffffffffff"),
    ],
)
def test_numbers_are_spelled_as_in_quic(value, spelled):
    assert number_of(value).hex() == spelled
    assert number_in(bytes.fromhex(spelled), 0) == (value, len(spelled) // 2)


@given(st.integers(0, 2**62 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_every_number_is_read_as_it_was_written(value, before, behind):
    spelled = number_of(value)
    assert number_in(before + spelled + behind, len(before)) == (value, len(before + spelled))


def test_a_number_beyond_the_largest_is_the_largest():
    assert number_of(2**70) == number_of(2**62 - 1)


@pytest.mark.parametrize("frame", [b"\x00", b"\x00\x40", b"\x04\x01\xff\xff", b"\x02\x01"])
def test_a_number_that_is_cut_short_is_a_fault(frame):
    assert fault_of(side(), b"\x41a", frame) == "a number is cut short"


@pytest.mark.parametrize("first", [0x06, 0x3F, 0x40, 0x48, 0x50, 0x80, 0x88, 0x90, 0xC1, 0xFF])
def test_a_frame_that_begins_with_nothing_known_is_a_fault(first):
    assert fault_of(side(), bytes((first, 1, 1))) == f"no frame begins with {first:#04x}"


@pytest.mark.parametrize("frame", ["", "text", b""])
def test_a_frame_is_binary_and_not_empty(frame):
    assert fault_of(side(), frame) == "a frame of many messages is binary, and not empty"


@pytest.mark.parametrize("frame", [b"\x04\x00\x01!", b"\x05\x01\x01!"])
def test_a_frame_that_is_longer_than_what_it_says_is_a_fault(frame):
    assert fault_of(side(), frame) == "a frame is longer than what it says"


# -- hello


def test_hello_is_said_first_and_once():
    multiplexer = Multiplexer(window=256 * 1024, messages=256, chunk=16)
    assert multiplexer.has_to_say
    assert multiplexer.draw(ALL) == [b"\x05" + number_of(256 * 1024) + number_of(256)]
    assert not multiplexer.has_to_say
    assert multiplexer.draw(ALL) == []


def test_nothing_is_sent_before_the_peer_has_said_hello():
    multiplexer = side(greeted=False)
    assert multiplexer.outbound.whole(Kind.TEXT, b"a") is None
    offered(multiplexer, b"a")
    assert multiplexer.draw(ALL) == []
    multiplexer.hear(HELLO)
    assert multiplexer.has_to_say
    assert multiplexer.draw(ALL) == [b"\x82a"]


def test_whoever_says_anything_before_hello_is_at_fault():
    assert fault_of(side(greeted=False), b"\x81a") == "the first frame says hello"


def test_whoever_says_hello_twice_is_at_fault():
    assert fault_of(side(), HELLO) == "hello is said once"


def test_a_window_of_nothing_is_a_fault():
    assert fault_of(side(greeted=False), b"\x05\x00\x01") == "with a window of 0 bytes nothing can be said"


# -- out


def test_a_small_message_is_one_frame():
    multiplexer = side()
    assert multiplexer.outbound.whole(Kind.TEXT, b"abcd") == b"\x81abcd"
    assert not multiplexer.has_to_say
    offered(multiplexer, b"wxyz")
    assert multiplexer.draw(ALL) == [b"\x82wxyz"]


def test_an_empty_message_is_one_frame():
    multiplexer = side()
    assert multiplexer.outbound.whole(Kind.TEXT, b"") == b"\x81"
    offered(multiplexer, b"")
    assert multiplexer.draw(ALL) == [b"\x82"]


def test_a_small_message_has_to_wait_its_turn():
    multiplexer = side()
    assert multiplexer.outbound.whole(Kind.TEXT, b"abcde") is None, "larger than a chunk"
    offered(multiplexer, b"a")
    assert multiplexer.outbound.whole(Kind.TEXT, b"a") is None, "others wait"
    multiplexer.draw(ALL)
    assert multiplexer.outbound.whole(Kind.TEXT, b"a") == b"\x81a"
    assert multiplexer.outbound.whole(Kind.TEXT, b"a") is None, "two are allowed"
    offered(multiplexer, b"a")
    multiplexer.hear(b"\x04\x00\x01")
    assert multiplexer.outbound.whole(Kind.TEXT, b"a") is None, "others have waited longer"


def test_a_small_message_that_does_not_fit_into_the_window_is_cut():
    multiplexer = side(greeted=False)
    multiplexer.hear(b"\x05\x02\x02")
    assert multiplexer.outbound.whole(Kind.TEXT, b"abc") is None
    offered(multiplexer, b"abc")
    assert multiplexer.draw(ALL) == [b"\x42ab"]
    multiplexer.hear(b"\x04\x01\x05")
    assert multiplexer.draw(ALL) == [b"\x01\x01c"]


def test_messages_take_turns():
    multiplexer = side()
    one, two = offered(multiplexer, b"aaaabbbb"), offered(multiplexer, b"zzzzyyyy")
    assert multiplexer.draw(ALL) == [b"\x42aaaa", b"\x42zzzz"]
    assert one.data is not None
    assert multiplexer.draw(ALL) == [b"\x01\x01bbbb", b"\x01\x02yyyy"]
    assert one.data is two.data is None
    assert not multiplexer.has_to_say


def test_whose_turn_it_is_is_remembered_when_no_more_is_drawn():
    multiplexer = side()
    offered(multiplexer, b"aaaabbbb")
    offered(multiplexer, b"zzzzyyyy")
    assert [multiplexer.draw(1) for _ in range(5)] == [
        [b"\x42aaaa"],
        [b"\x42zzzz"],
        [b"\x01\x01bbbb"],
        [b"\x01\x02yyyy"],
        [],
    ]


def test_no_more_is_sent_than_there_is_credit_for():
    multiplexer = side()
    offered(multiplexer, b"aaaabbbbccccdddd")
    assert [multiplexer.draw(ALL) for _ in range(4)] == [[b"\x42aaaa"], [b"\x00\x01bbbb"], [b"\x00\x01cc"], []]
    multiplexer.hear(b"\x04\x01\x03")
    multiplexer.hear(b"\x04\x01\x02")
    assert [multiplexer.draw(ALL) for _ in range(3)] == [[b"\x00\x01ccdd"], [b"\x00\x01d"], []]
    multiplexer.hear(b"\x04\x01\x09")
    assert multiplexer.draw(ALL) == [b"\x01\x01d"]


def test_credit_for_a_message_that_waits_for_nothing_is_kept():
    multiplexer = side(chunk=40)
    departing = offered(multiplexer, b"0123456789", last=False)
    assert multiplexer.draw(ALL) == [b"\x420123456789"]
    multiplexer.hear(b"\x04\x01\x08")
    assert multiplexer.draw(ALL) == []
    multiplexer.outbound.offer(departing, b"01234567", last=False)
    assert multiplexer.draw(ALL) == [b"\x00\x0101234567"]
    multiplexer.outbound.offer(departing, b"8", last=False)
    assert multiplexer.draw(ALL) == []


def test_the_end_of_a_message_needs_no_credit():
    multiplexer = side(chunk=40)
    departing = offered(multiplexer, b"0123456789", last=False)
    multiplexer.draw(ALL)
    multiplexer.outbound.offer(departing, b"", last=True)
    assert multiplexer.draw(ALL) == [b"\x01\x01"]


def test_no_more_messages_begin_than_the_peer_allows():
    multiplexer = side()
    for word in (b"a", b"b", b"c", b"d"):
        offered(multiplexer, word)
    assert multiplexer.draw(ALL) == [b"\x82a", b"\x82b"]
    assert not multiplexer.has_to_say
    offered(multiplexer, b"e")
    multiplexer.hear(b"\x04\x00\x02")
    assert multiplexer.has_to_say
    assert multiplexer.draw(ALL) == [b"\x82c", b"\x82d"]
    multiplexer.hear(b"\x04\x00\x04")
    assert multiplexer.draw(ALL) == [b"\x82e"]


def test_a_message_that_is_given_up_while_it_waits_makes_room_for_the_next():
    multiplexer = side()
    waiting = [offered(multiplexer, word) for word in (b"a", b"b", b"c", b"d")]
    multiplexer.outbound.reset(waiting[0], 1001, "")
    multiplexer.outbound.reset(waiting[2], 1001, "")
    assert multiplexer.draw(ALL) == [b"\x82b", b"\x82d"]


def test_a_message_is_reset_once_it_has_begun():
    multiplexer = side()
    begun, unheard = offered(multiplexer, b"aaaabbbb"), Departing(Kind.TEXT)
    multiplexer.draw(ALL)
    for departing in (begun, begun, unheard):
        multiplexer.outbound.reset(departing, 1011, "é" * 100)
        assert departing.over == (1011, "é" * 100)
    assert multiplexer.has_to_say
    assert multiplexer.draw(ALL) == [b"\x02\x01" + number_of(1011) + "é".encode() * 61]
    assert multiplexer.draw(ALL) == []


def test_a_message_of_which_the_peer_has_all_is_not_reset():
    multiplexer = side()
    departing = offered(multiplexer, b"a")
    multiplexer.draw(ALL)
    multiplexer.outbound.reset(departing, 1001, "")
    assert departing.over is None
    assert multiplexer.draw(ALL) == []


def test_a_stop_gives_a_message_up_and_is_answered():
    multiplexer = side()
    departing = offered(multiplexer, b"aaaabbbb")
    multiplexer.draw(ALL)
    multiplexer.hear(b"\x03\x01\x07enough")
    assert departing.over == (7, "enough")
    assert departing.data is None
    assert multiplexer.draw(ALL) == [b"\x02\x01\x07enough"]


def test_what_crossed_the_end_of_a_message_does_nothing():
    multiplexer = side()
    offered(multiplexer, b"a")
    multiplexer.draw(ALL)
    multiplexer.hear(b"\x03\x01\x07enough")
    multiplexer.hear(b"\x04\x01\x07")
    assert not multiplexer.has_to_say


@pytest.mark.parametrize("frame", [b"\x03\x01\x00", b"\x04\x01\x01", b"\x03\xff\xff\xff\xff\xff\xff\xff\xff\x00"])
def test_whoever_speaks_of_a_message_that_has_not_begun_is_at_fault(frame):
    assert fault_of(side(), frame).endswith("is spoken of, and has not begun")


def test_whoever_stops_message_0_is_at_fault():
    assert fault_of(side(), b"\x03\x00\x00") == "message 0 is no message"


@pytest.mark.parametrize("kind", [0, 8, 9, 10, 16, -1])
def test_a_message_is_of_a_kind_that_messages_have(kind):
    with pytest.raises(Misuse):
        Departing(kind)


def test_who_sends_is_told_when_its_data_has_left_and_when_it_is_over():
    multiplexer = side()
    departing = offered(multiplexer, b"aaaabbbb", last=False)
    told = []
    departing.heed = lambda: told.append(departing.over)
    multiplexer.draw(ALL)
    assert told == []
    multiplexer.draw(ALL)
    assert told == [None]
    multiplexer.hear(b"\x03\x01\x00")
    assert told == [None, (0, "")]


# -- in


def test_a_message_is_had_as_it_comes():
    multiplexer = side()
    arriving = heard(multiplexer, b"\x41abc")
    assert (arriving.number, arriving.kind, arriving.ended) == (1, Kind.TEXT, False)
    assert multiplexer.inbound.take(arriving) == b"abc"
    assert multiplexer.inbound.take(arriving) == b""
    for frame in (b"\x00\x01d", b"\x00\x01e", b"\x00\x01f"):
        multiplexer.hear(frame)
    assert multiplexer.inbound.take(arriving) == b"def"
    multiplexer.hear(b"\x01\x01")
    assert arriving.ended
    assert multiplexer.inbound.live == []
    assert multiplexer.inbound.take(arriving) == b""


def test_credit_is_given_before_the_peer_has_to_wait():
    multiplexer = side()
    arriving = heard(multiplexer, b"\x42aaaa")
    multiplexer.inbound.take(arriving)
    assert not multiplexer.has_to_say
    multiplexer.hear(b"\x00\x01b")
    assert not multiplexer.has_to_say
    multiplexer.hear(b"\x00\x01b")
    assert multiplexer.has_to_say
    assert multiplexer.draw(ALL) == [b"\x04\x01\x04"]
    multiplexer.hear(b"\x00\x01cccccccc")
    multiplexer.inbound.take(arriving)
    assert multiplexer.draw(ALL) == [b"\x04\x01\x0a"]


def test_no_credit_is_given_for_a_message_that_has_ended():
    multiplexer = side()
    arriving = heard(multiplexer, b"\x42aaaaaaaa")
    multiplexer.inbound.take(arriving)
    assert multiplexer.has_to_say
    multiplexer.hear(b"\x01\x01b")
    assert multiplexer.draw(ALL) == []


def test_more_than_the_credit_is_a_fault():
    assert fault_of(side(), b"\x4201234567", b"\x00\x0189!") == "more of message 1 than its credit of 10 bytes"
    assert fault_of(side(), b"\x820123456789!") == "more of message 1 than its credit of 10 bytes"


def test_another_message_may_come_when_one_was_had_to_its_end():
    multiplexer = side()
    one, two = heard(multiplexer, b"\x81a"), heard(multiplexer, b"\x42b")
    multiplexer.inbound.take(two)
    assert multiplexer.draw(ALL) == []
    multiplexer.inbound.take(one)
    multiplexer.inbound.take(one)
    assert multiplexer.has_to_say
    assert multiplexer.draw(ALL) == [b"\x04\x00\x01"]
    heard(multiplexer, b"\x82c")
    assert fault_of(multiplexer, b"\x82d") == "message 4 begins, and 3 are allowed by now"


def test_that_messages_may_come_is_said_of_many_at_once():
    multiplexer = side(messages=8)
    for _ in range(3):
        multiplexer.inbound.take(heard(multiplexer, b"\x81a"))
        assert not multiplexer.has_to_say
    multiplexer.inbound.take(heard(multiplexer, b"\x81a"))
    assert multiplexer.draw(ALL) == [b"\x04\x00\x04"]


def test_what_was_reset_is_dropped():
    multiplexer = side()
    arriving = heard(multiplexer, b"\x42abc", b"\x02\x01\x07sorry")
    assert arriving.over == (7, "sorry")
    assert arriving.ended
    assert multiplexer.inbound.take(arriving) == b""
    heard(multiplexer, b"\x82b")
    assert multiplexer.draw(ALL) == [b"\x04\x00\x01"]


@pytest.mark.parametrize("frame", [b"\x00\x01a", b"\x01\x01a", b"\x02\x01\x00", b"\x00\x02a", b"\x00\x00a"])
def test_whoever_goes_on_with_a_message_that_is_not_under_way_is_at_fault(frame):
    for ended in (b"\x81a", b"\x41a\x01\x01", b"\x41a\x02\x01\x00"):
        frames = (b"\x41a", ended[2:]) if ended[0] == 0x41 else (ended,)
        assert fault_of(side(), *frames, frame) == f"message {frame[1]} goes on, and is not under way"


@pytest.mark.parametrize(("words", "wrong"), [(b"\xff", "is not UTF-8"), (b"a" * 124, "is longer than 123 bytes")])
def test_a_reason_is_short_and_utf8(words, wrong):
    assert fault_of(side(), b"\x41a", b"\x02\x01\x00" + words) == f"a reason {wrong}"


def test_what_comes_of_a_stopped_message_is_dropped_until_its_senders_last_word():
    for last_word in (b"\x01\x01c", b"\x02\x01\x07enough"):
        multiplexer = side()
        arriving = heard(multiplexer, b"\x42aaa")
        multiplexer.inbound.stop(arriving, 7, "enough")
        assert multiplexer.draw(ALL) == [b"\x03\x01\x07enough"]
        multiplexer.hear(b"\x00\x01bbb")
        assert multiplexer.inbound.take(arriving) == b""
        heard(multiplexer, b"\x82b")
        assert not multiplexer.has_to_say, "it still counts"
        multiplexer.hear(last_word)
        assert arriving.over == (7, "enough")
        assert multiplexer.draw(ALL) == [b"\x04\x00\x01"]


def test_a_stopped_message_gets_no_more_than_its_credit_either():
    multiplexer = side()
    multiplexer.inbound.stop(heard(multiplexer, b"\x42aaa"), 7, "")
    assert fault_of(multiplexer, b"\x00\x01bbbbbbbb") == "more of message 1 than its credit of 10 bytes"


def test_a_stop_takes_the_place_of_credit():
    multiplexer = side()
    arriving = heard(multiplexer, b"\x42aaaaaa")
    multiplexer.inbound.take(arriving)
    multiplexer.inbound.stop(arriving, 7, "")
    assert multiplexer.draw(ALL) == [b"\x03\x01\x07"]


def test_a_message_that_was_sent_whole_is_stopped_without_a_word():
    multiplexer = side(messages=1)
    arriving = heard(multiplexer, b"\x82abc")
    multiplexer.inbound.stop(arriving, 7, "")
    assert multiplexer.inbound.take(arriving) == b""
    assert multiplexer.draw(ALL) == [b"\x04\x00\x01"]
    multiplexer.inbound.stop(arriving, 8, "")
    assert arriving.over == (7, "")
    assert multiplexer.draw(ALL) == []


def test_a_stop_that_crossed_the_end_is_not_said_any_more():
    multiplexer = side(messages=8)
    arriving = heard(multiplexer, b"\x42abc")
    multiplexer.inbound.stop(arriving, 7, "")
    multiplexer.hear(b"\x01\x01")
    assert multiplexer.draw(ALL) == []


def test_who_takes_is_told_when_there_is_more_and_when_it_has_ended():
    multiplexer = side()
    arriving = heard(multiplexer, b"\x42a")
    told = []
    arriving.heed = lambda: told.append((arriving.ended, arriving.over))
    multiplexer.hear(b"\x00\x01b")
    multiplexer.hear(b"\x02\x01\x07sorry")
    assert told == [(False, None), (True, (7, "sorry"))]


def test_tiny_pieces_take_no_more_than_their_bytes():
    multiplexer = side(window=10_000)
    arriving = heard(multiplexer, b"\x42a")
    for _ in range(9_999):
        multiplexer.hear(b"\x00\x01b")
    assert isinstance(arriving._data, bytearray)
    assert multiplexer.inbound.take(arriving) == b"a" + b"b" * 9_999


# -- any story

WINDOW, MESSAGES, CHUNK = 9, 3, 4


class Side:
    """One side in a story: what it has sent, what it has had, and the way that its frames go."""

    def __init__(self) -> None:
        self.multiplexer = Multiplexer(window=WINDOW, messages=MESSAGES, chunk=CHUNK)
        self.way: deque[bytes] = deque()
        self.sent: list[list] = []  # in order of their beginning: the message, what was offered, whether that is all
        self.open: list[list] = []  # those to which more may be added
        self.had: dict[int, list] = {}  # the message, what was taken, whether that is all


class TwoSides(RuleBasedStateMachine):
    """Two sides, and frames between them that come whenever they like, in order."""

    @initialize(greeted=st.sampled_from([True, True, True, False]))
    def begin(self, greeted):
        self.sides = (Side(), Side())
        for n in (0, 1) if greeted else ():
            self.pass_on(n)

    def pick(self, n):
        return self.sides[n], self.sides[1 - n]

    @rule(n=st.sampled_from([0, 1]), data=st.binary(max_size=3 * WINDOW), last=st.booleans())
    def send(self, n, data, last):
        us, _ = self.pick(n)
        departing = Departing(Kind.BINARY)
        entry = [departing, data or b"!", last]
        us.sent.append(entry)
        us.open.append(entry)
        us.multiplexer.outbound.offer(departing, data or b"!", last=last)

    @rule(n=st.sampled_from([0, 1]), data=st.binary(max_size=CHUNK))
    def send_small(self, n, data):
        us, _ = self.pick(n)
        frame = us.multiplexer.outbound.whole(Kind.BINARY, data)
        if frame is not None:
            us.way.extend(us.multiplexer.draw(ALL))
            us.way.append(frame)
            departing = Departing(Kind.BINARY)
            departing.number = us.multiplexer.outbound._begun
            us.sent.append([departing, data, True])

    @rule(n=st.sampled_from([0, 1]), which=st.integers(0, 9), data=st.binary(max_size=2 * WINDOW), last=st.booleans())
    def go_on(self, n, which, data, last):
        us, _ = self.pick(n)
        ready = [entry for entry in us.open if not entry[2] and entry[0].data is None and entry[0].over is None]
        if ready:
            entry = ready[which % len(ready)]
            if data or last:
                us.multiplexer.outbound.offer(entry[0], data, last=last)
                entry[1] += data
                entry[2] = last

    @rule(n=st.sampled_from([0, 1]), which=st.integers(0, 9))
    def give_up(self, n, which):
        us, _ = self.pick(n)
        if us.open:
            us.multiplexer.outbound.reset(us.open[which % len(us.open)][0], 1001, "given up")

    @rule(n=st.sampled_from([0, 1]), most=st.sampled_from([1, 10, ALL]))
    def draw(self, n, most):
        us, _ = self.pick(n)
        us.way.extend(us.multiplexer.draw(most))

    @rule(n=st.sampled_from([0, 1]), count=st.integers(1, 6))
    def deliver(self, n, count):
        us, them = self.pick(n)
        for _ in range(min(count, len(us.way))):
            arriving = them.multiplexer.hear(us.way.popleft())
            if arriving is not None:
                assert arriving.number not in them.had
                them.had[arriving.number] = [arriving, b"", False]

    @rule(n=st.sampled_from([0, 1]))
    def pass_on(self, n):
        self.draw(n, ALL)
        self.deliver(n, len(self.sides[n].way))

    @rule(n=st.sampled_from([0, 1]), which=st.integers(0, 9))
    def take(self, n, which):
        us, _ = self.pick(n)
        unread = [entry for entry in us.had.values() if not entry[2] and entry[0].over is None]
        if unread:
            self.take_of(us, unread[which % len(unread)])

    def take_of(self, us, entry):
        entry[1] += us.multiplexer.inbound.take(entry[0])
        entry[2] = entry[0].ended and entry[0].over is None

    @rule(n=st.sampled_from([0, 1]), which=st.integers(0, 9))
    def refuse(self, n, which):
        us, _ = self.pick(n)
        if us.had:
            us.multiplexer.inbound.stop([*us.had.values()][which % len(us.had)][0], 7, "enough")

    def teardown(self):
        """In the end everything has come, or was given up and is known to be."""
        while self.something_is_said():
            pass
        for us, them in (self.sides, self.sides[::-1]):
            assert not them.multiplexer.inbound.live
            assert not us.multiplexer.outbound._live
            assert us.multiplexer.inbound._allowed > us.multiplexer.inbound._begun, "and more may"
            for departing, sent, _ in us.sent:
                if departing.over is None:
                    arriving, had, whole = them.had[departing.number]
                    assert arriving.over == (7, "enough") or (whole and had == sent)
                elif departing.number:
                    assert them.had[departing.number][0].over is not None

    def something_is_said(self) -> bool:
        said = False
        for n, us in enumerate(self.sides):
            for entry in us.had.values():
                self.take_of(us, entry)
            for entry in us.open:
                if entry[0].over is None and entry[0].data is None and not entry[2]:
                    us.multiplexer.outbound.offer(entry[0], b"", last=True)
                    entry[2] = True
            self.draw(n, ALL)
            said = said or bool(us.way)
            self.pass_on(n)
        return said

    # What is always so.

    @invariant()
    def what_was_had_is_what_was_sent(self):
        for us, them in (self.sides, self.sides[::-1]):
            by_number = {entry[0].number: entry for entry in us.sent if entry[0].number}
            for number, (_, had, whole) in them.had.items():
                departing, sent, last = by_number[number]
                assert sent.startswith(had), "in order"
                if whole:
                    assert (had, last, departing.over) == (sent, True, None), "what looks whole is whole"

    @invariant()
    def what_is_held_is_bounded(self):
        for us in self.sides:
            inbound = us.multiplexer.inbound
            unsettled = [entry[0] for entry in us.had.values() if not entry[0]._settled or not entry[0].ended]
            assert len(unsettled) <= MESSAGES
            assert len(inbound._live) <= MESSAGES
            assert len(inbound._due) <= MESSAGES
            assert all(len(arriving._data) <= WINDOW for arriving in unsettled)
            assert len(us.multiplexer.outbound._resets) <= MESSAGES


TestAnyStoryOfTwoSides = TwoSides.TestCase
TestAnyStoryOfTwoSides.settings = settings(deadline=None, max_examples=examples(120), stateful_step_count=40)
