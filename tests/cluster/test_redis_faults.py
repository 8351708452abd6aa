"""What befalls a Redis, and whoever meets there: nothing is lost in silence, and nobody waits for long."""

import logging
import re
import time
from contextlib import asynccontextmanager

import pytest
import trio

from tests.redis_servers import RedisServer
from trio_hub import Unreachable
from trio_hub.cluster.backplane import Arrival, Interrupted, Outbound
from trio_hub.cluster.redis import RedisBackplane
from trio_hub.cluster.redis.address import parse_redis_url
from trio_hub.cluster.redis.connection import dial
from trio_hub.options import BackplaneOptions
from trio_hub.testing import open_proxy

QUICK = BackplaneOptions(patience=1.0, beat_every=0.1, deaf_after=0.5, first_retry=0.01, longest_retry=0.1)
PATIENT = BackplaneOptions(patience=10.0, beat_every=0.1, deaf_after=2.0, first_retry=0.01, longest_retry=0.1)
DEADLINE = 20.0


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def joined(url, options=QUICK):
    """Ann, who speaks, and Bob, who hears the plain town and the reliable one."""
    backplane = RedisBackplane(url, options=options)
    with trio.fail_after(DEADLINE):
        async with backplane.join("ann") as ann, backplane.join("bob") as bob:
            await bob.listen(["town"])
            await bob.listen(["town"], reliable=True)
            await bob.listen(["square"], reliable=True)
            yield ann, bob


@asynccontextmanager
async def through_proxy(redis):
    """Cid, and what is between him and the Redis."""
    async with (
        open_proxy(redis.port) as proxy,
        RedisBackplane(f"redis://127.0.0.1:{proxy.port}", options=QUICK).join("cid") as cid,
    ):
        yield proxy, cid


def reliably(*payloads, channel="town"):
    return [Outbound(channel, b"%d" % payload, reliable=True) for payload in payloads]


async def hear(member, count):
    """Return so many payloads, and the holes that were told before the last of them."""
    payloads, holes = [], []
    while len(payloads) < count:
        for each in await member.receive():
            if isinstance(each, Arrival):
                payloads.append(int(each.payload))
            else:
                holes.append(each)
    return payloads, holes


async def until(holds):
    while not holds():  # noqa: ASYNC110 - nobody tells when health changes
        await trio.sleep(0.01)


async def send_when_reached(member, messages):
    while True:
        try:
            return await member.send(messages)
        except Unreachable:
            await trio.sleep(0.01)


async def test_what_somebody_else_has_put_into_a_stream_holds_up_nothing(redis):
    async with joined(redis.url) as (ann, bob):
        await ann.send(reliably(1))
        assert await hear(bob, 1) == ([1], [])
        redis.tell("XADD trio_hub:stream:town * m x")
        redis.tell("PUBLISH trio_hub:reliable:town x")
        redis.tell("CLIENT KILL TYPE pubsub")
        await ann.send(reliably(2))
        payloads, _ = await hear(bob, 1)
        assert payloads == [2]


# -- it is away


async def test_a_node_starts_while_redis_is_away(redis):
    redis.kill()
    with trio.fail_after(DEADLINE):
        backplane = RedisBackplane(redis.url, options=QUICK)
        async with backplane.join("ann") as ann, backplane.join("bob") as bob:
            await until(lambda: "not connected" not in bob.health().trouble)
            assert bob.health().is_deaf
            assert str(redis.port) in bob.health().trouble
            await bob.listen(["town"])
            redis.start()
            while Interrupted() not in await bob.receive():
                pass
            await send_when_reached(ann, [Outbound("town", b"1")])
            assert await hear(bob, 1) == ([1], [])
            await until(lambda: not bob.health().trouble)


async def test_restarted_empty_it_is_told_for_every_channel(redis):
    async with joined(redis.url) as (ann, bob):
        await ann.send([*reliably(1, 2), *reliably(3, channel="square")])
        assert await hear(bob, 3) == ([1, 2, 3], [])
        redis.kill()
        with pytest.raises(Unreachable):
            await ann.send(reliably(4))
        redis.start()
        told = set()
        while told != {Interrupted(), Interrupted("town"), Interrupted("square")}:
            told |= set(await bob.receive())
        await send_when_reached(ann, reliably(5, 6))
        assert await hear(bob, 2) == ([5, 6], [])
        assert bob.statistics().reconnects >= 1


async def test_restarted_empty_what_was_sent_before_anybody_came_back_is_heard(redis):
    async with joined(redis.url) as (ann, _), through_proxy(redis) as (proxy, cid):
        await cid.listen(["town"], reliable=True)
        await ann.send(reliably(1))
        assert await hear(cid, 1) == ([1], [])
        proxy.cut()
        redis.kill()
        redis.start()
        await send_when_reached(ann, reliably(2))
        await ann.send(reliably(3))
        proxy.mend()
        assert await hear(cid, 2) == ([2, 3], [Interrupted("town")])


async def test_a_reliable_message_waits_for_a_short_absence_and_comes_once(redis):
    async with joined(redis.url, PATIENT) as (ann, bob), trio.open_nursery() as tasks:
        await ann.send(reliably(1))
        await hear(bob, 1)
        redis.kill()
        tasks.start_soon(ann.send, reliably(2))
        await until(lambda: ann.health().trouble)
        redis.start()
        payloads, holes = await hear(bob, 1)
        assert payloads == [2]
        assert Interrupted("town") in holes


# -- it does not answer


async def test_frozen_it_is_noticed_and_what_was_not_sent_is_told(redis):
    async with joined(redis.url) as (ann, bob):
        await ann.send(reliably(1))
        redis.freeze()
        for messages in (reliably(2), [Outbound("town", b"2")]):
            began = time.monotonic()
            with pytest.raises(Unreachable):
                await ann.send(messages)
            assert time.monotonic() - began < QUICK.patience + 1.0
        await until(lambda: bob.health().is_deaf)
        with pytest.raises(Unreachable):
            await ann.take("key")
        redis.thaw()
        await send_when_reached(ann, reliably(3))
        payloads = []
        while 3 not in payloads:
            payloads += [int(each.payload) for each in await bob.receive() if isinstance(each, Arrival)]
        assert [each for each in payloads if each != 2] == [1, 3]
        await until(lambda: not bob.health().is_deaf)


async def test_half_open_connections_are_given_up(redis):
    async with joined(redis.url) as (ann, _), through_proxy(redis) as (proxy, cid):
        await cid.listen(["town"])
        await cid.listen(["town"], reliable=True)
        began = trio.current_time()
        proxy.abandon()
        await ann.send(reliably(1))
        payloads, holes = await hear(cid, 1)
        assert payloads == [1]
        assert set(holes) == {Interrupted(), Interrupted("town")}
        assert trio.current_time() - began < QUICK.deaf_after + 2.0
        await send_when_reached(cid, [Outbound("town", b"")])


async def test_stalled_it_goes_on_when_that_is_over(redis):
    async with joined(redis.url) as (ann, _), through_proxy(redis) as (proxy, cid):
        await cid.listen(["town"], reliable=True)
        await ann.send(reliably(0))
        assert await hear(cid, 1) == ([0], [])
        proxy.stall()
        await ann.send(reliably(*range(1, 10)))
        await until(lambda: cid.health().is_deaf)
        proxy.mend()
        assert await hear(cid, 9) == (list(range(1, 10)), [])


# -- it cuts connections


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
async def test_whoever_is_cut_off_reliable_messages_come_once_and_in_order(redis, kind):
    async with joined(redis.url, PATIENT) as (ann, bob):
        await ann.send(reliably(0))
        await hear(bob, 1)
        sent = 1

        async def send():
            nonlocal sent
            while True:
                await ann.send(reliably(*range(sent, sent + 10)))
                sent += 10

        async with trio.open_nursery() as busy:
            busy.start_soon(send)
            for _ in range(20):
                await trio.sleep(0.02)
                await trio.to_thread.run_sync(redis.tell, f"CLIENT KILL TYPE {kind} SKIPME yes")
            busy.cancel_scope.cancel()
        payloads, holes = await hear(bob, sent - 1)
        wrong = [(each, at) for at, each in enumerate(payloads, 1) if each != at]
        assert wrong[:5] == []
        assert Interrupted("town") not in holes
        assert sent > 100


async def test_a_subscription_that_was_cut_is_told(redis):
    async with joined(redis.url) as (ann, bob):
        redis.tell("CLIENT KILL TYPE pubsub")
        while Interrupted() not in await bob.receive():
            pass
        await ann.send([Outbound("town", b"1")])
        assert (await hear(bob, 1))[0] == [1]


# -- it refuses


async def test_full_it_takes_no_reliable_messages_and_plain_ones_go_on(redis):
    async with joined(redis.url) as (ann, bob):
        redis.tell("CONFIG SET maxmemory 1")
        with pytest.raises(Unreachable, match="OOM"):
            await ann.send(reliably(1))
        with pytest.raises(Unreachable, match="OOM"):
            await ann.put("key", b"value", 60)
        await ann.send([Outbound("town", b"2")])
        assert await hear(bob, 1) == ([2], [])
        redis.tell("CONFIG SET maxmemory 0")
        await ann.send(reliably(3))
        assert await hear(bob, 1) == ([3], [])


async def test_a_replica_takes_no_reliable_messages_until_it_is_none(redis):
    async with joined(redis.url) as (ann, bob):
        redis.tell("REPLICAOF 127.0.0.1 1")
        with pytest.raises(Unreachable):
            await ann.send(reliably(1))
        redis.tell("REPLICAOF NO ONE")
        await send_when_reached(ann, reliably(2))
        assert (await hear(bob, 1))[0] == [2]


async def test_forgotten_scripts_are_said_again(redis):
    async with joined(redis.url) as (ann, bob):
        await ann.send(reliably(1))
        redis.tell("SCRIPT FLUSH")
        await ann.send(reliably(2))
        assert (await hear(bob, 2))[0] == [1, 2]


async def test_a_password_is_needed_and_never_told(caplog):
    caplog.set_level(logging.DEBUG)
    with RedisServer() as redis, trio.fail_after(DEADLINE):
        redis.tell("CONFIG SET requirepass s3cret")
        wrong = RedisBackplane(f"redis://:wr0ng@127.0.0.1:{redis.port}", options=QUICK)
        async with wrong.join("ann") as ann:
            with pytest.raises(Unreachable) as caught:
                await ann.send([Outbound("town", b"")])
            assert "password" in caught.value.reason
            assert "wr0ng" not in str(caught.value) + repr(wrong) + ann.health().trouble + caplog.text
        async with RedisBackplane(f"redis://:s3cret@127.0.0.1:{redis.port}", options=QUICK).join("ann") as ann:
            await ann.send([Outbound("town", b"")])
        assert "s3cret" not in caplog.text


# -- what it keeps


async def test_an_unused_stream_is_forgotten_and_nobody_misses_anything(redis):
    options = BackplaneOptions(kept_for=0.2)
    async with joined(redis.url, options) as (ann, bob):
        await ann.send(reliably(1, 2))
        await until(lambda: redis.tell("EXISTS trio_hub:stream:town") == ":0")
        await ann.send(reliably(3))
        assert await hear(bob, 3) == ([1, 2, 3], [])


async def test_a_stranger_on_a_channel_is_ignored(redis, caplog):
    async with joined(redis.url) as (ann, bob):
        redis.tell("PUBLISH trio_hub:plain:town \xff")
        redis.tell("PUBLISH trio_hub:reliable:town hello")
        await ann.send([Outbound("town", b"1")])
        assert await hear(bob, 1) == ([1], [])
        assert caplog.text.count("is no message of a backplane") == 2


async def test_who_takes_nothing_is_waited_for_by_redis(redis):
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as tasks:
            listener = await dial(parse_redis_url(redis.url), tasks, 5.0)
            speaker = await dial(parse_redis_url(redis.url), tasks, 5.0)
            listener.send_command(b"SUBSCRIBE", b"town")
            for number in range(200):
                await speaker.create_request(b"PUBLISH", b"town", b"%06d" % number + b"x" * 100_000)
            clients = (await speaker.create_request(b"CLIENT LIST", b"TYPE", b"PUBSUB")).decode()
            assert int(re.search(r"omem=(\d+)", clients).group(1)) > 1_000_000
            pushes = await listener.receive_pushes()
            assert pushes[0][0] == b"subscribe"
            while len(pushes) < 201:
                pushes += await listener.receive_pushes()
            assert [int(push[2][:6]) for push in pushes[1:]] == list(range(200))
            tasks.cancel_scope.cancel()
