"""The scenarios of storms, idle links and latency, as small as they can be: figures are complete, and counts exact."""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import attrs
import pytest

from benchmarks.load.dialer import check_resumed, has_resumed, is_greeted
from benchmarks.load.listener import hear
from benchmarks.load.raw import FrameCounter, Trouble, take_messages
from benchmarks.scenarios import idle, latency, storm
from benchmarks.scenarios.latency import percentiles
from benchmarks.servers import FAN_OUT
from benchmarks.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loads need epoll and /proc")

TINY = Settings(links=(3,), crowd=60, rounds=1, seconds=0.05)
OURS = [contender for contender in FAN_OUT if contender.name == "trio_hub v1.json"]


def test_percentiles_are_values_that_were_there() -> None:
    values = [float(n) for n in range(1000)]
    assert percentiles(values) == {"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "longest": 999}
    assert set(percentiles([7.0]).values()) == {7.0}


def framed(message: object) -> bytes:
    """Return the frame in which a server says this."""
    text = json.dumps(message, separators=(",", ":")).encode()
    head = bytes((0x81, len(text))) if len(text) < 126 else b"\x81\x7e" + len(text).to_bytes(2, "big")
    return head + text


ID = "a" * 26
TICK: dict[str, Any] = {"event": "tick", "data": {"text": "x" * 100}}


def resumed(id: str = ID, number: int = 1) -> bytes:
    return framed({"resumed": {"connection_id": id, "next": number}})


def test_messages_are_taken_from_whole_frames_and_batches() -> None:
    said = framed(1) + framed([2, 3])
    assert take_messages(said + b"\x81\x05ab") == ([1, 2, 3], b"\x81\x05ab")
    assert take_messages(b"") == ([], b"")


def test_a_link_is_greeted_when_the_last_byte_of_its_greeting_is_there() -> None:
    greeting = framed(TICK)
    done = is_greeted(1)
    assert [done(greeting[:size]) for size in range(len(greeting) + 1)] == [False] * len(greeting) + [True]
    assert is_greeted(0)(b"")


def test_a_link_is_back_when_it_has_every_event_it_missed() -> None:
    done = has_resumed(3)
    assert not done(b"")
    assert not done(resumed())
    assert not done(resumed() + framed([TICK] * 2))
    assert done(resumed() + framed([TICK] * 2) + framed(TICK))
    for wrong in (framed([TICK] * 3), resumed() + framed([TICK] * 4)):
        with pytest.raises(Trouble):
            done(wrong)


def test_a_link_that_is_back_was_told_neither_more_nor_less() -> None:
    check_resumed(resumed() + framed([TICK] * 3), ID, 3)
    check_resumed(resumed(), ID, 0)
    for wrong in (
        b"",
        framed([TICK] * 3),
        resumed(),
        resumed() + framed([TICK] * 4),
        resumed() + framed([TICK] * 3) + framed({"event": "tock"}),
        resumed("b" * 26) + framed([TICK] * 3),
        resumed(number=2) + framed([TICK] * 3),
    ):
        with pytest.raises(Trouble):
            check_resumed(wrong, ID, 3)


def test_pings_count_that_are_under_way_in_a_storm() -> None:
    begun, trips = [0.0, 1.0, 2.0, 3.0, 4.0], [0.5, 1.5, 0.25, 5.0, 1.0]
    assert storm.meanwhile(begun, trips, 2.0, 3.5) == [1.5, 0.25, 5.0]


def test_a_storm_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "_DIALED", ("trio_hub v1.json",))
    report = storm.run(attrs.evolve(TINY, crowd=400))  # so many that a ping is under way
    figures: Any = json.loads(json.dumps(report.figures))
    assert figures["failure"] is None
    assert [each["links"] for each in figures["storms"]] == [200]
    assert figures["waits"]["count"] > 0
    assert len(figures["handshakes"]["trio_hub v1.json"]) == 1
    assert all(owed.met is not None for owed in report.owed)


@pytest.mark.parametrize(("came", "seconds", "trouble"), [(2, 0, "did not come"), (3, 5, ""), (4, 5, "too many")])
def test_a_listener_hears_neither_more_nor_less(came: int, seconds: float, trouble: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(framed("x" * 100) * came)
        links, counters = {ours.fileno(): ours}, {ours.fileno(): FrameCounter(102)}
        if trouble:
            with pytest.raises(Trouble, match=trouble):
                hear(links, counters, "-", 3, seconds)
        else:
            assert [len(times) for times in hear(links, counters, "-", 3, seconds)] == [1, 1, 1]


def test_idle_links_and_latencies_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "FAN_OUT", OURS)
    monkeypatch.setattr(latency, "FAN_OUT", OURS)
    (found,) = idle.run(TINY).figures.values()
    assert found["links"] == 30
    (delays,) = latency.run(TINY).figures.values()
    assert delays["deliveries"] == 6 * 50
    assert list(delays["delays"].values()) == sorted(delays["delays"].values())
