"""A reply may be a stream: its items arrive once and in order, however the links are lost; and nobody makes what is
not taken.
"""

import json
import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.effort import examples
from trio_hub import (
    ClientOptions,
    Closed,
    Event,
    Gap,
    HubError,
    HubOptions,
    OutboxOptions,
    OutcomeUnknown,
    RequestFailed,
    Router,
    Server,
    everyone,
)
from trio_hub.testing import Direction, open_hub_and_client, open_world

V1 = "trio-hub.v1.json"


class Counting:
    """Actions that stream, and what became of their generators."""

    def __init__(self, options=None):
        self.router = Router()
        self.server = Server(self.router, options=options)
        self.begun = []
        self.made = []
        self.closed = []
        self.router.action("count")(self.count)
        self.router.action("count_slowly")(self.count_slowly)
        self.router.action("later")(self.later)
        self.router.action("in_order", ordered=True)(self.count_slowly)
        self.router.action("plain")(lambda connection, data: "plain")

    async def count(self, connection, data: int):
        self.begun.append(data)
        try:
            for n in range(data):
                self.made.append(n)
                yield n
        finally:
            self.closed.append(data)

    async def count_slowly(self, connection, data: int):
        self.begun.append(data)
        try:
            for n in range(data):
                await trio.sleep(1)
                self.made.append(n)
                yield n
        finally:
            self.closed.append(data)

    async def later(self, connection, data: int):
        await trio.sleep(1)
        return self.count(connection, data)


async def all_of(client, action, data=None, **details):
    async with client.stream(action, data, **details) as items:
        return [item async for item in items]


async def to_the_end(items):
    """Take all that comes, and return it with the error that comes behind it."""
    taken = []
    try:
        while True:
            taken.append(await anext(items))
    except (HubError, StopAsyncIteration) as error:
        return taken, error


# -- whole, once, in order


@pytest.mark.parametrize("cbor", [False, True])
@pytest.mark.parametrize("action", ["count", "count_slowly", "later", "in_order"])
async def test_a_reply_is_streamed_whole_and_in_order(autojump_clock, action, cbor):
    counting = Counting()
    async with open_world(counting.server) as world, world.open_client(options=ClientOptions(cbor=cbor)) as client:
        assert await all_of(client, action, 200) == list(range(200))
        assert await all_of(client, action, 0) == []
        assert (counting.begun, counting.closed) == ([200, 0], [200, 0])


@pytest.mark.parametrize("seed", range(5))
async def test_it_survives_any_weather(autojump_clock, seed):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (_, client), trio.open_nursery() as tasks:
        tasks.start_soon(client.weather.storm, random.Random(seed))
        for action in ("count_slowly", "count", "later") * 3:
            assert await all_of(client, action, 60) == list(range(60))
        assert client.weather.dials > 3
        tasks.cancel_scope.cancel()
    assert counting.begun == counting.closed == [60] * 9


@settings(max_examples=examples(40), deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    spoils=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 400), st.sampled_from(Direction)), max_size=12),
    window=st.integers(1, 20),
    pause=st.sampled_from([0.0, 0.3]),
)
def test_however_its_links_are_cut_every_item_comes_once_and_in_order(lengths, spoils, window, pause):
    counting = Counting()
    taken = [[] for _ in lengths]

    async def take(client, mine, length, action):
        async with client.stream(action, length) as items:
            async for item in items:
                mine.append(item)
                await trio.sleep(pause)

    async def story():
        async with (
            open_world(counting.server) as world,
            world.open_client(options=ClientOptions(items=window)) as client,
            trio.open_nursery() as tasks,
        ):
            for mine, length in zip(taken, lengths, strict=True):
                tasks.start_soon(take, client, mine, length, random.Random(length).choice(["count", "count_slowly"]))
            for seconds, size, direction in spoils:
                await trio.sleep(seconds)
                client.weather.cut_after(size, direction)

    trio.run(story, clock=MockClock(autojump_threshold=0))
    assert taken == [list(range(length)) for length in lengths]
    assert sorted(counting.begun) == sorted(counting.closed) == sorted(lengths)


async def test_many_at_once_and_events_and_replies_between_them(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client):
        streams = {}

        async def take(n):
            streams[n] = await all_of(client, "count_slowly" if n % 2 else "count", n)

        async with trio.open_nursery() as tasks:
            for n in range(100):
                tasks.start_soon(take, n)
            for n in range(100):
                await server.publish(Event("tick", {"n": n}), to=everyone())
                assert await client.request("plain") == "plain"
            assert [(await client.receive()).data["n"] for _ in range(100)] == list(range(100))
        assert streams == {n: list(range(n)) for n in range(100)}


async def test_ordered_streams_are_made_one_after_the_other(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (_, client), trio.open_nursery() as tasks:
        for n in (3, 2, 1):
            tasks.start_soon(all_of, client, "in_order", n)
            await wait_all_tasks_blocked()
        await trio.sleep(2.5)
        assert counting.begun == [3]
        await trio.sleep(10)
        assert counting.begun == counting.closed == [3, 2, 1]


# -- nobody makes what is not taken


async def test_who_takes_nothing_has_the_handler_wait_and_nobody_else(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client):
        async with client.stream("count", 100_000) as slow:
            await trio.sleep(100)
            assert len(counting.made) == 64
            assert await all_of(client, "count", 5000) == list(range(5000))  # past the one that is not read
            await server.publish(Event("tick", {"n": 1}), to=everyone())
            assert (await client.receive()).data == {"n": 1}
            del counting.made[:]
            for n in range(1000):
                assert await anext(slow) == n
            await trio.sleep(10)
            assert 1000 - 64 < len(counting.made) <= 1000 + 64
        held = server.hub.statistics()
        assert held.owed_count + held.kept_count <= 300


async def test_while_the_client_is_away_no_more_is_made_than_it_takes(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (_, client), client.stream("count", 1000) as items:
        assert await anext(items) == 0
        client.weather.cut()
        await trio.sleep(30)
        assert len(counting.made) == 64
        client.weather.mend()
        assert [item async for item in items] == list(range(1, 1000))


async def test_large_items_wait_for_half_of_what_may_be_owed(autojump_clock):
    outbox = OutboxOptions(size=1_000_000, kept_size=100_000)
    router = Router()

    @router.action("large")
    async def large(connection, data: int):
        for _ in range(data):
            yield "x" * 50_000

    server = Server(router, options=HubOptions(outbox=outbox))
    async with open_hub_and_client(server) as (_, client):
        client.weather.stall(Direction.DOWN)

        async def take():
            assert await all_of(client, "large", 50) == ["x" * 50_000] * 50

        async with trio.open_nursery() as tasks:
            for _ in range(5):
                tasks.start_soon(take)
            await trio.sleep(10)
            held = server.hub.statistics()
            assert 450_000 < held.owed_size + held.kept_size < 600_000
            client.weather.mend()
        assert server.hub.statistics().gaps == 0


async def test_a_long_stream_may_be_taken_while_an_event_is_handled(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client):
        for n in range(3):
            await server.publish(Event("tick", {"n": n}), to=everyone())
        assert (await client.receive()).data == {"n": 0}
        position = client.position
        assert await all_of(client, "count", 10_000) == list(range(10_000))
        assert client.position == position
        assert [(await client.receive()).data["n"] for _ in range(2)] == [1, 2]
        assert server.hub.statistics().gaps == 0


async def test_also_in_a_storm(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client), trio.open_nursery() as tasks:
        await server.publish(Event("tick"), to=everyone())
        await client.receive()
        tasks.start_soon(client.weather.storm, random.Random(3))
        taken = []
        async with client.stream("count", 4000) as items:
            async for item in items:
                taken.append(item)
                await trio.sleep(0.02)
        assert taken == list(range(4000))
        assert server.hub.statistics().gaps == 0
        assert client.weather.dials > 10
        tasks.cancel_scope.cancel()


async def test_what_came_behind_an_event_as_a_short_stream_leaves_it_unacknowledged(autojump_clock):
    counting = Counting()
    async with open_world(counting.server) as world:
        async with world.open_client() as client:
            await world.server.publish(Event("tick", {"n": 1}), to=everyone())
            await client.receive()
            assert await all_of(client, "count", 100) == list(range(100))
            await trio.sleep(5)
            position = client.position
            client.weather.cut()
        async with world.open_client(resume=position) as client:
            assert (await client.receive()).data == {"n": 1}


async def test_two_streams_may_be_taken_at_paces_of_their_own(autojump_clock):
    counting = Counting()
    async with (
        open_hub_and_client(counting.server) as (_, client),
        client.stream("count", 3000) as quick,
        client.stream("count", 1000) as slow,
    ):
        async for n in slow:
            assert [await anext(quick) for _ in range(3)] == [3 * n, 3 * n + 1, 3 * n + 2]


# -- how it ends


async def test_leaving_early_stops_the_handler(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client):
        async with client.stream("count_slowly", 100) as items:
            async for item in items:
                if item == 3:
                    break
        await trio.sleep(10)
        assert (counting.made, counting.closed) == ([0, 1, 2, 3], [100])
        with pytest.raises(Closed):
            await anext(items)
        with trio.move_on_after(2.5):
            await all_of(client, "count_slowly", 50)
        await trio.sleep(10)
        assert counting.closed == [100, 50]
        (connection,) = server.hub.connections()
        assert connection.statistics().running_requests == 0


async def test_leaving_without_a_link_stops_the_handler_when_there_is_one(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (_, client):
        async with client.stream("count", 1000) as items:
            await anext(items)
            await trio.sleep(5)  # everything that is allowed has come, and is acknowledged
            client.weather.stall()
        await trio.sleep(1)  # the cancel is said, and stays in the cable
        client.weather.cut_once()
        assert counting.closed == []
        client.weather.mend()
        await trio.sleep(30)
        assert counting.closed == [1000]


async def test_the_handler_s_failure_comes_behind_its_items(autojump_clock, caplog):
    router = Router()

    @router.action("fail")
    async def fail(connection, data: str):
        yield 1
        if data == "refuse":
            raise RequestFailed(409, "conflict", "not now")
        yield object() if data == "odd" else 2
        raise ValueError("a secret")

    async with open_hub_and_client(Server(router)) as (_, client):
        for data, expected, came in (("refuse", "conflict", [1]), ("odd", "internal", [1]), ("", "internal", [1, 2])):
            async with client.stream("fail", data) as items:
                taken, error = await to_the_end(items)
                assert (error.id, taken) == (expected, came)
                nothing, same = await to_the_end(items)
                assert (nothing, str(same)) == ([], str(error))
            assert "secret" not in error.message
        assert "a secret" in caplog.text


async def test_what_is_refused_is_refused_when_it_is_iterated(autojump_clock):
    counting = Counting(HubOptions(running_requests=1))
    async with open_hub_and_client(counting.server) as (_, client):
        for action, data, id in (
            ("none", 1, "unknown_action"),
            ("count", "x", "bad_request"),
            ("plain", 1, "not_streamed"),
        ):
            with pytest.raises(RequestFailed) as caught:
                await all_of(client, action, data)
            assert caught.value.id == id
        async with client.stream("count_slowly", 3) as items:
            await wait_all_tasks_blocked()
            with pytest.raises(RequestFailed, match="busy"):
                await all_of(client, "count", 1)
            assert [item async for item in items] == [0, 1, 2]


async def test_who_did_not_ask_for_items_is_told_that_there_would_be_some(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (_, client):
        for action in ("count", "later"):
            with pytest.raises(RequestFailed) as caught:
                await client.request(action, 5)
            assert (caught.value.status, caught.value.id) == (406, "streamed")
    assert counting.made == []


async def test_in_compat_there_are_no_streams(autojump_clock):
    counting = Counting()
    async with open_world(counting.server) as world, world.open_link() as link:
        await link.receive()
        for seq, action in ((1, "count"), (2, "later")):
            await link.send(json.dumps({"seq": seq, "action": action, "data": 3, "items": 10}))
            reply = json.loads(await anext(link))
            assert (reply["status"], reply["seq_reply"]) == ("FAIL", seq)
            assert "trio-hub.v1" in reply["error"]["message"]
    assert counting.made == []


async def test_a_deadline_ends_the_stream(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (_, client):
        async with client.stream("count_slowly", 100, deadline=3.5) as items:
            taken, error = await to_the_end(items)
        assert (taken, error.id, counting.closed) == ([0, 1, 2], "deadline", [100])
        async with client.stream("count", 1000, deadline=3) as items:  # nobody takes it in time
            await trio.sleep(5)
            taken, error = await to_the_end(items)
        assert (taken, error.id) == (list(range(64)), "deadline")
        assert counting.closed == [100, 1000]


async def test_an_expired_connection_s_handlers_are_stopped(autojump_clock):
    counting = Counting(HubOptions(window=20))
    async with open_hub_and_client(counting.server) as (server, client):
        async with client.stream("count", 1000) as paused, client.stream("count_slowly", 1000) as busy:
            assert await anext(paused) == 0
            assert await anext(busy) == 0
            client.weather.cut()
            await trio.sleep(25)
            assert sorted(counting.closed) == [1000, 1000]
            client.weather.mend()
            for items in (paused, busy):
                _, error = await to_the_end(items)
                assert type(error) is OutcomeUnknown
        with pytest.raises(Gap):
            await client.receive()
        assert await all_of(client, "count", 3) == [0, 1, 2]
        client.settle()
        await trio.sleep(30)
        statistics = server.hub.statistics()
        assert (statistics.owed_size, statistics.kept_size) == (0, 0)


async def test_a_gap_ends_the_streams_that_were_under_way(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client):
        async with client.stream("count_slowly", 1000) as items, client.stream("count", 1000) as other:
            assert await anext(items) == 0
            (connection,) = server.hub.connections()
            server.hub.roster.overflow(connection)
            connection.flush()
            for stream in (items, other):
                _, gap = await to_the_end(stream)
                assert (type(gap), gap.reason) == (Gap, "overflow")
            await wait_all_tasks_blocked()
            assert counting.closed == [1000, 1000]
        with pytest.raises(Gap):
            await client.receive()
        assert await all_of(client, "count", 100) == list(range(100))


@pytest.mark.parametrize("seed", range(4))
async def test_in_a_storm_that_outlasts_the_window_a_reader_has_a_beginning_and_is_told(autojump_clock, seed):
    """And nothing is left running, whatever became of the words that called it off."""
    counting = Counting(HubOptions(window=4, outbox=OutboxOptions(kept_count=40, count=80)))
    rng = random.Random(seed)
    ends = []

    async def take(client):
        while True:
            length, most = rng.randint(0, 60), rng.randint(0, 60)
            taken = []
            try:
                async with client.stream(rng.choice(["count", "count_slowly", "in_order"]), length) as items:
                    while len(taken) <= most:
                        taken.append(await anext(items))
            except StopAsyncIteration:
                assert len(taken) == length
            except HubError as error:
                ends.append(type(error))
            assert taken == list(range(len(taken)))

    async with open_hub_and_client(counting.server) as (server, client):
        with trio.move_on_after(400):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(client.weather.storm, rng)
                for _ in range(10):
                    tasks.start_soon(take, client)
        assert set(ends) <= {Gap, OutcomeUnknown}
        assert ends
        assert client.weather.dials > 20
        await trio.sleep(100)
        assert await client.request("plain") == "plain"
        assert sorted(counting.begun) == sorted(counting.closed)
        assert [each.statistics().running_requests for each in server.hub.connections()] == [0]
        assert not client._conversation.questions._left


async def test_a_request_that_a_gap_overtakes_is_carried_out_behind_it(autojump_clock):
    counting = Counting()
    async with open_hub_and_client(counting.server) as (server, client):
        client.weather.stall(Direction.UP)
        async with client.stream("count", 10) as items:
            (connection,) = server.hub.connections()
            server.hub.roster.overflow(connection)
            connection.flush()
            await trio.sleep(1)
            client.weather.mend()
            assert [item async for item in items] == list(range(10))


async def test_when_the_client_ends_so_do_its_streams(autojump_clock):
    counting = Counting(HubOptions(window=5))
    async with open_world(counting.server) as world:
        async with world.open_client() as client, client.stream("count_slowly", 1000) as items:
            assert await anext(items) == 0
        await trio.sleep(0.1)
        assert counting.closed == [1000]
        with pytest.raises(Closed):
            await anext(items)


async def test_the_items_of_an_earlier_process_are_called_off(autojump_clock):
    counting = Counting()
    async with open_world(counting.server) as world:
        async with world.open_client() as client:
            stream = client.stream("count_slowly", 1000)
            items = await stream.__aenter__()
            assert await anext(items) == 0
            position = client.position
            client.weather.cut()
            client._conversation.link = None  # it dies, and says nothing any more
        async with world.open_client(resume=position) as client:
            await trio.sleep(5)
            assert counting.closed == [1000]
        with pytest.raises(Closed):
            await stream.__aexit__(None, None, None) or await anext(items)


# -- message by message


async def ask(link, **members):
    await link.send(json.dumps(members))


async def test_on_the_wire(autojump_clock):
    counting = Counting()
    async with open_world(counting.server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        for _ in range(2):  # repeated while it runs: not begun again
            await ask(link, seq=1, action="count", data=3, items=2)
        assert json.loads(await anext(link)) == {"event": "item", "data": 0, "reply_to": 1}
        assert json.loads(await anext(link)) == {"event": "item", "data": 1, "reply_to": 1}
        await trio.sleep(10)
        assert counting.made == [0, 1]
        await ask(link, more=1, items=2)
        await ask(link, more=1, items=100)
        assert json.loads(await anext(link)) == {"event": "item", "data": 2, "reply_to": 1}
        assert json.loads(await anext(link)) == {"event": "end", "data": None, "reply_to": 1}
        await ask(link, seq=1, action="count", data=3, items=2)  # ended: not repeated
        await ask(link, seq=2, action="count_slowly", data=3, items=10)
        await ask(link, cancel=2)
        end = json.loads(await anext(link))
        assert (end["event"], end["reply_to"]) == ("end", 2)
        assert (end["data"]["id"], end["data"]["status_code"]) == ("cancelled", 499)
        await ask(link, ack=5)
        await ask(link, ack_replies=2)
        await ask(link, seq=2, action="count", data=3, items=2)
        assert json.loads(await anext(link))["error"]["id"] == "reply_gone"
        assert counting.begun == [3]
        for items in (0, -1, "3", 1.5, True):
            counting.begun.append(seq := 3 + len(counting.begun))
            await ask(link, seq=seq, action="count", data=3, items=items)
            assert "$.items" in json.loads(await anext(link))["error"]["message"]
