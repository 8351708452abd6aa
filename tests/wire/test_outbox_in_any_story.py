"""The outbox in every story: one machine for clients that acknowledge, one for those that do not.

The model is two plain lists. `numbered` are the events that were written, so that an event's number is its index; of
those, the ones below `forgotten` are gone. `owed` are the others. The client accepts what is in flight, and a cut
loses the rest. `fates` is what those who watch an event have been told.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.effort import examples
from tests.wire.test_outbox import EVERYTHING, UNIT, body, size_of
from trio_hub.delivery import MUST, expires, latest, volatile
from trio_hub.errors import PeerFault
from trio_hub.options import OutboxOptions
from trio_hub.wire.bodies import Body
from trio_hub.wire.kept import Run
from trio_hub.wire.outbox import Fate, Offer, Outbox, OutboxStatistics

# Sizes are whole units, so that bounds are often met exactly; now and then they are missed by one byte.
extras = st.sampled_from([0, 0, 0, 1, UNIT, 3 * UNIT])
bodies = extras.map(body)
deliveries = st.sampled_from([MUST, MUST, volatile(), latest("a"), latest("b"), expires(1), expires(10)])
small_options = st.builds(
    OutboxOptions,
    count=st.integers(1, 24),
    size=st.integers(1, 32).map(lambda units: units * UNIT),
    kept_count=st.integers(1, 8),
    kept_size=st.integers(1, 10).map(lambda units: units * UNIT),
)


class AcknowledgedOutbox(RuleBasedStateMachine):
    """An outbox, its client, and weather between them."""

    acknowledged = True

    @initialize(options=small_options, hello=bodies)
    def begin(self, options, hello):
        self.options = options
        self.outbox = Outbox(hello, options, acknowledged=self.acknowledged)
        self.now = 0.0
        self.dropped = 0
        self.watched: set[Body] = set()
        self.fates: dict[Body, list[Fate]] = {}
        self.told: dict[Body, list[Fate]] = {}
        self.begin_anew(hello)

    def begin_anew(self, hello):
        self.numbered: list[Body] = []
        self.owed = [hello]
        self.forgotten = 0
        self.in_flight: deque[tuple[int, Body]] = deque()
        self.client: list[Body] = []
        for one in list(self.watched):
            self.settle(one, Fate.LOST)

    @property
    def kept(self) -> list[Body]:
        return self.numbered[self.forgotten :]

    def settle(self, one, fate):
        if one in self.watched:
            self.fates[one].append(fate)
            if fate is not Fate.WRITTEN:
                self.watched.remove(one)

    def lose(self, some):
        self.owed = [one for one in self.owed if one not in some]
        self.dropped += len(some)
        for one in some:
            self.settle(one, Fate.LOST)

    def fits(self, count, size) -> bool:
        held = self.kept + self.owed
        return len(held) + count <= self.options.count and size_of(held) + size <= self.options.size

    def is_made_to_fit(self, count, size) -> bool:
        if not self.fits(count, size):
            self.lose([one for one in self.owed if one.delivery.volatile])
        return self.fits(count, size)

    # What may happen.

    @rule(some=st.lists(st.tuples(extras, deliveries), min_size=1, max_size=8))
    def offer(self, some):
        for extra, delivery in some:
            self.offer_one(body(extra, delivery, published=self.now))

    def offer_one(self, one):
        assert self.outbox.offer(one) is self.expected_offer(one)

    def expected_offer(self, one) -> Offer:
        options, is_volatile = self.options, one.delivery.volatile
        if is_volatile and (2 * len(self.owed) >= options.count or 2 * size_of(self.owed) >= options.size):
            self.dropped += 1
            return Offer.DROPPED
        older = [each for each in self.owed if one.delivery.key is not None and each.delivery.key == one.delivery.key]
        if not self.is_made_to_fit(1 - len(older[-1:]), one.size - size_of(older[-1:])):
            self.dropped += is_volatile
            return Offer.DROPPED if is_volatile else Offer.FULL
        self.lose(older[-1:])
        self.owed.append(one)
        return Offer.TAKEN

    @rule(some=st.lists(bodies, min_size=1, max_size=8))
    def offer_all(self, some):
        fits = self.is_made_to_fit(len(some), size_of(some))
        assert self.outbox.offer_all(some, size_of(some)) is fits
        if fits:
            self.owed += some

    @rule(key=st.sampled_from("ab"))
    def a_newer_one_comes_when_the_older_is_written(self, key):
        """And something else is still owed: a story that is seldom told by chance."""
        for delivery in (latest(key), MUST):
            self.offer_one(body(0, delivery, published=self.now))
        for _ in self.owed[1:]:
            self.take(1)
        self.offer_one(body(0, latest(key), published=self.now))

    @rule(some=st.lists(bodies, min_size=1, max_size=8))
    def pass_on(self, some):
        kept, options, size = self.kept, self.options, size_of(some)
        may = not self.owed and self.fits(len(some), size)
        if self.acknowledged:
            may = may and len(kept) + len(some) <= options.kept_count and size_of(kept) + size <= options.kept_size
        number = self.outbox.pass_on(Run(some))
        assert number == (len(self.numbered) if may else None)
        if may:
            self.write(some)
            self.forget_oldest()

    @rule(most=st.one_of(st.integers(1, 5).map(lambda units: units * UNIT), st.just(EVERYTHING)))
    def take(self, most):
        assert self.outbox.next_number == len(self.numbered)
        taken = self.outbox.take(most)
        assert taken == self.owed[: len(taken)], "what comes next, in order"
        del self.owed[: len(taken)]
        self.write(taken)
        assert size_of(taken[:-1]) < most
        assert size_of(taken) >= most or not self.owed or self.window_is_closed(), "not too little"
        self.forget_oldest()

    def write(self, some):
        self.in_flight.extend(enumerate(some, len(self.numbered)))
        self.numbered += some
        for one in some:
            self.settle(one, Fate.WRITTEN)
        self.forget_oldest()

    def window_is_closed(self) -> bool:
        """Whether the client has to acknowledge something before the next event may be written."""
        return self.acknowledged and (
            len(self.kept) == self.options.kept_count
            or (len(self.kept) > 0 and size_of(self.kept) + self.owed[0].size > self.options.kept_size)
        )

    def forget_oldest(self):
        """Do nothing: with acknowledgements nothing else is ever forgotten."""

    @rule(seconds=st.sampled_from([0.5, 1, 5]))
    def drop_expired(self, seconds):
        self.now += seconds
        self.outbox.drop_expired(self.now)
        self.lose([one for one in self.owed if one.expires_at <= self.now])

    @precondition(lambda self: self.owed)
    @rule(data=st.data())
    def watch(self, data):
        one = data.draw(st.sampled_from(self.owed))
        told = self.told.setdefault(one, [])
        self.fates.setdefault(one, [])
        self.outbox.watch(one, told.append)
        self.watched.add(one)

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
            self.owed[:0] = self.numbered[wanted:]
            del self.numbered[wanted:]
            del self.client[wanted:]
            self.lose([one for one in self.owed if one.delivery.volatile])
            for one in self.kept:
                self.settle(one, Fate.WRITTEN)
        else:
            self.restart(body())

    @precondition(lambda self: self.acknowledged and self.client)
    @rule(unhandled=st.integers(0, 4))
    def acknowledge(self, unhandled):
        number = max(0, len(self.client) - 1 - unhandled)
        self.outbox.acknowledge(number)
        while self.forgotten <= number:
            self.forget(Fate.ACKNOWLEDGED)

    def forget(self, fate):
        self.settle(self.numbered[self.forgotten], fate)
        self.forgotten += 1

    @rule(hello=bodies)
    def restart(self, hello):
        self.outbox.restart(hello)
        self.begin_anew(hello)

    @precondition(lambda self: self.outbox.untouched)
    @rule()
    def shed(self):
        hello = self.owed[0]
        self.outbox.shed()
        self.begin_anew(hello)

    @rule()
    def fair_weather_until_everything_arrived(self):
        self.cut_and_come_back()
        while True:
            if self.acknowledged and self.client:  # also at once on return: what it said last may have been lost
                self.acknowledge(0)
            if not self.owed and not self.in_flight:
                break
            self.take(EVERYTHING)
            assert self.in_flight, "something is written whenever the client has handled everything"
            self.receive(len(self.in_flight))
        assert self.client == self.numbered

    # What is always so.

    @invariant()
    def the_client_has_what_was_written_in_order_without_a_hole(self):
        assert self.client == self.numbered[: len(self.client)]

    @invariant()
    def the_numbers_are_those_of_the_model(self):
        assert self.outbox.first_kept == self.forgotten
        assert self.outbox.next_number == len(self.numbered)
        assert self.outbox.untouched is (not self.numbered)

    @invariant()
    def impossible_wishes_are_refused(self):
        """And nothing is changed by them, as the other invariants would see."""
        for distance in (1, 2, 50):
            assert not self.outbox.resume(self.forgotten - distance)
            assert not self.outbox.resume(len(self.numbered) + distance)
            with pytest.raises(PeerFault):
                self.outbox.acknowledge(len(self.numbered) - 1 + distance)

    @invariant()
    def statistics_equal_a_recount(self):
        owed, kept = self.owed, self.kept
        recount = OutboxStatistics(len(owed), size_of(owed), len(kept), size_of(kept), len(self.numbered), self.dropped)
        assert self.outbox.statistics() == recount

    @invariant()
    def bounds_are_never_exceeded(self):
        held, options = self.outbox.statistics(), self.options
        hello = (self.numbered + self.owed)[0].size  # taken whatever its size: without it there is no connection
        assert len(self.outbox.owed) + held.kept_count <= options.count, "what is dead included"
        assert size_of(self.outbox.owed) + held.kept_size <= max(options.size, hello)
        assert held.kept_count <= options.kept_count
        assert held.kept_size <= options.kept_size or held.kept_count == 1

    @invariant()
    def who_watches_is_told(self):
        assert self.told == self.fates

    @invariant()
    def what_may_expire_is_known(self):
        assert self.outbox.may_expire or all(one.delivery.lifetime > 99 for one in self.owed)


class ForgettingOutbox(AcknowledgedOutbox):
    """The same for clients that do not acknowledge: the oldest is forgotten, and a resume may be refused."""

    acknowledged = False

    def forget_oldest(self):
        options = self.options
        while len(self.kept) > options.kept_count or (size_of(self.kept) > options.kept_size and len(self.kept) > 1):
            self.forget(Fate.FORGOTTEN)


modest = settings(deadline=None, max_examples=examples(120), stateful_step_count=40)
TestAnyStoryWithAcknowledgements = AcknowledgedOutbox.TestCase
TestAnyStoryWithAcknowledgements.settings = modest
TestAnyStoryWithoutAcknowledgements = ForgettingOutbox.TestCase
TestAnyStoryWithoutAcknowledgements.settings = modest
