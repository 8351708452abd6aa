"""A request is carried out once, however often the client had to repeat it; its reply reaches who asked."""

import json

import pytest
import trio

from trio_hub import (
    Event,
    Gap,
    HubOptions,
    LinkOptions,
    Misuse,
    OutboxOptions,
    OutcomeUnknown,
    RequestFailed,
    Router,
    Server,
    topic,
)
from trio_hub.testing import open_hub_and_client, open_world

V1 = "trio-hub.v1.json"


def counting_server(options=None):
    """A server whose actions count how often they are carried out."""
    router, calls = Router(), []

    @router.action("quick")
    def quick(connection, data: int) -> int:
        calls.append(data)
        return data * 2

    @router.action("slow")
    async def slow(connection, data: int) -> int:
        calls.append(data)
        await trio.sleep(3)
        return data * 2

    @router.action("in_order", ordered=True)
    async def in_order(connection, data: float) -> int:
        calls.append(data)
        await trio.sleep(data)
        return len(calls)

    return Server(router, options=options), calls


@pytest.mark.parametrize("action", ["quick", "slow"])
async def test_however_often_the_link_is_lost(autojump_clock, action):
    server, calls = counting_server()
    async with open_hub_and_client(server) as (_, client):

        async def spoil():
            while True:
                await trio.sleep(0.7)
                client.weather.cut_once()
                await trio.sleep(0.7)
                client.weather.abandon()

        async with trio.open_nursery() as tasks:
            tasks.start_soon(spoil)
            questions = [await client.ask(action, n) for n in range(100)]
            for n, question in enumerate(questions):
                assert await question.reply() == n * 2
            tasks.cancel_scope.cancel()
        assert sorted(calls) == list(range(100))
        assert client.weather.dials > 1 or action == "quick"


async def test_a_repeated_number_gets_the_stored_reply(autojump_clock):
    server, calls = counting_server()
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        request = json.dumps({"seq": 1, "action": "quick", "data": 21})
        for _ in range(3):
            await link.send(request)
            assert json.loads(await anext(link)) == {"status": "OK", "seq_reply": 1, "data": 42}
        assert calls == [21]
        await link.send('{"ack_replies": 1}')
        await link.send(request)
        reply = json.loads(await anext(link))
        assert reply["error"]["status_code"] == 410
        assert calls == [21]


async def test_a_repeated_number_that_still_runs_is_answered_once(autojump_clock):
    server, calls = counting_server()
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        for _ in range(3):
            await link.send(json.dumps({"seq": 1, "action": "slow", "data": 1}))
        await link.send('{"seq": 2, "action": "quick", "data": 5}')
        assert [json.loads(await anext(link))["seq_reply"] for _ in range(2)] == [2, 1]
        assert sorted(calls) == [1, 5]


async def test_in_compat_numbers_mean_nothing_and_replies_stay_with_their_link(autojump_clock):
    server, calls = counting_server()
    async with open_world(server) as world:
        async with world.open_link() as first:
            hello = json.loads(await anext(first))
            await first.send('{"seq": 1, "action": "slow", "data": 7}')
            await trio.testing.wait_all_tasks_blocked()
        id = hello["data"]["connection_id"]
        async with world.open_link(f"/ws?connection_id={id}&sequence_number=1") as second:
            await second.send('{"seq": 1, "action": "quick", "data": 8}')
            assert json.loads(await anext(second)) == {"status": "OK", "seq_reply": 1, "data": 16}
            await trio.sleep(10)  # the first one's reply came due meanwhile, and went to nobody
            await second.send('{"seq": 2, "action": "quick", "data": 9}')
            assert json.loads(await anext(second))["seq_reply"] == 2
        assert calls == [7, 8, 9]


async def test_ordered_requests_wait_for_each_other_and_others_do_not(autojump_clock):
    server, calls = counting_server()
    async with open_hub_and_client(server) as (_, client):
        questions = [await client.ask("in_order", seconds) for seconds in (3, 2, 1, 0)]
        assert await client.request("quick", 100) == 200
        assert [await question.reply() for question in questions] == [2, 3, 4, 5]
        assert calls == [3, 100, 2, 1, 0]


async def test_a_deadline_travels_to_the_handler(autojump_clock):
    server, _ = counting_server()
    async with open_hub_and_client(server) as (_, client):
        begun = trio.current_time()
        with pytest.raises(RequestFailed, match="deadline"):
            await client.request("slow", 1, deadline=2)
        assert trio.current_time() - begun == pytest.approx(2, abs=0.1)


async def test_one_request_too_many_is_refused_and_the_link_stays(autojump_clock):
    server, calls = counting_server(HubOptions(running_requests=5))
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        for seq in range(1, 7):
            await link.send(json.dumps({"seq": seq, "action": "slow", "data": seq}))
        first = json.loads(await anext(link))
        assert (first["seq_reply"], first["error"]["id"]) == (6, "busy")
        assert sorted([json.loads(await anext(link))["seq_reply"] for _ in range(5)]) == [1, 2, 3, 4, 5]
        assert sorted(calls) == [1, 2, 3, 4, 5]


async def test_where_nobody_can_say_the_client_is_told_so(autojump_clock):
    server, _ = counting_server(HubOptions(window=1))
    async with open_hub_and_client(server) as (_, client):
        question = await client.ask("slow", 1)
        client.weather.cut()
        await trio.sleep(5)
        unsent = await client.ask("quick", 4)
        client.weather.mend()
        with pytest.raises(OutcomeUnknown):
            await question.reply()
        assert await unsent.reply() == 8  # it was never sent, so there is no doubt about it


async def test_wrong_requests_are_answered_with_what_is_wrong(autojump_clock):
    async with open_world() as world, world.open_link() as link:
        await link.receive()
        for request, status, word in [
            ({"seq": 1, "action": "nonsense"}, 404, "nonsense"),
            ({"seq": 2, "action": "subscribe", "data": {"topic": 5}}, 400, "$.topic"),
            ({"seq": 3, "action": "subscribe", "data": {}}, 400, "topic"),
            ({"seq": 4, "action": "subscribe", "data": {"topic": "a,b"}}, 400, "comma"),
            ({"seq": 5, "action": 7}, 400, "$.action"),
            ({"seq": 6}, 400, "$.action"),
            ({"seq": 7, "action": "ping", "deadline": "soon"}, 400, "$.deadline"),
            ({"seq": 8, "action": "publish", "data": {"topic": "t", "event": "hello"}}, 400, "hello"),
        ]:
            await link.send(json.dumps(request))
            reply = json.loads(await anext(link))
            assert reply["status"] == "FAIL"
            assert reply["seq_reply"] == request["seq"]
            assert reply["error"]["status_code"] == status
            assert word in reply["error"]["message"]
        await link.send('{"seq": 9, "action": "ping"}')
        assert json.loads(await anext(link))["data"]["text"] == "pong"


async def test_without_the_right_nothing_is_published(autojump_clock):
    async with open_hub_and_client(Server(), topics=["town"]) as (hub, client):
        with pytest.raises(RequestFailed) as caught:
            await client.publish("town", "e", {})
        assert caught.value.status == 403
        assert hub.hub.statistics().published == 0


async def test_a_program_that_comes_back_behind_its_acknowledgements_is_not_taken_for_its_former_self(autojump_clock):
    """The hub begins its connection anew, but knows the numbers that were used: new requests get new ones."""
    server, calls = counting_server()
    async with open_world(server) as world:
        async with world.open_client(topics=["town"]) as first:
            position = first.position
            for n in range(3):
                await server.publish(Event("tick", n), to=topic("town"))
                await first.receive()
        async with world.open_client(resume=position) as second:
            with pytest.raises(Gap, match="overflow"):
                await second.receive()
            assert await second.request("quick", 21) == 42
            assert calls == [21]


async def test_a_gap_alone_leaves_no_doubt_about_requests(autojump_clock):
    """The hub lost events for a client that was away, and still knows what that client asked."""
    options = HubOptions(outbox=OutboxOptions(count=30, kept_count=10))
    server, calls = counting_server(options)
    async with open_hub_and_client(server, topics=["town"]) as (_, client):
        question = await client.ask("slow", 1)
        client.weather.stall()
        for n in range(100):
            await server.publish(Event("tick", n), to=topic("town"))
        client.weather.abandon()
        client.weather.mend()
        assert await question.reply() == 2
        assert calls == [1]


async def test_a_malformed_repetition_does_not_replace_what_runs(autojump_clock):
    server, calls = counting_server(HubOptions(running_requests=4))
    async with open_world(server) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        for seq in range(1, 21):
            await link.send(json.dumps([{"seq": seq, "action": "slow", "data": seq}, {"seq": seq}]))
        replies = [json.loads(await anext(link)) for _ in range(36)]
        assert len(calls) == 4
        assert sum(reply["status"] == "OK" for reply in replies) == 4
        (connection,) = server.hub.connections()
        assert connection.statistics().running_requests == 0


async def test_one_message_with_many_requests_is_bounded_by_its_replies(autojump_clock):
    router, calls = Router(), []

    @router.action("big")
    def big(connection, data: dict):
        calls.append(1)
        return "x" * 100_000

    async with open_world(Server(router)) as world, world.open_link(subprotocols=[V1]) as link:
        await link.receive()
        await link.send(json.dumps([{"seq": seq, "action": "big"} for seq in range(1, 1001)]))
        await trio.sleep(1)
        assert 10 <= len(calls) <= 25


async def test_a_request_that_the_hub_would_not_take_is_not_sent(autojump_clock):
    options = HubOptions(link=LinkOptions(max_message=1000))
    async with open_hub_and_client(Server(options=options)) as (_, client):
        with pytest.raises(Misuse, match="the hub takes 1000"):
            await client.request("ping", {"text": "x" * 1000})
        assert (await client.request("ping", {"text": "x" * 800}))["text"] == "pong"
        assert client.weather.dials == 1


async def test_a_resumed_program_knows_what_the_hub_would_not_take(autojump_clock):
    options = HubOptions(link=LinkOptions(max_message=1000))
    async with open_world(Server(options=options)) as world:
        async with world.open_client() as first:
            position = first.position
        async with world.open_client(resume=position) as second:
            with pytest.raises(Misuse, match="the hub takes 1000"):
                await second.request("ping", {"text": "x" * 1000})
