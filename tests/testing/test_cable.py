"""A cable: it behaves as a stream must, and is spoiled exactly as it says."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from trio_hub import Misuse
from trio_hub.testing import Cable, Direction

UP, DOWN, BOTH = Direction.UP, Direction.DOWN, Direction.BOTH


async def everything_from(stream, at_a_time=65536):
    """Return what comes until the end or the break, and whether it broke."""
    parts = []
    try:
        while data := await stream.receive_some(at_a_time):
            parts.append(data)
    except trio.BrokenResourceError:
        return b"".join(parts), True
    return b"".join(parts), False


async def say_all(stream, *parts):
    with suppress(trio.BrokenResourceError):
        for part in parts:
            await stream.send_all(part)
        await stream.send_eof()


async def carry(cable, *parts, direction=UP):
    """Say these and the end; return what came of it at the other end, and whether it broke."""
    speaker, hearer = (cable.near, cable.far) if direction is UP else (cable.far, cable.near)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(say_all, speaker, *parts)
        return await everything_from(hearer)


async def test_a_cable_is_a_stream_as_trio_wants_it(autojump_clock):
    async def make():
        cable = Cable()
        return cable.near, cable.far

    async def make_clogged():
        cable = Cable(capacity=1)
        for end in (cable.near, cable.far):
            await end.send_all(b"x")
        return cable.near, cable.far

    await check_half_closeable_stream(make, make_clogged)


async def test_in_fair_weather_all_of_it_arrives_in_both_directions(autojump_clock):
    for direction in (UP, DOWN):
        assert await carry(Cable(capacity=10), b"hello ", b"x" * 1000, direction=direction) == (
            b"hello " + b"x" * 1000,
            False,
        )


async def test_a_sender_waits_for_room(autojump_clock):
    cable = Cable(capacity=10)
    with trio.move_on_after(1) as waiting:
        await cable.near.send_all(b"x" * 11)
    assert waiting.cancelled_caught
    assert await cable.far.receive_some() == b"x" * 10


async def test_a_cut_is_felt_at_both_ends_at_once(autojump_clock):
    cable = Cable()
    await cable.near.send_all(b"lost")
    cable.cut()
    for end in (cable.near, cable.far):
        with pytest.raises(trio.BrokenResourceError, match="was cut"):
            await end.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="was cut"):
            await end.send_all(b"anybody?")


async def test_a_sender_whose_words_vanish_never_waits(autojump_clock):
    abandoned, doomed = Cable(capacity=10), Cable(capacity=10)
    doomed.cut_after(10, UP)
    for cable in (abandoned, doomed):
        await cable.near.send_all(b"x" * 10)
        abandoned.abandon()
        await cable.near.wait_send_all_might_not_block()
        await cable.near.send_all(b"x" * 1000)


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("size", range(12))
async def test_a_cut_comes_after_exactly_so_many_bytes(autojump_clock, size, direction):
    cable = Cable()
    cable.cut_after(size, direction)
    arrived, broke = await carry(cable, b"hello ", b"world", direction=direction)
    assert (arrived, broke) == (b"hello world"[:size], size <= 11)


async def test_a_cut_to_come_counts_from_what_is_written_next(autojump_clock):
    cable = Cable()
    await cable.near.send_all(b"before ")
    cable.cut_after(2, UP)
    assert await carry(cable, b"after") == (b"before af", True)
    with pytest.raises(trio.BrokenResourceError):
        await cable.near.receive_some()


async def test_a_cut_to_come_is_the_business_of_one_direction(autojump_clock):
    cable = Cable()
    cable.cut_after(3, UP)
    assert await carry(cable, b"a long answer", direction=DOWN) == (b"a long answer", False)


async def test_a_cut_that_has_not_begun_can_be_mended_and_one_that_has_cannot(autojump_clock):
    saved, doomed = Cable(), Cable()
    for cable in (saved, doomed):
        cable.cut_after(4, UP)
    await saved.near.send_all(b"abc")
    await doomed.near.send_all(b"abcd")
    saved.mend()
    doomed.mend()
    assert await carry(saved, b"defg") == (b"abcdefg", False)
    assert await carry(doomed, b"efg") == (b"abcd", True)


async def test_what_is_abandoned_vanishes_without_a_sign(autojump_clock):
    cable = Cable(capacity=10)
    cable.abandon(UP)
    await cable.near.send_all(b"x" * 1000)
    cable.mend()
    with trio.move_on_after(1000) as waiting:
        await cable.far.receive_some()
    assert waiting.cancelled_caught
    assert await carry(cable, b"the other way", direction=DOWN) == (b"the other way", False)


async def test_a_stall_holds_what_is_sent_until_mended(autojump_clock):
    cable = Cable()
    cable.stall(UP)
    await cable.near.send_all(b"later")
    await cable.far.send_all(b"now")
    assert await cable.near.receive_some() == b"now"
    with trio.move_on_after(1000) as waiting:
        await cable.far.receive_some()
    assert waiting.cancelled_caught
    cable.mend()
    assert await cable.far.receive_some() == b"later"


async def test_slow_is_so_many_bytes_per_second(autojump_clock):
    cable = Cable()
    cable.slow(1000)
    assert await carry(cable, b"x" * 30_000) == (b"x" * 30_000, False)
    assert trio.current_time() == pytest.approx(30)


async def test_slow_may_be_slower_than_a_byte_per_second(autojump_clock):
    cable = Cable()
    cable.slow(0.5)
    await cable.near.send_all(b"ab")
    assert await cable.far.receive_some() == b"a"
    assert trio.current_time() == pytest.approx(2)


async def test_a_slow_cable_is_full_before_its_sender_waits(autojump_clock):
    cable = Cable(capacity=100)
    cable.slow(10)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(everything_from, cable.far)
        await cable.near.send_all(b"x" * 100)
        assert trio.current_time() == 0
        await cable.near.send_all(b"x" * 100)
        assert trio.current_time() == pytest.approx(10)
        await cable.near.aclose()


async def test_who_reads_late_finds_what_has_come_and_no_more(autojump_clock):
    cable = Cable(capacity=100)
    cable.slow(10)
    await cable.near.send_all(b"x" * 100)
    await trio.sleep(5)
    assert len(await cable.far.receive_some()) == 50
    await trio.sleep(1000)
    assert len(await cable.far.receive_some()) == 50
    await cable.near.send_all(b"y" * 10)  # sets out now, however idle the cable was
    began = trio.current_time()
    await cable.far.receive_some(10)
    assert trio.current_time() > began


async def test_slowness_that_ends_lets_all_of_it_through(autojump_clock):
    cable = Cable()
    await cable.near.send_all(b"x" * 1000)
    cable.slow(1)
    async with trio.open_nursery() as tasks:
        tasks.start_soon(cable.near.aclose)
        assert await cable.far.receive_some() == b"x"
        cable.mend()
        assert await everything_from(cable.far) == (b"x" * 999, False)
    assert trio.current_time() == pytest.approx(1)


async def test_a_cancelled_read_loses_nothing_and_gains_no_time(autojump_clock):
    cable = Cable()
    cable.slow(10)
    await cable.near.send_all(b"ab")
    for _ in range(3):
        with trio.move_on_after(0.03) as waiting:
            await cable.far.receive_some()
        assert waiting.cancelled_caught
    assert await cable.far.receive_some(1) == b"a"
    assert trio.current_time() == pytest.approx(0.1)


@pytest.mark.parametrize("most", [1, 2, 5])
async def test_every_read_is_split(autojump_clock, most):
    cable = Cable()
    cable.split(most)
    await cable.near.send_all(b"hello world")
    await cable.near.send_eof()
    reads = [await cable.far.receive_some(100) for _ in range(12)]
    assert b"".join(reads) == b"hello world"
    assert {len(read) for read in reads if read} <= set(range(1, most + 1))
    assert reads[0] == b"hello world"[:most]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: Cable(capacity=0),
        lambda: Cable().slow(0),
        lambda: Cable().slow(-1),
        lambda: Cable().slow(float("inf")),
        lambda: Cable().slow(float("nan")),
        lambda: Cable().split(0),
        lambda: Cable().cut_after(-1, UP),
    ],
)
async def test_weather_that_cannot_be_is_a_misuse(spoil):
    with pytest.raises(Misuse):
        spoil()


async def test_who_waits_for_room_is_told_of_the_cut(autojump_clock):
    cable = Cable(capacity=1)
    async with trio.open_nursery() as tasks:

        async def wait_in_vain():
            await cable.near.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await cable.near.wait_send_all_might_not_block()

        tasks.start_soon(wait_in_vain)
        await wait_all_tasks_blocked()
        cable.cut()


@settings(deadline=None)
@given(
    said=st.lists(st.binary(max_size=50), max_size=8),
    capacity=st.integers(1, 60),
    at_a_time=st.integers(1, 60),
    rate=st.none() | st.floats(0.1, 1e6),
    most=st.none() | st.integers(1, 20),
    cut=st.none() | st.integers(0, 300),
    direction=st.sampled_from([UP, DOWN]),
)
def test_whatever_befalls_it_the_beginning_arrives_and_in_fair_weather_all(
    said, capacity, at_a_time, rate, most, cut, direction
):
    cable = Cable(capacity=capacity)
    speaker, hearer = (cable.near, cable.far) if direction is UP else (cable.far, cable.near)

    async def story():
        if rate is not None:
            cable.slow(rate)
        if most is not None:
            cable.split(most)
        if cut is not None:
            cable.cut_after(cut, direction)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(say_all, speaker, *said)
            return await everything_from(hearer, at_a_time)

    arrived, broke = trio.run(story, clock=trio.testing.MockClock(autojump_threshold=0))
    whole = b"".join(said)
    assert broke == (cut is not None and cut <= len(whole))
    assert arrived == (whole[:cut] if broke else whole)
