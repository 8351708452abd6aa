"""The outbox: its promises as short stories, then one machine that tells every other story.

Bodies here are all of one size, `UNIT`, unless a story says otherwise; so bounds in bytes can be given in events.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_hub.errors import PeerFault
from trio_hub.messages import Event
from trio_hub.options import OutboxOptions
from trio_hub.wire.codecs import Body
from trio_hub.wire.outbox import Outbox, OutboxStatistics


def body(extra: int = 0) -> Body:
    """Return a body of `UNIT` and `extra` bytes."""
    return Body(Event("e", "x" * extra))


UNIT = body().size
EVERYTHING = 1_000_000
HELLO, A, B, C, D, E = (body() for _ in range(6))

both_modes = pytest.mark.parametrize("acknowledged", [True, False], ids=["v1", "compat"])


def outbox_of(*said: Body, acknowledged: bool = True, hello: Body = HELLO, **options: int) -> Outbox:
    """Return an outbox to which `said` was offered."""
    outbox = Outbox(hello, OutboxOptions(**options), acknowledged=acknowledged)
    for one in said:
        assert outbox.offer(one)
    return outbox


# -- numbers and the cursor --------------------------------------------------------------------------------------


@both_modes
def test_the_hello_is_event_0_and_what_is_offered_follows_in_order(acknowledged):
    outbox = outbox_of(A, B, acknowledged=acknowledged)
    assert outbox.untouched
    assert outbox.next_number == 0
    assert outbox.take(EVERYTHING) == [HELLO, A, B]
    assert not outbox.untouched
    assert outbox.next_number == 3


@both_modes
def test_numbers_are_given_by_writing_not_by_offering(acknowledged):
    outbox = outbox_of(acknowledged=acknowledged)
    outbox.take(EVERYTHING)
    for one in (A, B):
        outbox.offer(one)
        assert outbox.next_number == 1
    assert outbox.take(EVERYTHING) == [A, B]
    assert outbox.next_number == 3


@both_modes
def test_nothing_is_taken_where_nothing_is_owed(acknowledged):
    outbox = outbox_of(acknowledged=acknowledged)
    outbox.take(EVERYTHING)
    assert outbox.take(EVERYTHING) == []
    assert outbox.next_number == 1


@both_modes
@pytest.mark.parametrize(
    ("most", "count"), [(1, 1), (UNIT, 1), (UNIT + 1, 2), (2 * UNIT, 2), (3 * UNIT, 3), (9 * UNIT, 4)]
)
def test_taking_stops_once_there_is_enough(acknowledged, most, count):
    outbox = outbox_of(A, B, C, acknowledged=acknowledged)
    assert outbox.take(most) == [HELLO, A, B, C][:count]
    assert outbox.next_number == count


@both_modes
def test_statistics_tell_what_is_held_on_both_sides_of_the_cursor(acknowledged):
    outbox = outbox_of(A, B, C, acknowledged=acknowledged)
    assert outbox.statistics() == OutboxStatistics(4, 4 * UNIT, 0, 0, 0)
    outbox.take(2 * UNIT)
    assert outbox.statistics() == OutboxStatistics(2, 2 * UNIT, 2, 2 * UNIT, 2)


# -- coming back -------------------------------------------------------------------------------------------------


@both_modes
@pytest.mark.parametrize("wanted", [0, 1, 2, 3])
def test_a_resume_goes_on_at_the_number_that_is_wanted(acknowledged, wanted):
    outbox = outbox_of(A, B, acknowledged=acknowledged)
    outbox.take(EVERYTHING)
    outbox.offer(C)
    assert outbox.resume(wanted)
    assert outbox.next_number == wanted
    assert outbox.take(EVERYTHING) == [HELLO, A, B, C][wanted:]
    assert outbox.next_number == 4


@both_modes
def test_a_resume_can_be_repeated_while_links_keep_dying(acknowledged):
    outbox = outbox_of(A, B, acknowledged=acknowledged)
    for wanted in (0, 1, 1, 2):
        outbox.take(2 * UNIT)
        assert outbox.resume(wanted)
        assert outbox.next_number == wanted
    assert outbox.take(EVERYTHING) == [B]


@both_modes
@pytest.mark.parametrize("wanted", [-1, 4, 5, 2**53])
def test_a_resume_at_a_number_never_written_is_refused_and_changes_nothing(acknowledged, wanted):
    outbox = outbox_of(A, B, C, acknowledged=acknowledged)
    outbox.take(3 * UNIT)
    before = outbox.statistics()
    assert not outbox.resume(wanted)
    assert outbox.statistics() == before
    assert outbox.take(EVERYTHING) == [C]


def test_a_resume_below_what_was_acknowledged_is_refused():
    outbox = outbox_of(A, B)
    outbox.take(EVERYTHING)
    outbox.acknowledge(1)
    assert not outbox.resume(1)
    assert outbox.resume(2)
    assert outbox.take(EVERYTHING) == [B]


def test_a_restart_forgets_everything_and_begins_at_0():
    outbox = outbox_of(A, B, C)
    outbox.take(2 * UNIT)
    outbox.restart(D)
    assert outbox.untouched
    assert outbox.statistics() == OutboxStatistics(1, UNIT, 0, 0, 0)
    assert not outbox.resume(1)
    outbox.offer(E)
    assert outbox.take(EVERYTHING) == [D, E]


@both_modes
def test_shedding_leaves_the_hello_and_nothing_else(acknowledged):
    outbox = outbox_of(A, B, acknowledged=acknowledged)
    outbox.shed()
    assert outbox.statistics() == OutboxStatistics(1, UNIT, 0, 0, 0)
    outbox.offer(C)
    assert outbox.take(EVERYTHING) == [HELLO, C]


# -- acknowledgements --------------------------------------------------------------------------------------------


def test_what_is_acknowledged_is_forgotten_and_nothing_else():
    outbox = outbox_of(A, B, C)
    outbox.take(3 * UNIT)
    outbox.acknowledge(1)
    assert outbox.first_kept == 2
    assert outbox.statistics() == OutboxStatistics(1, UNIT, 1, UNIT, 3)
    outbox.acknowledge(2)
    assert outbox.first_kept == 3
    assert outbox.statistics() == OutboxStatistics(1, UNIT, 0, 0, 3)


@pytest.mark.parametrize("repeated", [0, 1, 2])
def test_an_acknowledgement_may_be_repeated_or_come_late(repeated):
    outbox = outbox_of(A, B, C)
    outbox.take(EVERYTHING)
    outbox.acknowledge(2)
    outbox.acknowledge(repeated)
    assert outbox.first_kept == 3
    assert outbox.resume(3)


@pytest.mark.parametrize("number", [2, 3, 2**53])
def test_acknowledging_what_was_never_sent_is_the_peers_fault(number):
    outbox = outbox_of(A, B)
    outbox.take(2 * UNIT)
    before = outbox.statistics()
    with pytest.raises(PeerFault) as caught:
        outbox.acknowledge(number)
    assert caught.value.code == 1002
    assert str(number) in caught.value.reason
    assert outbox.statistics() == before


def test_not_even_the_hello_can_be_acknowledged_before_it_was_sent():
    with pytest.raises(PeerFault):
        outbox_of().acknowledge(0)


# -- bounds ------------------------------------------------------------------------------------------------------


@both_modes
def test_an_event_too_many_is_refused_and_changes_nothing(acknowledged):
    outbox = outbox_of(A, B, acknowledged=acknowledged, count=3)
    before = outbox.statistics()
    assert not outbox.offer(C)
    assert outbox.statistics() == before
    assert outbox.take(EVERYTHING) == [HELLO, A, B]


@both_modes
def test_several_events_are_taken_together_or_not_at_all(acknowledged):
    outbox = outbox_of(A, acknowledged=acknowledged, count=4, size=4 * UNIT)
    before = outbox.statistics()
    assert not outbox.offer_all([B, C, D], size_of([B, C, D]))
    assert not outbox.offer_all([B, C], size_of([B, C]) + 1)
    assert outbox.statistics() == before
    assert outbox.offer_all([B, C], size_of([B, C]))
    assert outbox.take(EVERYTHING) == [HELLO, A, B, C]


@both_modes
def test_a_byte_too_many_is_refused(acknowledged):
    outbox = outbox_of(A, acknowledged=acknowledged, size=3 * UNIT)
    assert not outbox.offer(body(1))
    assert outbox.offer(B)
    assert not outbox.offer(C)


@both_modes
def test_written_events_count_until_they_are_forgotten(acknowledged):
    outbox = outbox_of(A, B, acknowledged=acknowledged, count=3)
    outbox.take(EVERYTHING)
    assert not outbox.offer(C)


def test_an_acknowledgement_makes_room():
    by_count, by_size = outbox_of(A, B, count=3), outbox_of(A, B, size=3 * UNIT)
    for outbox in (by_count, by_size):
        outbox.take(EVERYTHING)
        outbox.acknowledge(0)
        assert outbox.offer(C)
        assert not outbox.offer(D)


def test_compat_keeps_the_newest_events_by_count():
    outbox = outbox_of(A, B, acknowledged=False, kept_count=2)
    outbox.take(EVERYTHING)
    assert outbox.first_kept == 1
    assert not outbox.resume(0)
    assert outbox.resume(1)
    assert outbox.take(EVERYTHING) == [A, B]


def test_compat_keeps_the_newest_events_by_size():
    outbox = outbox_of(A, B, acknowledged=False, kept_size=2 * UNIT)
    outbox.take(EVERYTHING)
    assert outbox.first_kept == 1
    outbox.offer(body(1))
    outbox.take(EVERYTHING)
    assert outbox.first_kept == 3, "two of them would be one byte too many"


def test_compat_keeps_one_event_however_large():
    large = body(50)
    outbox = outbox_of(large, acknowledged=False, kept_size=UNIT)
    outbox.take(EVERYTHING)
    assert outbox.statistics() == OutboxStatistics(0, 0, 1, large.size, 2)
    assert outbox.resume(1)
    assert outbox.take(EVERYTHING) == [large]


def test_compat_never_stops_writing():
    outbox = outbox_of(acknowledged=False, kept_count=2, count=4)
    for number in range(100):
        assert outbox.next_number == number
        assert len(outbox.take(EVERYTHING)) == 1
        assert outbox.offer(body())


def test_v1_stops_writing_when_enough_is_unacknowledged_by_count_and_goes_on_after_an_ack():
    outbox = outbox_of(A, B, C, D, kept_count=2)
    assert outbox.take(EVERYTHING) == [HELLO, A]
    assert outbox.take(EVERYTHING) == []
    outbox.acknowledge(0)
    assert outbox.take(EVERYTHING) == [B]
    outbox.acknowledge(2)
    assert outbox.take(EVERYTHING) == [C, D]


def test_v1_stops_writing_when_enough_is_unacknowledged_by_size_and_goes_on_after_an_ack():
    larger = body(1)
    outbox = outbox_of(A, larger, C, kept_size=2 * UNIT)
    assert outbox.take(EVERYTHING) == [HELLO, A]
    outbox.acknowledge(0)
    assert outbox.take(EVERYTHING) == [], "one byte is missing"
    outbox.acknowledge(1)
    assert outbox.take(EVERYTHING) == [larger]
    outbox.acknowledge(2)
    assert outbox.take(EVERYTHING) == [C]


def test_v1_holds_back_even_a_single_event_while_the_window_is_full():
    outbox = outbox_of(kept_count=1)
    assert outbox.take(EVERYTHING) == [HELLO]
    outbox.offer(A)
    assert outbox.take(EVERYTHING) == []
    outbox.acknowledge(0)
    assert outbox.take(EVERYTHING) == [A]


def test_v1_writes_one_event_larger_than_the_window_alone():
    large = body(50)
    outbox = outbox_of(large, C, kept_size=UNIT)
    assert outbox.take(EVERYTHING) == [HELLO]
    assert outbox.take(EVERYTHING) == []
    outbox.acknowledge(0)
    assert outbox.take(EVERYTHING) == [large]
    assert outbox.take(EVERYTHING) == []
    outbox.acknowledge(1)
    assert outbox.take(EVERYTHING) == [C]


def test_v1_forgets_nothing_that_a_dead_link_swallowed():
    outbox = outbox_of(*(body() for _ in range(9)), kept_count=4)
    swallowed = outbox.take(EVERYTHING)
    assert len(swallowed) == 4
    assert outbox.resume(0)
    assert outbox.take(EVERYTHING) == swallowed


# -- every other story -------------------------------------------------------------------------------------------

# Sizes are whole units, so that bounds are often met exactly; now and then they are missed by one byte.
bodies = st.sampled_from([0, 0, 0, 1, UNIT, 3 * UNIT]).map(body)
small_options = st.builds(
    OutboxOptions,
    count=st.integers(1, 24),
    size=st.integers(1, 32).map(lambda units: units * UNIT),
    kept_count=st.integers(1, 8),
    kept_size=st.integers(1, 10).map(lambda units: units * UNIT),
)


def size_of(some: list[Body]) -> int:
    return sum(one.size for one in some)


class AcknowledgedOutbox(RuleBasedStateMachine):
    """An outbox, its client, and weather between them.

    The model is one plain list, `said`: all events of this connection id, so that an event's number is its index.
    Two marks on it say what the outbox should hold: from `forgotten` to `written` it is kept, from there on owed.
    The client accepts what is in flight and notes nothing but that; a cut loses the rest.
    """

    acknowledged = True

    @initialize(options=small_options, hello=bodies)
    def begin(self, options, hello):
        self.options = options
        self.outbox = Outbox(hello, options, acknowledged=self.acknowledged)
        self.begin_anew(hello)

    def begin_anew(self, hello):
        self.said = [hello]
        self.forgotten = self.written = 0
        self.in_flight: deque[tuple[int, Body]] = deque()
        self.client: list[Body] = []

    @property
    def kept(self) -> list[Body]:
        return self.said[self.forgotten : self.written]

    # What may happen.

    @rule(some=st.lists(bodies, min_size=1, max_size=8))
    def offer(self, some):
        for one in some:
            held = self.said[self.forgotten :]
            fits = len(held) < self.options.count and size_of(held) + one.size <= self.options.size
            assert self.outbox.offer(one) is fits
            if fits:
                self.said.append(one)

    @rule(some=st.lists(bodies, min_size=1, max_size=8))
    def offer_all(self, some):
        held = self.said[self.forgotten :]
        fits = len(held) + len(some) <= self.options.count and size_of(held) + size_of(some) <= self.options.size
        assert self.outbox.offer_all(some, size_of(some)) is fits
        if fits:
            self.said += some

    @rule(one=bodies)
    def pass_on(self, one):
        kept, options = self.kept, self.options
        may = self.written == len(self.said)
        may = may and len(kept) < options.count and size_of(kept) + one.size <= options.size
        if self.acknowledged:
            may = may and len(kept) < options.kept_count and size_of(kept) + one.size <= options.kept_size
        number = self.outbox.pass_on(one)
        assert number == (self.written if may else None)
        if may:
            self.said.append(one)
            self.in_flight.append((self.written, one))
            self.written += 1
            self.forget_oldest()

    @rule(most=st.one_of(st.integers(1, 5).map(lambda units: units * UNIT), st.just(EVERYTHING)))
    def take(self, most):
        first = self.outbox.next_number
        taken = self.outbox.take(most)
        assert first == self.written
        assert taken == self.said[first : first + len(taken)], "what comes next, in order"
        self.written += len(taken)
        assert size_of(taken[:-1]) < most
        assert size_of(taken) >= most or self.written == len(self.said) or self.window_is_closed(), "not too little"
        self.in_flight.extend(enumerate(taken, first))
        self.forget_oldest()

    def window_is_closed(self) -> bool:
        """Whether the client has to acknowledge something before the next event may be written."""
        following = self.said[self.written]
        return self.acknowledged and (
            len(self.kept) == self.options.kept_count
            or (len(self.kept) > 0 and size_of(self.kept) + following.size > self.options.kept_size)
        )

    def forget_oldest(self):
        """Do nothing: with acknowledgements nothing else is ever forgotten."""

    @rule(most=st.integers(1, 6))
    def receive(self, most):
        for _ in range(min(most, len(self.in_flight))):
            number, one = self.in_flight.popleft()
            assert number == len(self.client), "neither a hole nor a duplicate"
            self.client.append(one)

    @rule()
    def cut_and_come_back(self):
        self.come_back_at(len(self.client))

    @rule(older=st.integers(1, 4))
    def come_back_with_an_older_memory(self, older):
        """As a page does that was restored from a snapshot: it wants, and handles, some events again."""
        remembered = max(0, len(self.client) - older)
        self.come_back_at(max(remembered, self.forgotten) if self.acknowledged else remembered)

    def come_back_at(self, wanted):
        self.in_flight.clear()
        held = wanted >= self.forgotten
        assert held or not self.acknowledged, "nothing unacknowledged was forgotten"
        assert self.outbox.resume(wanted) is held
        if held:
            self.written = wanted
            del self.client[wanted:]
        else:
            self.restart(body())

    @precondition(lambda self: self.acknowledged and self.client)
    @rule(unhandled=st.integers(0, 4))
    def acknowledge(self, unhandled):
        number = max(0, len(self.client) - 1 - unhandled)
        self.outbox.acknowledge(number)
        self.forgotten = max(self.forgotten, number + 1)

    @rule(hello=bodies)
    def restart(self, hello):
        self.outbox.restart(hello)
        self.begin_anew(hello)

    @precondition(lambda self: self.outbox.untouched)
    @rule()
    def shed(self):
        self.outbox.shed()
        self.begin_anew(self.said[0])

    @rule()
    def fair_weather_until_everything_arrived(self):
        self.cut_and_come_back()
        while True:
            if self.acknowledged and self.client:  # also at once on return: what it said last may have been lost
                self.acknowledge(0)
            if len(self.client) == len(self.said):
                return
            self.take(EVERYTHING)
            assert self.in_flight, "something is written whenever the client has handled everything"
            self.receive(len(self.in_flight))

    # What is always so.

    @invariant()
    def the_client_has_what_was_said_in_order_without_a_hole(self):
        assert self.client == self.said[: len(self.client)]

    @invariant()
    def the_numbers_are_those_of_the_model(self):
        assert self.outbox.first_kept == self.forgotten
        assert self.outbox.next_number == self.written
        assert self.outbox.untouched is (self.written == 0)

    @invariant()
    def impossible_wishes_are_refused(self):
        """And nothing is changed by them, as the other invariants would see."""
        for distance in (1, 2, 50):
            assert not self.outbox.resume(self.forgotten - distance)
            assert not self.outbox.resume(self.written + distance)
            with pytest.raises(PeerFault):
                self.outbox.acknowledge(self.written - 1 + distance)

    @invariant()
    def statistics_equal_a_recount(self):
        owed = self.said[self.written :]
        recount = OutboxStatistics(len(owed), size_of(owed), len(self.kept), size_of(self.kept), self.written)
        assert self.outbox.statistics() == recount

    @invariant()
    def bounds_are_never_exceeded(self):
        held, options = self.outbox.statistics(), self.options
        hello = self.said[0].size  # taken whatever its size: without it there is no connection
        assert held.owed_count + held.kept_count <= options.count
        assert held.owed_size + held.kept_size <= max(options.size, hello)
        assert held.kept_count <= options.kept_count
        assert held.kept_size <= options.kept_size or held.kept_count == 1


class ForgettingOutbox(AcknowledgedOutbox):
    """The same for clients that do not acknowledge: the oldest is forgotten, and a resume may be refused."""

    acknowledged = False

    def forget_oldest(self):
        options = self.options
        while len(self.kept) > options.kept_count or (size_of(self.kept) > options.kept_size and len(self.kept) > 1):
            self.forgotten += 1


modest = settings(deadline=None, max_examples=120, stateful_step_count=40)
TestAnyStoryWithAcknowledgements = AcknowledgedOutbox.TestCase
TestAnyStoryWithAcknowledgements.settings = modest
TestAnyStoryWithoutAcknowledgements = ForgettingOutbox.TestCase
TestAnyStoryWithoutAcknowledgements.settings = modest
