"""What waits to leave for other nodes is bounded, in number and in bytes."""

from trio_hub.cluster.departures import Departures
from trio_hub.cluster.envelopes import Envelope, Sealing

MOST_BYTES = 1 << 20


def departures() -> Departures:
    return Departures(Sealing("a"), 1000, MOST_BYTES, lambda: None)


def test_words_are_bounded_in_bytes():
    ours = departures()
    for _ in range(100):
        ours.say("n:b", bytes(1 << 16))
    assert len(ours) == 16
    assert ours.lost_words == 84


def test_events_are_bounded_in_bytes():
    ours = departures()
    for number in range(1, 101):
        ours.put([("t:town", Envelope(number, number - 1, False, ["news", bytes(1 << 16)]))])
    assert len(ours) == 16
    assert ours.lost == 84
