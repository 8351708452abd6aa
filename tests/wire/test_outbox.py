"""The outbox: its promises as short stories. `test_outbox_in_any_story` tells all the others.

Bodies here are all of one size, `UNIT`, unless a story says otherwise; so bounds in bytes can be given in events.
"""

from __future__ import annotations

import math

import pytest

from trio_hub.delivery import MUST, Delivery, expires, latest, volatile
from trio_hub.errors import Misuse, PeerFault
from trio_hub.messages import Event
from trio_hub.options import OutboxOptions
from trio_hub.wire.bodies import Body
from trio_hub.wire.outbox import Fate, Offer, Outbox, OutboxStatistics


def body(extra: int = 0, delivery: Delivery = MUST, *, published: float = 0.0) -> Body:
    """Return a body of `UNIT` and `extra` bytes."""
    text = "x" * (200 + extra - len(delivery.key or ""))
    return Body(Event("e", text), delivery=delivery, expires_at=published + delivery.lifetime)


UNIT = body().size
EVERYTHING = 1_000_000
HELLO, A, B, C, D, E = (body() for _ in range(6))

both_modes = pytest.mark.parametrize("acknowledged", [True, False], ids=["v1", "compat"])


def outbox_of(*said: Body, acknowledged: bool = True, hello: Body = HELLO, **options: int) -> Outbox:
    """Return an outbox to which `said` was offered."""
    outbox = Outbox(hello, OutboxOptions(**options), acknowledged=acknowledged)
    for one in said:
        assert outbox.offer(one) is Offer.TAKEN
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
    assert outbox.offer(C) is Offer.FULL
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
    assert outbox.offer(body(1)) is Offer.FULL
    assert outbox.offer(B) is Offer.TAKEN
    assert outbox.offer(C) is Offer.FULL


@both_modes
def test_written_events_count_until_they_are_forgotten(acknowledged):
    outbox = outbox_of(A, B, acknowledged=acknowledged, count=3)
    outbox.take(EVERYTHING)
    assert outbox.offer(C) is Offer.FULL


def test_an_acknowledgement_makes_room():
    by_count, by_size = outbox_of(A, B, count=3), outbox_of(A, B, size=3 * UNIT)
    for outbox in (by_count, by_size):
        outbox.take(EVERYTHING)
        outbox.acknowledge(0)
        assert outbox.offer(C) is Offer.TAKEN
        assert outbox.offer(D) is Offer.FULL


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
        assert outbox.offer(body()) is Offer.TAKEN


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


# -- what need not be delivered ------------------------------------------------------------------------------------


def size_of(some: list[Body]) -> int:
    return sum(one.size for one in some)


@both_modes
def test_a_volatile_event_is_dropped_once_half_of_what_may_be_owed_is_owed(acknowledged):
    typing = [body(0, volatile()) for _ in range(3)]
    outbox = outbox_of(A, acknowledged=acknowledged, count=6)
    assert outbox.offer(typing[0]) is Offer.TAKEN
    assert outbox.offer(typing[1]) is Offer.DROPPED
    assert outbox.statistics().dropped == 1
    assert outbox.take(EVERYTHING) == [HELLO, A, typing[0]]
    assert outbox.offer(typing[2]) is Offer.TAKEN


@both_modes
def test_volatile_events_make_room_for_those_that_must_be_delivered(acknowledged):
    outbox = outbox_of(body(0, volatile()), A, acknowledged=acknowledged, count=4)
    assert outbox.offer_all([B, C], size_of([B, C]))
    assert outbox.take(EVERYTHING) == [HELLO, A, B, C]
    assert outbox.statistics().dropped == 1


@both_modes
def test_a_volatile_event_is_not_written_to_a_later_link(acknowledged):
    written, waiting = body(0, volatile()), body(0, volatile())
    outbox = outbox_of(A, written, acknowledged=acknowledged)
    outbox.take(EVERYTHING)
    outbox.offer(waiting)
    outbox.offer(B)
    assert outbox.resume(1)
    assert outbox.take(EVERYTHING) == [A, B], "and B gets the number that the volatile one had"
    assert outbox.next_number == 3


@both_modes
def test_the_latest_of_a_key_replaces_the_one_before_and_comes_in_its_own_place(acknowledged):
    older, newer, other = body(0, latest("k")), body(5, latest("k")), body(0, latest("x"))
    outbox = outbox_of(older, other, A, newer, acknowledged=acknowledged)
    assert outbox.statistics() == OutboxStatistics(4, 4 * UNIT + 5, 0, 0, 0, dropped=1)
    assert outbox.take(EVERYTHING) == [HELLO, other, A, newer]


@both_modes
def test_what_was_written_is_replaced_no_more(acknowledged):
    older, newer = body(0, latest("k")), body(0, latest("k"))
    outbox = outbox_of(older, A, acknowledged=acknowledged)
    outbox.take(2 * UNIT)
    outbox.offer(newer)
    assert outbox.take(EVERYTHING) == [A, newer]
    assert outbox.statistics().dropped == 0


@both_modes
def test_a_key_that_changes_all_the_time_takes_up_the_room_of_one(acknowledged):
    outbox = outbox_of(A, acknowledged=acknowledged, count=3, size=4 * UNIT)
    for extra in (0, UNIT, 0, UNIT, UNIT, 0):
        assert outbox.offer(body(extra, latest("k"))) is Offer.TAKEN
        assert len(outbox.owed) <= 3
        assert size_of(outbox.owed) <= 4 * UNIT, "also what is dead counts until it is gone"
    assert len(outbox.take(EVERYTHING)) == 3


@both_modes
def test_a_replacement_that_does_not_fit_changes_nothing(acknowledged):
    older = body(0, latest("k"))
    outbox = outbox_of(older, acknowledged=acknowledged, size=3 * UNIT)
    assert outbox.offer(body(UNIT + 1, latest("k"))) is Offer.FULL
    assert outbox.take(EVERYTHING) == [HELLO, older]


@both_modes
def test_what_has_expired_is_not_written(acknowledged):
    soon, later = body(0, expires(5), published=10.0), body(0, expires(60), published=10.0)
    outbox = outbox_of(soon, A, later, acknowledged=acknowledged)
    assert outbox.may_expire
    outbox.drop_expired(14.9)
    assert outbox.statistics().owed_count == 4
    outbox.drop_expired(15.0)
    assert outbox.take(EVERYTHING) == [HELLO, A, later]
    assert not outbox.may_expire


@both_modes
def test_what_was_written_and_is_owed_again_may_expire(acknowledged):
    outbox = outbox_of(body(0, expires(5)), A, acknowledged=acknowledged)
    outbox.take(EVERYTHING)
    outbox.drop_expired(99.0)
    assert outbox.statistics().kept_count == 3, "it has its number"
    assert outbox.resume(1)
    outbox.drop_expired(99.0)
    assert outbox.take(EVERYTHING) == [A]


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "5", None])
def test_an_event_expires_after_a_while_and_not_before(seconds):
    with pytest.raises(Misuse, match="seconds"):
        expires(seconds)


@pytest.mark.parametrize("key", [5, ["a"], "k" * 201])
def test_a_key_is_short_text(key):
    with pytest.raises(Misuse, match="200 characters"):
        latest(key)


def test_a_key_counts_for_what_it_takes():
    text = Event("e", "text")
    assert Body(text, delivery=latest("k" * 100)).size == Body(text).size + 100


def test_an_event_is_one_of_these():
    with pytest.raises(Misuse, match="one of these"):
        Delivery(volatile=True, key="k")
    with pytest.raises(Misuse, match="one of these"):
        Delivery(key="k", lifetime=5.0)


# -- being watched -------------------------------------------------------------------------------------------------


def watched(outbox: Outbox, one: Body) -> list[Fate]:
    fates: list[Fate] = []
    outbox.watch(one, fates.append)
    return fates


def test_a_watched_event_tells_that_it_was_written_and_acknowledged():
    outbox = outbox_of(A, B)
    fates = watched(outbox, A)
    outbox.take(EVERYTHING)
    assert fates == [Fate.WRITTEN]
    assert outbox.resume(1)
    outbox.take(EVERYTHING)
    assert fates == [Fate.WRITTEN] * 2
    assert outbox.resume(2), "the client has it"
    outbox.acknowledge(0)
    assert fates == [Fate.WRITTEN] * 3
    outbox.acknowledge(1)
    assert fates == [Fate.WRITTEN] * 3 + [Fate.ACKNOWLEDGED]
    outbox.clear()
    assert len(fates) == 4


def test_a_watched_event_tells_that_no_more_will_be_known():
    outbox = outbox_of(A, acknowledged=False, kept_count=1)
    fates = watched(outbox, A)
    outbox.take(EVERYTHING)
    outbox.offer(B)
    outbox.take(EVERYTHING)
    assert fates == [Fate.WRITTEN, Fate.FORGOTTEN]


@pytest.mark.parametrize("loss", ["restart", "shed", "clear", "replace", "expire", "make room"])
def test_a_watched_event_tells_that_it_is_lost(loss):
    one = body(0, {"replace": latest("k"), "expire": expires(5), "make room": volatile()}.get(loss, MUST))
    outbox = outbox_of(one, count=4)
    fates = watched(outbox, one)
    match loss:
        case "restart":
            outbox.restart(A)
        case "shed":
            outbox.shed()
        case "clear":
            outbox.clear()
        case "replace":
            outbox.offer(body(0, latest("k")))
        case "expire":
            outbox.drop_expired(5.0)
        case "make room":
            assert outbox.offer_all([A, B, C], 3 * UNIT)
    assert fates == [Fate.LOST]


def test_a_cleared_outbox_holds_nothing():
    outbox = outbox_of(A, B)
    outbox.take(2 * UNIT)
    outbox.clear()
    assert outbox.statistics() == OutboxStatistics(0, 0, 0, 0, 0)
