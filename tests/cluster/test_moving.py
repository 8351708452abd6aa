"""Whoever comes back to another node goes on there, with everything; or is told at once that something is lost."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from tests.cluster.several import Road, open_cluster, open_nodes
from trio_hub.app.router import Router
from trio_hub.cluster.backplane import Arrival, Interrupted, Membership, Outbound
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.errors import Gap, RequestFailed
from trio_hub.hub.carrying import Carry
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Event
from trio_hub.peer.connection import Connection
from trio_hub.peer.luggage import Luggage
from trio_hub.targets import topic, user
from trio_hub.testing.world import World
from trio_hub.wire.bodies import Body


async def test_who_comes_back_elsewhere_misses_nothing(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road) as ann:
            id = ann.position.connection_id
            await a.server.publish(Event("one"), to=topic("town"))
            assert (await anext(ann)).name == "one"
            road.cut()
            await a.server.publish(Event("two"), to=topic("town"))
            await b.server.publish(Event("three"), to=user("ann"))
            road.to = b
            road.mend()
            await ann.connected()
            await a.server.publish(Event("four"), to=topic("town"))
            await b.server.publish(Event("five"), to=topic("town"))
            heard = [await anext(ann) for _ in range(4)]
            assert {event.name for event in heard} == {"two", "three", "four", "five"}
            assert [event.number for event in heard] == [2, 3, 4, 5]
            assert ann.position.connection_id == id
        assert not a.server.hub.connections()
        assert b.server.hub.statistics().gaps == 0


async def test_who_comes_to_a_node_while_its_own_is_gone_is_told_at_once(autojump_clock):
    async with open_cluster() as cluster:
        a, b = await cluster.start("a"), await cluster.start("b")
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road) as ann:
            road.to = b
            cluster.kill(a)
            begun = trio.current_time()
            with pytest.raises(Gap, match="restarted"):
                await anext(ann)
            assert trio.current_time() - begun < 3
            await b.server.publish(Event("after"), to=topic("town"))  # she is subscribed again by now
            assert (await anext(ann)).name == "after"


async def test_a_link_that_looks_alive_is_taken_over_from_another_node(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", weather=road) as ann:
            await a.server.publish(Event("one"), to=user("ann"))
            assert (await anext(ann)).name == "one"
            road.abandon(noticed=False)
            road.to = b
            await a.server.publish(Event("two"), to=user("ann"))  # into the link that looks alive
            await trio.sleep(120)
            await ann.connected()
            assert (await anext(ann)).name == "two"
            assert not a.server.hub.connections()


async def test_a_request_is_carried_out_once_wherever_its_reply_is_heard(autojump_clock):
    carried_out = []

    async def pay(connection: Connection, data: dict[str, float]) -> float:
        carried_out.append(data["amount"])
        await trio.sleep(data["takes"])
        return data["amount"]

    def router() -> Router:
        router = Router()
        router.action("pay")(pay)
        return router

    async with open_nodes("a", "b", router=router) as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", weather=road) as ann, trio.open_nursery() as nursery:
            replies = []

            async def ask(amount: int, takes: float) -> None:
                try:
                    replies.append(await ann.request("pay", {"amount": amount, "takes": takes}))
                except RequestFailed as failure:
                    replies.append(failure.id)

            nursery.start_soon(ask, 1, 0.1)
            nursery.start_soon(ask, 2, 60)
            await trio.testing.wait_all_tasks_blocked()
            road.cut()
            road.to = b
            await trio.sleep(1)
            road.mend()
        assert sorted(map(str, replies)) == ["1.0", "moved"]
        assert sorted(carried_out) == [1, 2]


async def test_who_comes_back_to_a_node_that_was_about_to_give_them_away_stays_there(autojump_clock):
    router = Router()

    @router.action("wait")
    async def wait(connection: Connection, data: float) -> None:
        await trio.sleep(data)

    async with open_nodes("a", router=lambda: router) as (_, (a,)):
        road = Road(a)
        async with a.open_client(token="ann", weather=road) as ann, trio.open_nursery() as nursery:
            await ann.connected()
            (connection,) = a.server.hub.connections()
            nursery.start_soon(ann.request, "wait", 8)  # which would be cancelled after five
            await trio.testing.wait_all_tasks_blocked()
            road.cut()
            nursery.start_soon(connection.leave, 5)
            road.mend()


async def test_somebody_elses_connection_stays_where_it_is(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)), a.open_client(token="ann") as ann:
        with pytest.raises(Gap, match="restarted"):
            async with b.open_client(token="bob", resume=ann.position) as bob:
                await anext(bob)
        await a.server.publish(Event("mine"), to=user("ann"))
        assert (await anext(ann)).name == "mine"


async def test_there_and_back_again(autojump_clock):
    async with open_nodes("a", "b", "c") as (_, (a, b, c)):
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road) as ann:
            for number, (node, speaker) in enumerate(zip([b, c, a, b, a, c], [a, b, c, c, b, a], strict=True)):
                road.cut()
                await speaker.server.publish(Event("news", {"n": number}), to=topic("town"))
                road.to = node
                road.mend()
                assert (await anext(ann)).data == {"n": number}
                assert len(node.server.hub.connections()) == 1
            assert sum(len(each.server.hub.connections()) for each in (a, b, c)) == 1


async def test_what_is_said_at_any_moment_of_a_move_is_heard_once(autojump_clock):
    async with open_nodes("a", "b", "c", backplane=InBatches()) as (_, nodes):
        road = Road(nodes[0])
        heard: list[int] = []
        said = 0

        async with nodes[0].open_client(token="ann", topics=["town"], weather=road) as ann, open_tasks() as tasks:

            async def listen() -> None:
                while True:
                    heard.append((await anext(ann)).data["n"])

            tasks.start_soon(listen)
            for turn in range(12):
                road.cut()
                road.to = nodes[(turn + 1) % 3]
                road.mend()
                while not ann_is_at(road.to):
                    for node in nodes:
                        await node.server.publish(Event("news", {"n": said}), to=topic("town"))
                        said += 1
                    await trio.sleep(0.002)
            await trio.sleep(1)
            tasks.cancel_scope.cancel()
        assert sorted(heard) == list(range(said))


class InBatches(MemoryBackplane):
    """Has all that comes within some milliseconds received at once, as a busy node does."""

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        async with super().join(node) as membership:
            receive = membership.receive

            async def receive_late() -> list[Arrival | Interrupted]:
                await trio.sleep(0.01)
                return await receive()

            membership.receive = receive_late  # type: ignore[method-assign]
            yield membership


def ann_is_at(node: World) -> bool:
    return any(connection.attached for connection in node.server.hub.connections(user("ann")))


async def test_a_node_that_leaves_hands_everybody_over(autojump_clock):
    async with open_cluster() as cluster, AsyncExitStack() as stack:
        a, b = await cluster.start("a"), await cluster.start("b")
        roads = [Road(a) for _ in range(20)]
        people = [
            await stack.enter_async_context(a.open_client(token="ann", topics=["town"], weather=road)) for road in roads
        ]
        for road in roads:
            road.to = b
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(a.server.drain, deadline=5, spread=1))
            for number in range(100):
                await (a if number % 2 else b).server.publish(Event("news", {"n": number}), to=topic("town"))
                await trio.sleep(0.02)
            for ann in people:
                assert sorted([(await anext(ann)).data["n"] for _ in range(100)]) == list(range(100))
        assert not a.server.hub.connections()
        assert len(b.server.hub.connections()) == 20
        assert trio.current_time() < 10


async def test_who_does_not_come_back_in_time_is_told_of_a_gap(autojump_clock):
    async with open_cluster() as cluster:
        a, b = await cluster.start("a"), await cluster.start("b")
        road = Road(a)
        async with a.open_client(token="ann", weather=road) as ann:
            road.cut()
            await a.server.drain(deadline=2)
            cluster.kill(a)
            road.to = b
            road.mend()
            with pytest.raises(Gap, match="restarted"):
                await anext(ann)


def test_what_was_acknowledged_where_it_came_from_is_known():
    """It is in the luggage no more, and may be heard late where the connection goes on."""

    def body(*mark: Any) -> Body:
        made = Body(Event("news"))
        made.mark = mark or None
        return made

    luggage = Luggage(5, [body("a", 7)], [body("b", 9), body("a", -3), body()], [], heard={"a": 5, "b": 8})
    assert all(luggage.knows(body("a", number)) for number in (1, 5, 7, -3))
    assert luggage.knows(body("b", 9))
    assert not any(luggage.knows(body("a", number)) for number in (6, 8, -2))
    assert not luggage.knows(body("c", 1))
    assert not luggage.knows(body())


async def test_a_node_that_has_just_begun_fetches_as_well(autojump_clock):
    """When all are replaced, clients come to it before it has heard itself."""
    async with open_cluster() as cluster:
        a = await cluster.start("a")
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road) as ann:
            road.cut()
            b = await cluster.start("b", settled=False)
            await a.server.publish(Event("news"), to=topic("town"))
            road.to = b
            road.mend()
            assert (await anext(ann)).name == "news"


async def test_what_is_carried_reliably_is_heard_once_though_it_comes_after_who_had_it(autojump_clock):
    backplane = SlowInStreams()
    async with open_nodes("a", "b", "c", backplane=backplane) as (_, nodes):
        road = Road(nodes[0])
        async with nodes[0].open_client(token="ann", topics=["town"], weather=road) as ann:
            await ann.connected()
            async with trio.open_nursery() as nursery:
                say = partial(nodes[0].server.publish, to=topic("town"), carry=Carry.RELIABLY)
                nursery.start_soon(say, Event("late"))  # heard here at once, and elsewhere in three seconds
                assert (await ann.receive()).name == "late"
                for node in nodes[1:]:
                    road.cut()
                    road.to = node
                    road.mend()
                    await node.server.publish(Event("moved"), to=topic("town"))
                    assert (await ann.receive()).name == "moved"
            await trio.sleep(10)
            await nodes[2].server.publish(Event("last"), to=topic("town"))
            assert (await ann.receive()).name == "last"


class SlowInStreams(MemoryBackplane):
    """Takes three seconds for what is reliable."""

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        async with super().join(node) as membership:
            send = membership.send

            async def send_slowly(messages: Sequence[Outbound]) -> None:
                if any(each.reliable for each in messages):
                    await trio.sleep(3)
                await send(messages)

            membership.send = send_slowly  # type: ignore[method-assign]
            yield membership
