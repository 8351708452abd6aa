"""The client against a hub that says whatever it likes: it neither hangs, nor grows, nor believes everything."""

import json
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from trio_hub import (
    ClientOptions,
    Closed,
    CloseReason,
    Gap,
    LinkLost,
    LinkOptions,
    Lost,
    Misuse,
    OutcomeUnknown,
    Position,
    RequestFailed,
    Router,
    Server,
    open_client,
)
from trio_hub.link.link import Link
from trio_hub.testing import Frame, Weather, open_hub_and_client, open_scripted_server, open_world

V1 = "trio-hub.v1.json"
ID, OTHER = "a" * 26, "b" * 26
QUICK = ClientOptions(first_retry=0.1, longest_retry=0.1)


def hello(id=ID, **data):
    return {"event": "hello", "data": {"connection_id": id, **data}}


@asynccontextmanager
async def scripted(*scripts, subprotocol=V1, options=QUICK):
    """A client whose n-th link is served by the n-th script, an async function of the link and its query.

    The last script serves all further links, too.
    """

    def on_a_link(script):
        async def serve(server):
            await server.accept(subprotocol=subprotocol)
            async with Link(server.stream, client=False, unread=server.unheard).running() as link:
                await script(link, server.request.query)

        return serve

    statuses = []
    async with (
        open_scripted_server(*map(on_a_link, scripts)) as weather,
        open_client("ws://hub", open_stream=weather.open_stream, on_status=statuses.append, options=options) as client,
    ):
        client.statuses = statuses
        yield client


async def say(link, *messages):
    for message in messages:
        await link.send(message if isinstance(message, str) else json.dumps(message))


async def stay(link):
    async for _ in link:
        pass


def saying(*messages):
    """A script that says these and stays."""

    async def script(link, query):
        await say(link, *messages)
        await stay(link)

    return script


async def good(link, query):
    await say(link, hello(), {"event": "good", "data": 1})
    await stay(link)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"event": "early", "data": 1},
        {"status": "OK", "seq_reply": 1},
        {"event": "hello", "data": {}},
        {"event": "hello", "data": None},
        {"event": "hello", "data": {"connection_id": 5}},
        {"resumed": {"connection_id": OTHER, "next": 0, "requests": 0}},
        {"resumed": {"connection_id": OTHER}},
        {"something": "else"},
        "{oops",
        "[1]",
    ],
)
async def test_a_hub_that_begins_with_nonsense_is_left_and_tried_again(autojump_clock, nonsense):
    async with scripted(saying(nonsense), good) as client:
        assert (await client.receive()).name == "good"
        (lost,) = [status for status in client.statuses if isinstance(status, Lost)]
        assert lost.close.code in (1002, 1003, 1007)


@pytest.mark.parametrize(
    "nonsense", [{"resumed": {"connection_id": ID, "next": 1, "requests": 0}}, {"event": 5}, {"seq_reply": 1}]
)
async def test_nonsense_later_on_costs_the_link_and_nothing_else(autojump_clock, nonsense):
    async def resumed(link, query):
        assert query == {"connection_id": [ID], "sequence_number": ["2"]}
        await say(link, {"resumed": {"connection_id": ID, "next": 2, "requests": 0}}, {"event": "second"})
        await stay(link)

    async with scripted(saying(hello(), {"event": "first"}, nonsense), resumed) as client:
        assert [(await client.receive()).name for _ in range(2)] == ["first", "second"]


async def test_a_server_that_does_not_speak_our_protocol_is_told_so(autojump_clock):
    codes, twice = [], trio.Event()

    async def script(link, query):
        await say(link, hello())
        await stay(link)
        codes.append(link.closed.code)
        if len(codes) == 2:
            twice.set()

    async with scripted(script, script, subprotocol=None):
        await twice.wait()
    assert codes == [1002, 1002]


async def test_a_resume_at_the_wrong_place_is_not_believed(autojump_clock):
    async def wrong(link, query):
        await say(link, {"resumed": {"connection_id": ID, "next": 5, "requests": 0}})
        await stay(link)

    async with scripted(saying(hello(), {"event": "first"}, "{cut"), wrong, good) as client:
        assert (await client.receive()).name == "first"
        with pytest.raises(Gap, match="unknown"):  # `good` says hello under the same id, without a reason
            await client.receive()
        assert (await client.receive()).name == "good"


async def test_a_hello_in_the_midst_is_a_gap_and_what_was_asked_is_still_asked(autojump_clock):
    async def script(link, query):
        await say(link, hello(), {"event": "first"})
        request = json.loads(await anext(link))
        gap = {"reason": "overflow", "last": 1}
        await say(link, hello(OTHER, gap=gap), {"event": "second"}, {"status": "OK", "seq_reply": request["seq"]})
        await stay(link)

    async with scripted(script) as client:
        question = await client.ask("anything")
        assert await question.reply() is None
        first = await client.receive()
        assert (first.name, first.number) == ("first", 1)
        with pytest.raises(Gap) as caught:
            await client.receive()
        assert (caught.value.reason, caught.value.last) == ("overflow", 1)
        second = await client.receive()
        assert (second.name, second.number) == ("second", 1)
        client.settle()
        assert client.position == Position(OTHER, 2)


async def test_an_acknowledgement_names_its_connection(autojump_clock):
    heard = []

    async def script(link, query):
        await say(link, hello(), *[{"event": "e"}] * 64)
        heard.extend([message async for message in link])

    async with scripted(script) as client:
        for _ in range(64):
            await client.receive()
        client.settle()
        await trio.sleep(10)
    assert [json.loads(each) for each in heard] == [{"ack": 64, "connection_id": ID}]  # once, and no more


async def test_it_stops_reading_when_its_program_does_not_keep_up(autojump_clock):
    sent = 0

    async def script(link, query):
        nonlocal sent
        await say(link, hello())
        while sent < 10_000:
            await say(link, {"event": "e", "data": "x" * 1000})
            sent += 1
        await stay(link)

    async with scripted(script, options=ClientOptions(mailbox=50)) as client:
        await client.connected()
        await trio.sleep(20)
        stopped = sent
        await trio.sleep(5)
        assert sent == stopped  # what is under way is bounded, by the cable and the link at the other end
        assert stopped < 5000
        for _ in range(stopped):
            await client.receive()


async def test_a_reply_to_nothing_is_of_no_interest(autojump_clock):
    async with scripted(saying(hello(), {"status": "OK", "seq_reply": 77}, {"event": "e"})) as client:
        assert (await client.receive()).name == "e"


async def test_a_fail_without_a_reason_is_a_fail(autojump_clock):
    async def script(link, query):
        await say(link, hello())
        await anext(link)
        await say(link, {"status": "FAIL", "seq_reply": 1, "error": "odd"})
        await stay(link)

    async with scripted(script) as client:
        with pytest.raises(RequestFailed) as caught:
            await client.request("anything")
        assert caught.value.status == 500


async def test_what_waits_when_the_server_wants_no_more_of_us_is_told(autojump_clock):
    async def script(link, query):
        await say(link, hello())
        await anext(link)
        await link.close(4500, "go away")

    async with scripted(script) as client:
        question = await client.ask("anything")
        for wait in (question.reply, client.receive, client.connected, lambda: client.ask("more")):
            with pytest.raises(Closed) as caught:
                await wait()
            assert caught.value.close.code == 4500


async def test_leaving_says_goodbye(autojump_clock):
    ends = []

    async def script(link, query):
        await say(link, hello())
        await stay(link)
        ends.append(link.closed.code)

    async with scripted(script) as client:
        await client.connected()
        begun = trio.current_time()
    assert trio.current_time() - begun < 1
    assert ends == [1000]


async def test_after_the_block_it_is_closed():
    async with open_world() as world, world.open_client() as client:
        pass
    for call in (client.receive, lambda: client.request("ping")):
        with pytest.raises(Closed):
            await call()


async def test_what_cannot_be_asked_is_misuse_and_costs_nothing(autojump_clock):
    async with open_hub_and_client() as (_, client):
        with pytest.raises(Misuse):
            await client.request("ping", object())
        assert (await client.request("ping"))["text"] == "pong"
    with pytest.raises(Misuse):
        async with open_client("http://example.org"):
            pass


async def test_who_cannot_ask_after_all_lets_the_next_one_ask(autojump_clock):
    router = Router()

    @router.action("sleep")
    async def sleep(connection, data: float) -> None:
        await trio.sleep(data)

    async with (
        open_world(Server(router)) as world,
        world.open_client(options=ClientOptions(in_flight=1)) as client,
        trio.open_nursery() as tasks,
    ):
        unanswered = await client.ask("sleep", 10)

        async def ask_what_cannot_be_asked():
            with pytest.raises(Misuse):
                await client.request("sleep", object())

        replies = []

        async def ask():
            replies.append(await client.request("ping"))

        for asking in (ask_what_cannot_be_asked, ask):
            tasks.start_soon(asking)
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(20):
            await unanswered.reply()
            await trio.sleep(1)
        assert len(replies) == 1
        tasks.cancel_scope.cancel()


async def test_who_is_cancelled_before_it_has_asked_keeps_nobody_from_asking(autojump_clock):
    answer, read, heard = trio.Event(), trio.Event(), []
    note = heard.append

    async def reads_late(link, query):
        await say(link, hello())
        await answer.wait()
        await say(link, {"status": "OK", "seq_reply": 1})
        await read.wait()
        async for message in link:
            note(json.loads(message).get("action"))

    options = ClientOptions(in_flight=2, link=LinkOptions(owed_size=1000))
    async with scripted(reads_late, options=options) as client, trio.open_nursery() as tasks:
        for _ in range(2):  # the first is being written, and the second is all that may be owed
            await client.ask("large", "x" * 100_000)
        waiting = trio.CancelScope()

        async def give_up():
            with waiting:
                await client.ask("given up")

        for asking in (give_up, partial(client.ask, "last")):
            tasks.start_soon(asking)
            await trio.testing.wait_all_tasks_blocked()
        answer.set()
        await trio.testing.wait_all_tasks_blocked()
        waiting.cancel()
        await trio.testing.wait_all_tasks_blocked()
        read.set()
        await trio.sleep(1)
        assert [action for action in heard if action] == ["large", "large", "last"]
        tasks.cancel_scope.cancel()


async def test_no_deadline_is_no_deadline(autojump_clock):
    async with open_hub_and_client() as (_, client):
        assert (await client.request("ping", deadline=float("inf")))["text"] == "pong"


async def test_a_server_that_leaves_says_for_how_long_up_to_a_bound(autojump_clock):
    async def leaves(link, query):
        await link.close(1012, '{"retry_after": 3000}')

    options = ClientOptions(first_retry=0.1, longest_retry=0.1, longest_advice=1000)
    async with scripted(leaves, options=options) as client:
        await trio.sleep(1)
        (lost,) = [status for status in client.statuses if isinstance(status, Lost)]
        assert lost.retry_in == pytest.approx(1000, abs=0.1)


async def test_topics_are_subscribed_to_again_unless_the_right_is_gone(autojump_clock, caplog):
    allowed = {"town", "sea"}

    def may_subscribe(session, name):
        return name in allowed

    server = Server(may_subscribe=may_subscribe)
    async with open_hub_and_client(server, topics=["town", "sea"]) as (_, client):
        with pytest.raises(RequestFailed, match="sky"):
            await client.subscribe("sky")
        allowed.remove("sea")
        client.weather.cut()
        await trio.sleep(200)
        client.weather.mend()
        with pytest.raises(Gap):
            await client.receive()
        await client.request("ping")
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = server.hub.connections()
        assert connection.topics == {"town"}
        assert "no longer subscribed to 'sea'" in caplog.text
        await client.unsubscribe("town")
        assert not connection.topics


async def test_after_a_gap_subscriptions_come_before_whatever_the_program_asks_next(autojump_clock):
    actions = []

    async def forgetful(link, query):
        await say(link, hello(OTHER if actions else ID))
        async for message in link:
            request = json.loads(message)
            if "seq" in request:
                actions.append(request["action"])
                await say(link, {"status": "OK", "seq_reply": request["seq"]})
            if len(actions) in (2, 5):
                return

    async with scripted(forgetful) as client:
        await client.subscribe("town")
        await client.subscribe("sea")
        with pytest.raises(Gap):
            await client.receive()
        await client.request("next")
    assert actions[:5] == ["subscribe", "subscribe", "subscribe", "subscribe", "next"]


async def test_who_hears_their_topics_only_long_after_a_gap_is_told_of_one_more_then(autojump_clock):
    asked = []

    async def slow(link, query):
        await say(link, hello(OTHER if asked else ID))
        async for message in link:
            request = json.loads(message)
            if "seq" in request:
                asked.append(trio.current_time())
                if len(asked) == 2:
                    await trio.sleep(50)
                await say(link, {"status": "OK", "seq_reply": request["seq"]})
            if len(asked) == 1:
                return

    async with scripted(slow) as client:
        await client.subscribe("town")
        for told_after in (30, 50):
            with pytest.raises(Gap):
                await client.receive()
            assert trio.current_time() == pytest.approx(asked[1] + told_after)


async def test_a_subscription_in_doubt_is_made_good_by_the_next_greeting(autojump_clock):
    router = Router()
    async with open_hub_and_client(Server(router)) as (hub, client):
        client.weather.stall()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(client.subscribe, "town")
            await trio.sleep(1)
            client.weather.cut()
            await trio.sleep(200)
            client.weather.mend()
        with pytest.raises(Gap):
            await client.receive()
        await client.request("ping")
        (connection,) = hub.hub.connections()
        assert connection.topics == {"town"}


async def test_doubt_is_told_for_what_was_sent(autojump_clock):
    async def forgets(link, query):
        await say(link, hello())
        await anext(link)

    async with scripted(forgets, good) as client:
        with pytest.raises(OutcomeUnknown):
            await client.request("anything")


async def test_a_link_that_only_says_hello_and_ends_is_dialled_less_and_less(autojump_clock):
    """Its hub has something to say that we cannot take: coming back at once would bring the same."""

    async def script(link, query):
        await say(link, hello())

    async with scripted(script, options=ClientOptions(first_retry=0.5, longest_retry=30)) as client:
        await trio.sleep(600)
        waits = [status.retry_in for status in client.statuses if isinstance(status, Lost)]
    assert 20 < len(waits) < 120  # 15 s each on the average, not a quarter of a second
    assert max(waits) > 10


async def test_a_url_without_a_path_may_have_a_query(autojump_clock):
    async with open_world() as world:
        weather = Weather(world.reach)
        async with open_client("ws://memory/?x=1", open_stream=weather.open_stream) as client:
            assert (await client.request("ping"))["text"] == "pong"


async def test_a_road_that_is_closed_for_now_is_tried_again(autojump_clock):
    """What opens streams may be the application's own, and fail as sockets do."""
    async with open_world() as world:
        weather = Weather(world.reach)
        troubles = [OSError("no route to host"), ConnectionRefusedError(), LinkLost(CloseReason(1006))]

        async def open_stream(address):
            if troubles:
                raise troubles.pop()
            return await weather.open_stream(address)

        losses = []
        async with open_client("ws://memory", open_stream=open_stream, on_status=losses.append) as client:
            assert (await client.request("ping"))["text"] == "pong"
        assert [str(loss.close.reason) for loss in losses[:3]] == ["", "ConnectionRefusedError", "no route to host"]


@pytest.mark.parametrize("vain", ["no answer", "no greeting"])
async def test_a_dial_given_up_may_take_over_and_is_no_reason_to_stay_away(autojump_clock, vain):
    """A server that was frozen comes to the dials in any order: the newer link may be the one we have given up."""

    async def silent(server):
        await server.hear_request()
        if vain == "no answer":
            await trio.sleep(60)
        else:
            await server.accept(subprotocol=V1)

    async def takes_over(server):
        await server.accept(subprotocol=V1)
        await server.say(Frame.json(hello()), Frame.close(4101, "a newer link took over"))
        await server.hear_all()

    resumed = {"resumed": {"connection_id": ID, "next": 1, "requests": 0}}

    async def goes_on(server):
        await server.accept(subprotocol=V1)
        assert server.request.query["connection_id"] == [ID]
        await server.say(Frame.json(resumed), Frame.json({"event": "good", "data": 1}))
        await trio.sleep(1000)

    async with (
        open_scripted_server(silent, takes_over, goes_on) as weather,
        open_client("ws://memory", open_stream=weather.open_stream, options=QUICK) as client,
    ):
        assert (await client.receive()).name == "good"


async def test_a_takeover_long_after_the_last_vain_dial_is_somebody_else(autojump_clock):
    async def no(server):
        await server.hear_request()

    async def takes_over(server):
        await server.accept(subprotocol=V1)
        await server.say(Frame.json(hello()))
        await trio.sleep(61)
        await server.say(Frame.close(4101, "a newer link took over"))
        await server.hear_all()

    patient = ClientOptions(first_retry=0.1, longest_retry=0.1, link=LinkOptions(ping_interval=1000))
    async with (
        open_scripted_server(no, takes_over) as weather,
        open_client("ws://memory", open_stream=weather.open_stream, options=patient) as client,
    ):
        with pytest.raises(Closed, match="4101"):
            await client.receive()
        assert weather.dials == 2


async def test_what_was_acknowledged_ahead_of_the_position_is_repeated_after_a_lost_link(autojump_clock):
    """An event is handled while items come behind it; the hub keeps no more than so many that it was not told of."""
    heard = []

    async def first(link, query):
        await say(link, hello(), {"event": "tick"})
        heard.append(json.loads(await anext(link)))
        await say(link, [{"event": "item", "data": n, "reply_to": 1} for n in range(8)])
        heard.append(json.loads(await anext(link)))

    async def second(link, query):
        await say(link, {"resumed": {"connection_id": ID, "next": 10, "requests": 1}})
        heard.extend([json.loads(await anext(link)) for _ in range(2)])
        await say(link, {"event": "end", "data": None, "reply_to": 1})
        await stay(link)

    async with scripted(first, second, options=ClientOptions(first_retry=0.1, ack_every=8, items=100)) as client:
        assert (await client.receive()).name == "tick"
        async with client.stream("count") as items:
            assert [item async for item in items] == list(range(8))
    asked = {"seq": 1, "action": "count", "data": None, "items": 100}
    told = {"ack": 9, "connection_id": ID}
    assert heard == [asked, told, asked, told]
