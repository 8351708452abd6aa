"""A peer that stops reading does not slow the others, costs bounded memory, and is told of its gap."""

import pytest
import trio

from trio_hub import (
    Event,
    Gap,
    Hub,
    HubOptions,
    OutboxOptions,
    Reach,
    Refused,
    Router,
    everyone,
    topic,
)
from trio_hub.testing import Cable, open_world
from trio_hub.wire.codecs import V1_JSON

OPTIONS = HubOptions(outbox=OutboxOptions(count=200, size=200_000, kept_count=50, kept_size=50_000))
BIG = "x" * 1000


async def until_the_gap(client):
    try:
        async for _ in client:
            pass
    except Gap as gap:
        return gap


async def test_a_stopped_reader_is_told_in_band_and_stays(autojump_clock):
    async with open_world(options=OPTIONS) as world, world.open_client() as quick, world.open_client() as slow:
        (_, slow_connection) = world.server.hub.connections()
        slow.weather.stall()
        for n in range(1000):
            await world.server.publish(Event("tick", {"n": n, "big": BIG}), to=everyone())
            assert (await quick.receive()).data["n"] == n
            held = slow_connection.outbox.statistics()
            assert held.owed_count + held.kept_count <= 200
            assert held.owed_size + held.kept_size <= 200_000
        slow.weather.mend()

        heard, gaps = [], []
        while not heard or heard[-1] < 999:
            try:
                heard.append((await slow.receive()).data["n"])
            except Gap as gap:
                gaps.append(gap.reason)
        assert gaps
        assert set(gaps) == {"overflow"}
        assert heard == sorted(set(heard))  # in order, none twice
        assert slow.weather.dials == 1  # it was never thrown out
        await world.server.publish(Event("tick", {"n": 1000}), to=everyone())
        assert (await slow.receive()).data["n"] == 1000


async def test_a_program_that_does_not_handle_its_events_holds_a_bounded_number(autojump_clock):
    async with open_world(options=OPTIONS) as world, world.open_client() as idle:
        (connection,) = world.server.hub.connections()
        for n in range(150):
            await world.server.publish(Event("tick", {"n": n}), to=everyone())
        await trio.sleep(5)
        assert connection.outbox.statistics().kept_count <= 50  # written, and not acknowledged
        assert connection.outbox.statistics().owed_count >= 100
        for n in range(150):  # and nothing is lost
            assert (await idle.receive()).data["n"] == n


async def test_an_acknowledging_client_lets_the_hub_forget(autojump_clock):
    async with open_world(options=OPTIONS) as world, world.open_client() as client:
        (connection,) = world.server.hub.connections()
        for n in range(60):
            await world.server.publish(Event("tick", {"n": n}), to=everyone())
            await client.receive()
        client.settle()
        await trio.sleep(2)
        assert connection.outbox.statistics().kept_count == 0


async def test_overflow_before_the_first_hello_was_written_is_told_by_that_hello(autojump_clock):
    """A link that takes nothing from its first moment: the events it never got are not lost in silence."""
    from trio_hub.link.link import Link
    from trio_hub.messages import CloseReason
    from trio_hub.session import Session

    async with open_world(options=OPTIONS) as world:
        hub, cable = world.server.hub, Cable(capacity=1)
        link = Link(cable.far, client=False, subprotocol=V1_JSON.subprotocol)
        link.writer.busy = True  # as if the socket had just taken all it can
        connection, is_new = hub.roster.admit(link, Session("ann"), V1_JSON)
        assert is_new
        for n in range(300):
            await hub.publish(Event("tick", {"n": n}), to=everyone(), wait_for=Reach.OFFERED)
        first = connection.outbox.take(1)
        assert b'"gap":{"reason":"overflow","last":null}' in first[0].v1_frame()
        assert hub.statistics().gaps == 1
        link.end(CloseReason(1000))
        await link.close()


@pytest.mark.parametrize("count", [1, 5000])
async def test_a_wide_publish_lets_others_have_their_turn(autojump_clock, count):
    """Counted, not timed: between two of the hub's turns at most `yield_every` recipients are served."""
    hub = Hub(Router(), options=HubOptions(yield_every=100))
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    class Sink:
        topics = frozenset()
        user = "ann"
        attached = True
        has_ended = False
        writer = None  # it has to queue

        def __init__(self, id):
            self.id = id
            self.outbox = self

        def offer_all(self, bodies, size):
            return True

        def flush(self):
            pass

    for n in range(count):
        hub.roster._index.add(Sink(str(n)))
    async with trio.open_nursery() as tasks:
        await tasks.start(hub.run)
        tasks.start_soon(other)
        published = await hub.publish(Event("e"), to=everyone(), wait_for=Reach.OFFERED)
        tasks.cancel_scope.cancel()
    assert published.offered == count
    assert turns >= count // 100


async def test_who_missed_the_hello_of_the_gap_is_told_when_it_comes_back(autojump_clock):
    """The gap was told on a link that died before it was read: the old id still leads to the connection."""
    async with open_world(options=OPTIONS) as world, world.open_client(topics=["town"]) as slow:
        before = slow.position
        slow.weather.stall()
        for n in range(1000):
            await world.server.publish(Event("tick", {"n": n, "big": BIG}), to=everyone())
        (connection,) = world.server.hub.connections()
        assert connection.id != before.connection_id
        slow.weather.abandon()  # what was stalled never arrives
        slow.weather.mend()
        gap = await until_the_gap(slow)
        assert gap.reason == "overflow"
        assert gap.last >= before.next - 1
        assert world.server.hub.connections() == [connection]
        await world.server.publish(Event("last", {"n": -1}), to=topic("town"))  # its topics are still its own
        while (await slow.receive()).name != "last":
            pass
        assert connection.statistics().links == 2


async def test_a_full_hub_still_takes_back_those_who_have_a_place(autojump_clock):
    options = HubOptions(connections=1)
    async with open_world(options=options) as world, world.open_client() as client:
        with pytest.raises(Refused) as caught:
            async with world.open_link():
                pass
        assert caught.value.status == 503
        client.weather.cut_once()
        await world.server.publish(Event("tick", {"n": 1}), to=everyone())
        assert (await client.receive()).data == {"n": 1}


async def test_large_events_wait_for_no_timer(autojump_clock):
    """They fill the window long before their number matters: so they are acknowledged by their size."""
    async with open_world() as world, world.open_client(topics=["town"]) as client:
        begun = trio.current_time()
        for n in range(50):
            await world.server.publish(Event("page", {"n": n, "text": "x" * 100_000}), to=topic("town"))
            assert (await client.receive()).data["n"] == n
        assert trio.current_time() - begun < 1, "it takes no turn of the clock"
