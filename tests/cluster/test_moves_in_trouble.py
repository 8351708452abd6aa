"""Moves that something happens to: nothing is lost in silence, and nothing is left behind."""

from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing

from tests.cluster.several import Road, open_cluster, open_nodes
from trio_hub.app.router import Router
from trio_hub.errors import Gap
from trio_hub.hub.carrying import Carry
from trio_hub.messages import Event
from trio_hub.peer.client import Client
from trio_hub.peer.connection import Connection
from trio_hub.targets import topic, user
from trio_hub.testing.world import World


async def heard_by(client: Client, seconds: float = 10) -> list[str]:
    heard = []
    with trio.move_on_after(seconds):
        while True:
            try:
                heard.append((await anext(client)).name)
            except Gap:
                heard.append("GAP")
    return heard


def ann_at(node: World) -> Connection:
    (connection,) = node.server.hub.connections(user("ann"))
    return connection


@pytest.mark.parametrize("frozen", [False, True])
async def test_several_move_though_a_third_node_does_not_answer(frozen, autojump_clock):
    async with open_cluster() as cluster, AsyncExitStack() as stack:
        a, b, _ = [await cluster.start(name) for name in "abc"]
        roads = [Road(a) for _ in range(5)]
        people = [
            await stack.enter_async_context(a.open_client(token="ann", topics=["town"], weather=road)) for road in roads
        ]
        for road in roads:
            road.cut()
        await a.server.publish(Event("news"), to=topic("town"))
        if frozen:
            cluster.backplane.cut("c")
        for road in roads:
            road.to = b
            road.mend()
        assert [(await anext(ann)).name for ann in people] == ["news"] * 5


async def test_what_was_subscribed_while_leaving_goes_along_and_a_gap_is_told(autojump_clock):
    found = trio.Event()

    def router() -> Router:
        router = Router()

        @router.action("enter", ordered=True)
        async def enter(connection: Connection, data: dict[str, int]) -> None:
            await found.wait()

        return router

    async with open_nodes("a", "b", router=router) as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", weather=road) as ann, trio.open_nursery() as nursery:
            nursery.start_soon(ann.request, "enter", {})
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ann.request, "subscribe", {"topic": "sea"})  # waits in the lane
            await trio.testing.wait_all_tasks_blocked()
            road.cut()
            road.to = b
            road.mend()
            while not b.server.hub.connections():  # noqa: ASYNC110 - it is expected there
                await trio.sleep(0.01)
            found.set()
            await trio.sleep(3)
            assert ann_at(b).topics == {"sea"}
            await a.server.publish(Event("wave"), to=topic("sea"))
            assert await heard_by(ann) == ["GAP", "wave"]


@pytest.mark.parametrize("way", ["ab", "abc"])
async def test_who_has_moved_on_is_found_past_a_node_that_died(way, autojump_clock):
    """She was at each of these nodes, and comes to another one after the last but one has died."""
    async with open_cluster() as cluster:
        nodes = {name: await cluster.start(name) for name in "abcd"}
        road = Road(nodes[way[0]])
        async with nodes[way[0]].open_client(token="ann", topics=["town"], weather=road) as ann:
            for name in way[1:]:
                road.cut()
                road.to = nodes[name]
                road.mend()
                await ann.connected()
                await trio.sleep(2)
            last = nodes[way[-1]]
            assert ann_at(last)
            road.cut()
            await last.server.publish(Event("news"), to=topic("town"))
            cluster.kill(nodes[way[-2]])
            road.to = nodes["d"]
            road.mend()
            assert await heard_by(ann) == ["news"]


@pytest.mark.parametrize("answer", ["topics", "luggage"])
async def test_an_answer_that_nobody_can_read_leaves_nothing_behind(answer, autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road):
            moving = a.server.relay._moving
            honest = moving.answer

            async def strange(node: str, what: str, details: list[object]) -> object:
                found = await honest(node, what, details)
                if (what == "find") is (answer == "topics"):
                    road.cut()  # she does not come again
                if what == "find" and answer == "topics":
                    return ["here", [7]]
                if what == "give" and answer == "luggage":
                    found[5] = [[1, 7]]
                return found

            moving.answer = strange
            road.cut()
            road.to = b
            road.mend()
            await trio.sleep(300)
            assert b.server.hub.connections() == []


async def test_luggage_counts_in_the_budget(autojump_clock):
    async with open_nodes("a", "b") as (_, (a, b)):
        road = Road(a)
        async with a.open_client(token="ann", topics=["town"], weather=road) as ann:
            await ann.connected()
            road.cut()
            await trio.sleep(0.1)
            for _ in range(10):
                await a.server.publish(Event("news", {"n": "x" * 10_000}), to=topic("town"), carry=Carry.HERE)
            await a.server.hub.wait_offered()
            road.to = b
            road.mend()
            await trio.sleep(5)
            assert b.server.hub.statistics().held_size > 90_000
