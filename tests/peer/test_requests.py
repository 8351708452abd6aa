"""Requests of one connection, beyond what the stories tell: lanes, cancels, failures, bounds."""

import json

import pytest
import trio

from trio_hub import HubOptions, RequestFailed, Router, Server
from trio_hub.peer.replies import Replies
from trio_hub.peer.requests import Aside
from trio_hub.testing import open_hub_and_client, open_world

V1 = "trio-hub.v1.json"


def make_server(options=None):
    router, calls = Router(), []

    @router.action("lane", ordered=True)
    async def lane(connection, data: float):
        calls.append(data)
        await trio.sleep(data)

    @router.action("quick_lane", ordered=True)
    def quick_lane(connection, data: float):
        calls.append(data)

    @router.action("aside", ordered=True)
    def aside(connection, data: float):
        async def wait() -> None:
            await trio.sleep(data)

        calls.append(data)
        return Aside(wait())

    @router.action("odd")
    def odd(connection, data: dict):
        return object()

    @router.action("refusing")
    async def refusing(connection, data: dict):
        raise RequestFailed(409, "conflict", "not now")

    @router.action("big")
    def big(connection, data: int):
        calls.append(data)
        return "x" * data

    return Server(router, options=options), calls


async def test_a_quick_one_in_the_lane_waits_for_a_slow_one(autojump_clock):
    server, calls = make_server()
    async with open_hub_and_client(server) as (_, client):
        questions = [await client.ask("lane", 2), await client.ask("quick_lane", 0), await client.ask("lane", 1)]
        for question in questions:
            await question.reply()
        assert calls == [2, 0, 1]
        await client.request("quick_lane", 5)  # the lane is free again
        assert calls == [2, 0, 1, 5]


async def test_what_waits_aside_holds_up_nothing_in_the_lane(autojump_clock):
    server, calls = make_server()
    async with open_hub_and_client(server) as (_, client):
        begun = trio.current_time()
        asked = [("aside", 9), ("quick_lane", 0), ("lane", 2), ("aside", 1), ("quick_lane", 3)]
        questions = [await client.ask(action, data) for action, data in asked]
        answered = []
        for question in questions[::-1]:
            await question.reply()
            answered.append(round(trio.current_time() - begun))
        assert calls == [9, 0, 2, 1, 3]
        assert answered == [2, 3, 3, 3, 9]


async def test_what_waits_aside_can_be_cancelled(autojump_clock):
    server, calls = make_server()
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        await link.send('{"seq": 1, "action": "aside", "data": 5}')
        await link.send('{"cancel": 1}')
        assert json.loads(await anext(link))["error"]["id"] == "cancelled"
        assert calls == [5]


async def test_one_that_waits_in_the_lane_can_be_cancelled_or_come_too_late(autojump_clock):
    server, calls = make_server()
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        await link.send('{"seq": 1, "action": "lane", "data": 5}')
        await link.send('{"seq": 2, "action": "lane", "data": 1}')
        await link.send('{"seq": 3, "action": "lane", "data": 1, "deadline": 2000}')
        await link.send('{"cancel": 2}')
        await link.send('{"cancel": 99}')
        ends = []
        for _ in range(3):
            reply = json.loads(await anext(link))
            ends.append((reply["seq_reply"], reply.get("error", {}).get("id"), round(trio.current_time())))
        begun = ends[0][2]
        assert ends == [(2, "cancelled", begun), (3, "deadline", begun + 2), (1, None, begun + 5)]
        assert calls == [5]


async def test_a_reply_that_cannot_be_encoded_is_the_handler_s_failure(autojump_clock, caplog):
    server, _ = make_server()
    async with open_hub_and_client(server) as (_, client):
        with pytest.raises(RequestFailed) as caught:
            await client.request("odd")
        assert (caught.value.status, caught.value.id) == (500, "internal")
        assert "cannot be encoded" in caplog.text


async def test_a_handler_may_refuse_by_raising(autojump_clock):
    server, _ = make_server()
    async with open_hub_and_client(server) as (_, client):
        with pytest.raises(RequestFailed) as caught:
            await client.request("refusing")
        assert (caught.value.status, caught.value.id, caught.value.message) == (409, "conflict", "not now")


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_handler_may_refuse_out_of_a_nursery_of_its_own(refusals, autojump_clock, caplog):
    router = Router()

    async def refuse():
        raise RequestFailed(409, "conflict", "not now")

    @router.action("refusing")
    async def refusing(connection, data: dict):
        async with trio.open_nursery() as tasks:
            for _ in range(refusals):
                tasks.start_soon(refuse)
            tasks.start_soon(trio.sleep_forever)

    async with open_hub_and_client(Server(router)) as (_, client):
        with pytest.raises(RequestFailed) as caught:
            await client.request("refusing")
        assert caught.value.status == (409 if refusals == 1 else 500)  # of two, who could say which
        assert ("ExceptionGroup" in caplog.text) == (refusals > 1)


async def test_kept_replies_are_bounded_by_number_and_by_size(autojump_clock):
    server, _ = make_server(HubOptions(kept_replies=3, kept_replies_size=2000))
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()

        async def ask(seq, size):
            await link.send(json.dumps({"seq": seq, "action": "big", "data": size}))
            return json.loads(await anext(link))["status"]

        for seq in range(1, 6):
            assert await ask(seq, 10) == "OK"
        assert [await ask(seq, 10) for seq in range(1, 6)] == ["FAIL", "FAIL", "OK", "OK", "OK"]
        assert await ask(6, 5000) == "OK"  # larger than all that may be kept: it stands alone
        assert [await ask(seq, 10) for seq in (4, 5, 6)] == ["FAIL", "FAIL", "OK"]


async def test_who_does_not_read_replies_gets_to_ask_no_more(autojump_clock):
    """Its replies are bounded, however many requests come in one read, and it alone is kept waiting."""
    server, calls = make_server()
    async with open_world(server) as world, world.open_link() as greedy, world.open_client() as other:
        request = json.dumps({"seq": 1, "action": "big", "data": 100_000})
        for _ in range(1000):
            greedy.post(request)
        greedy.writer.flush()
        await trio.sleep(1)
        assert 10 <= len(calls) <= 25  # 1 MiB of replies in the hand of the writer, and 1 MiB behind it
        assert (await other.request("ping"))["text"] == "pong"
        for _ in range(1001):
            await anext(greedy)
        assert len(calls) == 1000


def test_a_reply_that_is_kept_twice_is_counted_once():
    replies = Replies(HubOptions(kept_replies_size=100))
    for _ in range(10):
        replies.keep(1, b"x" * 40)
    replies.keep(2, b"x" * 40)
    assert replies.get(1) is not None
