"""What makes it quick is counted, not timed: a lost optimisation fails a test, on the slowest machine as well.

System calls are counted on real sockets: only those can be written to without waiting.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub import Event, PresenceOptions, Reach, Router, Server, Session, open_link, topic
from trio_hub.testing import open_world

SPELLINGS = [None, "trio-hub.v1.json", "trio-hub.v1.cbor"]


@attrs.frozen
class Add:
    a: int
    b: int


def make_server() -> Server:
    router = Router()

    @router.action("add")
    def add(connection, data: Add):
        return data.a + data.b

    return Server(router)


@asynccontextmanager
async def crowd(count, subprotocol):
    """Yield a hub with so many listeners, their links, and every write to them from now on, by connection."""
    server = make_server()
    subprotocols = [] if subprotocol is None else [subprotocol]
    async with trio.open_nursery() as tasks, AsyncExitStack() as stack:
        listeners = await tasks.start(server.serve)
        url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/ws?topics=town"
        links = [await stack.enter_async_context(open_link(url, subprotocols=subprotocols)) for _ in range(count)]
        for link in links:
            await link.receive()  # the hello
        yield server.hub, links, [writes_of(connection.writer) for connection in server.hub.connections()]
        await stack.aclose()
        tasks.cancel_scope.cancel()


def writes_of(writer):
    """Return the pieces that are handed to the system from now on, one for each call."""
    pieces, write_now = [], writer._write_now

    def write(data):
        pieces.append(data)
        return write_now(data)

    writer._write_now = write
    return pieces


@pytest.mark.parametrize("subprotocol", SPELLINGS)
async def test_a_burst_costs_each_recipient_one_system_call(subprotocol):
    async with crowd(5, subprotocol) as (hub, _, writes):
        for n in range(15):
            hub.publish_nowait(Event("tick", {"n": n}), to=topic("town"))
        await hub.publish(Event("tick", {"n": 15}), to=topic("town"), wait_for=Reach.WRITTEN)
        assert [len(pieces) for pieces in writes] == [1] * 5


@pytest.mark.parametrize("subprotocol", SPELLINGS)
async def test_neighbours_who_heard_equally_much_share_every_byte(subprotocol):
    async with crowd(5, subprotocol) as (hub, _, writes):
        for count in (1, 16):
            for n in range(count - 1):
                hub.publish_nowait(Event("tick", {"n": n}), to=topic("town"))
            await hub.publish(Event("tick", {"n": -1}), to=topic("town"), wait_for=Reach.OFFERED)
            first, *others = [pieces.pop() for pieces in writes]
            assert all(other is first for other in others)


async def test_what_is_kept_for_many_is_one_run():
    async with crowd(3, "trio-hub.v1.json") as (hub, _, _):
        await hub.publish(Event("tick"), to=topic("town"), wait_for=Reach.OFFERED)
        latest = [connection.outbox._kept._runs[-1] for connection in hub.connections()]
        assert latest[0] is latest[1] is latest[2]


@pytest.mark.parametrize("subprotocol", SPELLINGS[:2])
async def test_all_replies_of_one_read_leave_in_one_system_call(subprotocol):
    async with crowd(1, subprotocol) as (_, (link,), (pieces,)):
        requests = [json.dumps({"seq": n, "action": "add", "data": {"a": n, "b": 2}}) for n in range(1, 33)]
        await link.send_all(requests)
        heard = []
        while len(heard) < 32:
            heard += await link.receive()
        assert len(pieces) == 1


async def test_an_idle_connection_is_one_task_and_no_channel():
    async with crowd(1, "trio-hub.v1.json") as (hub, _, _):
        (connection,) = hub.connections()
        await wait_all_tasks_blocked()
        assert len(connection._tasks.child_tasks) == 0, "the task that lives it is all there is"
        assert connection.writer._rest is None


async def by_name(credentials) -> Session | None:
    return None if credentials.token is None else Session(credentials.token)


@pytest.mark.parametrize("watchers", [0, 1, 30])
async def test_all_that_changes_between_two_looks_is_one_event_however_many_watch(watchers, autojump_clock):
    server = Server(authenticate=by_name, presence=PresenceOptions(grace=10, every=0.5))
    async with open_world(server) as world, AsyncExitStack() as stack:

        async def published_within(seconds):
            before = server.hub.statistics().published
            await trio.sleep(seconds)
            await wait_all_tasks_blocked()
            return server.hub.statistics().published - before

        for n in range(watchers):
            watcher = await stack.enter_async_context(world.open_client(token=f"watcher{n}"))
            await watcher.request("watch", {"topic": "town"})
        await trio.sleep(5)
        looks = int(watchers > 0)
        async with AsyncExitStack() as crowd:
            for n in range(50):
                client = world.open_client(token=f"user{n}", topics=["town"])
                await crowd.enter_async_context(client)
            assert await published_within(1) == looks, "they have come"
            assert await published_within(60) == 0
        assert await published_within(60) == looks, "they have gone"
