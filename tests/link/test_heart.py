"""The heart: who says nothing, takes nothing or never finishes is let go; in time, and not before."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import FIN, PONG, TEXT, RawPeer, link_and_peer, receive_forever, send_forever, spoken
from trio_hub.errors import LinkLost
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.messages import CloseReason, LinkStatus
from trio_hub.options import LinkOptions
from trio_hub.testing import Cable
from trio_hub.wire.frames import Ping

NEVER = 100_000.0


def limits(**seconds: float) -> LinkOptions:
    """Options in which only the named limits are ever met."""
    never = dict.fromkeys(("ping_interval", "pong_timeout", "write_timeout", "finish_within"), NEVER)
    return LinkOptions(**{**never, "close_timeout": 1.0, **seconds})


async def watched(options: LinkOptions, tasks: trio.Nursery, *links: Link) -> Heart:
    heart = Heart(options)
    for link in links:
        heart.watch(link)
    tasks.start_soon(heart.run)
    await wait_all_tasks_blocked()
    return heart


async def the_end_of(link: Link) -> CloseReason:
    """Read until the link ends, and say how."""
    with pytest.raises(LinkLost) as caught:
        await receive_forever(link)
    return caught.value.close


async def test_silence_is_asked_once_and_then_given_up(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)  # a beat is 3 s
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        asked = ended = None

        async def listen() -> None:
            nonlocal asked, ended
            assert await peer.hear() == Ping()
            asked = trio.current_time()
            assert await peer.hear() == CloseReason(4102, "no sign of life")
            ended = trio.current_time()

        tasks.start_soon(listen)
        assert await the_end_of(link) == CloseReason(4102, "no sign of life")
        await wait_all_tasks_blocked()
        assert 20 <= asked <= 20 + 2 * 3
        assert asked + 12 <= ended <= asked + 12 + 2 * 3
        tasks.cancel_scope.cancel()


async def test_a_peer_that_answers_pings_stays(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        asked = 0

        async def answer() -> None:
            nonlocal asked
            while isinstance(ping := await peer.hear(), Ping):
                asked += 1
                await peer.say(FIN | PONG, ping.payload)

        tasks.start_soon(answer)
        with trio.move_on_after(3600) as hour:
            await link.receive()
        assert hour.cancelled_caught
        assert 3600 / (20 + 3 * 3) - 1 <= asked <= 3600 / 20
        tasks.cancel_scope.cancel()


async def test_a_peer_that_speaks_is_not_asked(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        for _ in range(100):
            with trio.move_on_after(10):
                await link.receive()
            await peer.say(FIN | TEXT, b"still here")
            assert await link.receive() == ["still here"]
        with trio.move_on_after(1) as quiet:
            await peer.hear()
        assert quiet.cancelled_caught
        tasks.cancel_scope.cancel()


async def test_a_late_pong_within_the_timeout_saves_the_link(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        for _ in range(3):
            with trio.move_on_after(20 + 3 * 3):  # beyond the beat that asks: only a program that listens is served
                await link.receive()
            assert await peer.hear() == Ping()
            with trio.move_on_after(5):
                await link.receive()
            await peer.say(FIN | PONG)
        assert link.closed is None
        tasks.cancel_scope.cancel()


async def test_an_overdue_pong_is_told_and_may_come_yet(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12, grace=16)  # a beat is 3 s
    told = []
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        link.watch_status(lambda previous, new: told.append((previous, new, trio.current_time())))
        await watched(options, tasks, link)
        tasks.start_soon(the_end_of, link)
        with trio.move_on_after(20 + 12 + 4 * 3):
            await trio.sleep_forever()
        assert link.status is LinkStatus.TIMEOUT
        await link.send("you can still be told")
        await peer.say(FIN | PONG)
        with trio.move_on_after(3):
            await trio.sleep_forever()
        assert link.status is LinkStatus.READY
        with trio.move_on_after(20 + 12 + 4 * 3):
            await trio.sleep_forever()
        assert link.status is LinkStatus.TIMEOUT
        with trio.move_on_after(16 + 2 * 3):
            await trio.sleep_forever()
        assert link.closed == CloseReason(4102, "no sign of life")
        tasks.cancel_scope.cancel()
    ready, timeout, closed = LinkStatus.READY, LinkStatus.TIMEOUT, LinkStatus.CLOSED
    assert [each[:2] for each in told] == [(ready, timeout), (timeout, ready), (ready, timeout), (timeout, closed)]
    overdue, _, again, given_up = (each[2] for each in told)
    assert 20 + 12 <= overdue <= 20 + 12 + 4 * 3
    assert 16 <= given_up - again <= 16 + 2 * 3


async def test_without_grace_there_is_no_timeout(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    told = []
    async with link_and_peer(options=options) as (link, _), trio.open_nursery() as tasks:
        link.watch_status(lambda *change: told.append(change))
        await watched(options, tasks, link)
        await the_end_of(link)
        assert told == [(LinkStatus.READY, LinkStatus.CLOSED)]
        tasks.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing_is_too_slow(autojump_clock):
    options = limits(write_timeout=20)  # a beat is 5 s
    cable = Cable(capacity=100)
    async with link_and_peer(cable=cable, options=options) as (link, _), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        await link.send("x" * 1000)
        assert await the_end_of(link) == CloseReason(4100, "nothing was read for too long")
        assert 20 <= trio.current_time() <= 20 + 2 * 5
        tasks.cancel_scope.cancel()


async def test_a_sender_learns_that_its_peer_is_too_slow(autojump_clock):
    options = limits(write_timeout=20)
    cable = Cable(capacity=100)
    async with link_and_peer(cable=cable, options=options) as (link, _), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        with pytest.raises(LinkLost) as caught:
            await send_forever(link, "x" * 100_000)
        assert caught.value.close.code == 4100
        assert 20 <= trio.current_time() <= 20 + 2 * 5
        tasks.cancel_scope.cancel()


async def test_a_slow_peer_that_takes_something_stays(autojump_clock):
    options = limits(write_timeout=20)
    piece = 64 * 1024  # what a stream is given at a time; its progress cannot be seen more closely
    cable = Cable(capacity=piece)
    async with link_and_peer(cable=cable, options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        link.post("x" * (50 * piece))
        link.writer.flush()
        for _ in range(40):
            with trio.move_on_after(15):
                await link.receive()
            await peer.stream.receive_some(piece)
        assert link.closed is None
        assert trio.current_time() == pytest.approx(600)
        cable.cut()
        tasks.cancel_scope.cancel()


async def test_a_message_that_is_never_finished_ends_the_link(autojump_clock):
    options = limits(finish_within=20)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)

        async def drip() -> None:
            await peer.say(TEXT, b"once upon a time")
            while True:
                await trio.sleep(2)
                await peer.say(0, b" and then")

        tasks.start_soon(drip)
        assert await the_end_of(link) == CloseReason(1008, "the message was not finished in time")
        assert 20 <= trio.current_time() <= 20 + 2 * 5
        tasks.cancel_scope.cancel()


async def test_half_a_frame_header_is_a_message_never_finished(autojump_clock):
    options = limits(finish_within=20)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        await peer.stream.send_all(b"\x81")
        assert (await the_end_of(link)).code == 1008
        tasks.cancel_scope.cancel()


async def test_a_peer_that_finishes_each_message_in_time_stays(autojump_clock):
    options = limits(finish_within=20)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        for _ in range(50):
            await peer.say(TEXT, b"once")
            with trio.move_on_after(15):
                await link.receive()
            await peer.say(FIN | 0, b" more")
            assert await link.receive() == ["once more"]
        tasks.cancel_scope.cancel()


async def test_a_link_that_is_forgotten_is_left_alone(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    async with link_and_peer(options=options) as (link, _), trio.open_nursery() as tasks:
        heart = await watched(options, tasks, link)
        heart.forget(link)
        heart.forget(link)
        with trio.move_on_after(1000) as scope:
            await link.receive()
        assert scope.cancelled_caught
        tasks.cancel_scope.cancel()


async def test_a_link_that_has_ended_is_left_alone(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        peer.stream.hang_up()
        assert (await the_end_of(link)).code == 1006
        with trio.move_on_after(1000):
            await trio.sleep_forever()
        assert link.closed.code == 1006
        tasks.cancel_scope.cancel()


async def test_one_heart_for_1000_links_is_one_task(autojump_clock):
    options = limits(ping_interval=20, pong_timeout=12)
    cables = [Cable() for _ in range(1000)]
    links = [Link(cable.near, client=False, options=options) for cable in cables]
    for link in links:
        link.listening = True  # as it is while somebody receives, which takes a task of their own
    before = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as tasks:
        await watched(options, tasks, *links)
        assert trio.lowlevel.current_statistics().tasks_living == before + 1
        with trio.move_on_after(20 + 12 + 4 * 3):
            await trio.sleep_forever()
        tasks.cancel_scope.cancel()
    assert {link.closed for link in links} == {CloseReason(4102, "no sign of life")}
    await trio.aclose_forcefully(cables[0].near)
    assert await RawPeer(cables[0].far).hear_rest() == [], "nobody wrote for it"


async def test_a_program_that_is_busy_does_not_blame_its_peer(autojump_clock):
    """While nobody of ours listens, silence is no sign: the peer may have said all it had to say."""
    options = limits(ping_interval=20, pong_timeout=12, finish_within=30)
    async with link_and_peer(options=options) as (link, peer), trio.open_nursery() as tasks:
        await watched(options, tasks, link)
        await peer.stream.send_all(spoken(FIN | TEXT, b"work") + spoken(FIN | TEXT, b"more")[:3])
        assert await link.receive() == ["work"]
        with trio.move_on_after(1000):
            await trio.sleep_forever()
        assert link.closed is None
        await link.send("done")
        assert await peer.hear() == "done"
        tasks.cancel_scope.cancel()
