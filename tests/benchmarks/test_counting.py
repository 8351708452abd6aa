"""What a benchmark counts, it counts exactly: frames, round trips, what clients heard. All at a desk."""

from __future__ import annotations

import json
from itertools import count, islice, pairwise
from pathlib import Path

import pytest

from benchmarks import index
from benchmarks.chat import events, read_events, write_events
from benchmarks.fairness import waits_from
from benchmarks.load.cutter import cut_moments
from benchmarks.load.hearing import Hearing, tally
from benchmarks.load.raw import MessageCounter, Trouble, payload_of
from benchmarks.servers.ticks import ticks


def compressed(size: int) -> bytes:
    """Return the frame of a compressed message of so many bytes."""
    head = bytes((0xC1, size)) if size < 126 else b"\xc1\x7e" + size.to_bytes(2, "big")
    return head + b"x" * size


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 128, 10_000])
def test_a_message_counts_when_its_last_byte_is_there(step: int) -> None:
    frames = [compressed(size) for size in (5, 125, 126, 1000, 2, 2)]
    stream = b"".join(frames)
    ends = [sum(map(len, frames[: number + 1])) for number in range(len(frames))]
    counter, counted = MessageCounter(), 0
    for at in range(0, len(stream), step):
        piece = stream[at : at + step]
        counted += counter.feed(bytearray(piece), len(piece))
        assert counted == sum(end <= at + len(piece) for end in ends)


@pytest.mark.parametrize("first", [0x81, 0x41])
def test_a_message_that_is_plain_or_in_pieces_is_trouble(first: int) -> None:
    frame = bytearray(compressed(10))
    frame[0] = first
    with pytest.raises(Trouble):
        MessageCounter().feed(frame, len(frame))


def test_the_payload_of_a_frame_begins_behind_its_head() -> None:
    assert payload_of(compressed(5)) == b"x" * 5
    assert payload_of(compressed(126)) == b"x" * 126


def test_events_of_a_chat_have_one_size_and_are_all_different(tmp_path: Path) -> None:
    said = events(20, 2048)
    assert {len(event) for event in said} == {2048}
    assert len(set(said)) == 20
    assert said == events(20, 2048)
    assert all(json.loads(event)["data"]["message"].endswith(".") for event in said)
    write_events(tmp_path / "chat", 20, 2048)
    assert read_events(str(tmp_path / "chat")) == said


def test_what_a_client_heard_is_counted_once() -> None:
    hearing = Hearing()
    for number in (1, 2, 4, 3, 4, 0):
        hearing.hear(number)
    expected = {"received": 4, "unfinished": 1, "duplicates": 1, "disorder": 1, "gaps": 0}
    assert tally([hearing, Hearing()], 4) == expected
    with pytest.raises(Trouble):
        tally([hearing], 3)


def test_all_are_cut_as_often_and_nobody_when_another_is() -> None:
    moments = [list(islice(cut_moments(number, 10, 2.0), 5)) for number in range(10)]
    assert len({moment for each in moments for moment in each}) == 50
    assert all(0 < each[0] < 2 for each in moments)
    assert all(later - earlier == pytest.approx(2) for each in moments for earlier, later in pairwise(each))


def test_ticks_keep_their_pace_and_go_on_as_zero() -> None:
    clock = count(100.0, 0.001).__next__  # each look at it takes a millisecond
    heard = list(islice(ticks(3, 50, clock), 5))
    assert [number for number, _ in heard] == [1, 2, 3, 0, 0]
    assert [wait for _, wait in heard] == pytest.approx([0.019, 0.038, 0.057, 0.076, 0.095])


def test_waits_are_those_of_the_slowest() -> None:
    waits = waits_from([0.001 * number for number in range(200, 0, -1)], 10, 3)
    assert (waits.count, waits.recipients, waits.published) == (200, 10, 3)
    assert [waits.p50, waits.p99, waits.longest] == pytest.approx([0.101, 0.199, 0.2])


def test_the_index_is_measured_for_every_call_and_size() -> None:
    costs = index.measure(1, sizes=(20, 200))
    assert {size: set(calls) for size, calls in costs.items()} == {20: set(index.CALLS), 200: set(index.CALLS)}
    assert all(cost > 0 for calls in costs.values() for cost in calls.values())
