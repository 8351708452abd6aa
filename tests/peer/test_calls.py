"""Two ends of a plain link that ask each other."""

import json
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.link.pairs import linked, linked_in_memory
from trio_hub import (
    CallOptions,
    Calls,
    Closed,
    LinkLost,
    LinkOptions,
    Misuse,
    RequestFailed,
    Router,
    open_calls,
    serve_links,
)
from trio_hub.messages import CloseReason
from trio_hub.testing import Cable


class Answering:
    """What either end can do, and what became of it."""

    def __init__(self):
        self.router = Router()
        self.begun = []
        self.ended = []
        for action in (self.double, self.sleep, self.count, self.fail, self.ask_back, self.large):
            self.router.action(action.__name__)(action)
        self.router.action("in_order", ordered=True)(self.sleep)

    def double(self, calls: Calls, data: int) -> int:
        self.begun.append(data)
        return data * 2

    async def sleep(self, calls: Calls, data: float):
        self.begun.append(data)
        try:
            await trio.sleep(data)
            return data
        finally:
            self.ended.append(data)

    async def count(self, calls: Calls, data: int):
        try:
            for n in range(data):
                self.begun.append(n)
                yield n
        finally:
            self.ended.append(data)

    async def fail(self, calls: Calls, data: int):
        yield data
        raise RequestFailed(409, "conflict", "not now")

    async def ask_back(self, calls: Calls, data: int):
        return await calls.request("double", data) + 1

    def large(self, calls: Calls, data: int):
        self.begun.append(data)
        return "x" * data


@asynccontextmanager
async def a_pair(options=None, link_options=None):
    here, there = Answering(), Answering()
    async with (
        linked_in_memory(options=link_options) as (near, far),
        Calls(near, here.router, options=options).running() as caller,
        Calls(far, there.router, options=options).running() as callee,
    ):
        caller.answering, callee.answering = here, there
        yield caller, callee


async def all_of(calls, action, data):
    async with calls.stream(action, data) as items:
        return [item async for item in items]


@pytest.mark.parametrize("cbor", [False, True])
async def test_both_ends_ask_and_answer_at_the_same_time(autojump_clock, cbor):
    async with a_pair(CallOptions(cbor=cbor)) as (one, other):
        sums = {}

        async def ask_all(calls):
            sums[calls] = [await calls.request("double", n) for n in range(200)]
            sums[calls] += await all_of(calls, "count", 500)
            sums[calls].append(await calls.request("ask_back", 20))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(ask_all, one)
            tasks.start_soon(ask_all, other)
        assert sums[one] == sums[other] == [*range(0, 400, 2), *range(500), 41]


async def test_in_cbor_bytes_stay_bytes(autojump_clock):
    router = Router()

    @router.action("echo")
    async def echo(calls, data: bytes):
        yield data

    options = CallOptions(cbor=True)
    async with (
        linked_in_memory() as (near, far),
        Calls(near, options=options).running() as calls,
        Calls(far, router, options=options).running(),
    ):
        assert await all_of(calls, "echo", b"\x00\xff") == [b"\x00\xff"]


async def test_many_requests_are_under_way_at_once_and_ordered_ones_wait(autojump_clock):
    async with a_pair() as (calls, other):
        questions = [await calls.ask("sleep", seconds) for seconds in (3, 1, 2)]
        begun = trio.current_time()
        assert [await question.reply() for question in questions] == [3, 1, 2]
        assert trio.current_time() - begun == pytest.approx(3)
        assert other.answering.ended == [1, 2, 3]
        questions = [await calls.ask("in_order", seconds) for seconds in (3, 1, 2)]
        assert [await question.reply() for question in questions] == [3, 1, 2]
        assert other.answering.ended[3:] == [3, 1, 2]


async def test_who_stops_waiting_stops_the_other_end(autojump_clock):
    async with a_pair() as (calls, other):
        with trio.move_on_after(1):
            await calls.request("sleep", 100)
        async with calls.stream("count", 1000) as items:
            assert await anext(items) == 0
        await trio.sleep(1)
        assert other.answering.ended == [100, 1000]
        assert len(other.answering.begun) <= 1 + 64
        with pytest.raises(Closed):
            await anext(items)


async def test_a_deadline_travels(autojump_clock):
    async with a_pair() as (calls, other):
        begun = trio.current_time()
        with pytest.raises(RequestFailed, match="deadline"):
            await calls.request("sleep", 100, deadline=2)
        assert trio.current_time() - begun == pytest.approx(2)
        assert other.answering.ended == [100]
        assert await calls.request("sleep", 1, deadline=float("inf")) == 1


async def test_failures_of_every_kind(autojump_clock):
    async with a_pair() as (calls, _):
        for action, data, id in (
            ("none", 1, "unknown_action"),
            ("double", "x", "bad_request"),
            ("count", 1, "streamed"),
        ):
            with pytest.raises(RequestFailed) as caught:
                await calls.request(action, data)
            assert caught.value.id == id
        async with calls.stream("fail", 7) as items:
            assert await anext(items) == 7
            with pytest.raises(RequestFailed, match="not now"):
                await anext(items)
        with pytest.raises(RequestFailed, match="one reply"):
            await all_of(calls, "double", 1)
        with pytest.raises(Misuse):
            await calls.request("double", object())
        assert await calls.request("double", 4) == 8


async def test_an_end_without_a_handler_answers_nothing(autojump_clock):
    async with (
        linked_in_memory() as (near, far),
        Calls(near).running() as calls,
        Calls(far).running() as other,
    ):
        for each in (calls, other):
            with pytest.raises(RequestFailed, match="404"):
                await each.request("anything")


async def test_limits_of_both_ends(autojump_clock):
    async with a_pair(CallOptions(running_requests=3, in_flight=5)) as (calls, _):
        questions = [await calls.ask("sleep", 10) for _ in range(5)]
        with trio.move_on_after(1) as waiting:
            await calls.ask("sleep", 10)
        assert not waiting.cancelled_caught  # two were refused, so there is room
        for question in questions[3:]:
            with pytest.raises(RequestFailed, match="busy"):
                await question.reply()
    async with a_pair(CallOptions(in_flight=2)) as (calls, _):
        for _ in range(2):
            await calls.ask("sleep", 10)
        with trio.move_on_after(1) as waiting:
            await calls.ask("sleep", 10)
        assert waiting.cancelled_caught


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_cannot_ask_after_all_lets_the_next_one_ask(streamed, autojump_clock):
    async with a_pair(CallOptions(in_flight=1)) as (calls, _), trio.open_nursery() as tasks:
        unanswered = await calls.ask("sleep", 10)

        async def ask_what_cannot_be_asked():
            with pytest.raises(Misuse):
                await (all_of(calls, "count", object()) if streamed else calls.request("double", object()))

        replies = []

        async def ask():
            replies.append(await calls.request("double", 21))

        for asking in (ask_what_cannot_be_asked, ask):
            tasks.start_soon(asking)
            await wait_all_tasks_blocked()
        with trio.fail_after(20):
            await unanswered.reply()
            await wait_all_tasks_blocked()
        assert replies == [42]
        tasks.cancel_scope.cancel()


async def test_the_link_s_end_is_told_to_all_who_wait_and_all_who_ask_later(autojump_clock):
    async with a_pair() as (calls, other):
        ends = []

        async def wait_for(asking):
            try:
                await asking()
            except LinkLost as lost:
                ends.append(lost.close.code)

        async def take():
            async with calls.stream("count", 1000) as items:
                for _ in range(64):
                    await anext(items)
                await calls.request("sleep", 100)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(wait_for, partial(calls.request, "sleep", 100))
            tasks.start_soon(wait_for, partial(other.request, "sleep", 100))
            tasks.start_soon(wait_for, take)
            await trio.sleep(1)
            other.link.end(CloseReason(4321, "enough"))
            await calls.wait_ended()
            await other.wait_ended()
        assert ends == [4321] * 3
        await wait_all_tasks_blocked()
        assert sorted(other.answering.ended) == [100, 100, 1000]
        for each in (calls, other):
            with pytest.raises(LinkLost):
                await each.request("double", 1)
            with pytest.raises(LinkLost):
                await all_of(each, "count", 1)


async def test_after_the_block_nobody_is_answered(autojump_clock):
    async with linked_in_memory() as (near, far), Calls(near).running() as calls:
        answering = Answering()
        async with Calls(far, answering.router).running() as other:
            question = await calls.ask("sleep", 100)
            await wait_all_tasks_blocked()
        assert answering.ended == [100]
        await other.wait_ended()
        with pytest.raises(Closed):
            await other.request("double", 1)
        await far.close()
        with pytest.raises(LinkLost):
            await question.reply()


@pytest.mark.parametrize(
    "said",
    ["nonsense", "[1]", '{"event": "posted"}', '{"ack": 1}', '{"seq": 0, "action": "double"}', b"\x00"],
)
async def test_who_says_anything_else_is_told_so(autojump_clock, said):
    answering = Answering()
    async with linked_in_memory() as (near, far), Calls(far, answering.router).running() as calls:
        await near.send(said)
        with pytest.raises(LinkLost) as caught:
            await near.receive()
        assert caught.value.close.code in (1003, 1007)
        await calls.wait_ended()


async def test_more_items_than_were_asked_for_break_the_protocol(autojump_clock):
    async with (
        linked_in_memory() as (near, far),
        Calls(near, options=CallOptions(items=2)).running() as calls,
        calls.stream("count") as items,
    ):
        assert json.loads(await anext(far))["items"] == 2
        for n in range(3):
            await far.send(json.dumps({"event": "item", "data": n, "reply_to": 1}))
        await calls.wait_ended()
        assert calls.link.closed.code == 1002
        assert [await anext(items) for _ in range(2)] == [0, 1]
        with pytest.raises(LinkLost, match="1002"):
            await anext(items)


@pytest.mark.parametrize("text", ["\udcff", ValueError("x")], ids=["a surrogate", "no text"])
async def test_whatever_a_handler_says_of_its_failure_can_be_said(text, autojump_clock):
    router = Router()

    @router.action("fail")
    async def fail(calls: Calls, data: object) -> None:
        raise RequestFailed(400, "bad", text)

    async with linked_in_memory() as (near, far), Calls(far, router).running(), Calls(near).running() as calls:
        for _ in range(2):
            with pytest.raises(RequestFailed, match=r"400 bad: [?x]"):
                await calls.request("fail")


async def test_an_end_is_told_to_each_with_an_error_of_its_own(autojump_clock):
    async with linked_in_memory() as (near, far):
        async with Calls(near).running() as calls:
            await far.close()
            await calls.wait_ended()
            raised = []
            for _ in range(2):
                with pytest.raises(LinkLost) as caught:
                    await calls.request("anything")
                raised.append(caught.value)
        assert raised[0] is not raised[1]
        assert raised[0].close == raised[1].close


async def test_on_the_wire(autojump_clock):
    answering = Answering()
    async with linked_in_memory() as (near, far), Calls(far, answering.router).running() as calls:

        async def say(**members):
            await near.send(json.dumps(members))

        async def hear():
            return json.loads(await anext(near))

        await say(seq=1, action="double", data=4)
        assert await hear() == {"status": "OK", "seq_reply": 1, "data": 8}
        await say(seq=2, action="double", data=4, deadline="soon")
        assert (await hear())["error"]["id"] == "bad_request"
        await say(seq=3, action="count", data=3, items=1)
        assert await hear() == {"event": "item", "data": 0, "reply_to": 3}
        await say(more=3, items=10)
        assert [(await hear())["data"] for _ in range(3)] == [1, 2, None]
        async with calls.stream("letters", deadline=5) as items:
            asked = {"seq": 1, "action": "letters", "data": None, "deadline": 5000, "items": 64}
            assert await hear() == asked
            await say(event="item", data="a", reply_to=1)
            assert await anext(items) == "a"
        assert await hear() == {"cancel": 1}
        await say(event="item", data="too late", reply_to=1)
        await say(event="item", data="of nobody", reply_to=9)
        assert await anext(near, None) is None
        assert near.closed == CloseReason(1008, "an item for request 9, which was not asked")


# -- more than fits into the road


async def test_two_ends_that_ask_for_more_than_fits_get_it_all(autojump_clock):
    """Each asks for 60 times 100 kB at once, and neither can write its answers before the other reads."""
    link_options = LinkOptions(owed_size=200_000)
    async with a_pair(link_options=link_options) as (one, other):
        sizes = {one: [], other: []}

        async def ask(calls):
            sizes[calls].append(len(await calls.request("large", 100_000)))

        async with trio.open_nursery() as tasks:
            for calls in (one, other):
                for _ in range(60):
                    tasks.start_soon(ask, calls)
        assert sizes[one] == sizes[other] == [100_000] * 60


async def test_who_does_not_read_has_its_requests_wait(autojump_clock):
    answering = Answering()
    async with (
        linked_in_memory(options=LinkOptions(owed_size=200_000)) as (near, far),
        Calls(far, answering.router, options=CallOptions(running_requests=50)).running(),
    ):
        for seq in range(1, 701):
            near.post(json.dumps({"seq": seq, "action": "large", "data": 50_000}))
        near.post('{"cancel": 30}')
        near.writer.flush()
        await trio.sleep(1)
        assert len(answering.begun) < 12
        replies = [json.loads(await anext(near)) for _ in range(700)]
        assert [reply["seq_reply"] for reply in replies] == [*range(1, 701)]
        codes = [reply["error"]["status_code"] if "error" in reply else 200 for reply in replies]
        assert codes.count(200) == codes.index(503) - 1 >= 50
        assert codes[29] == 499
        assert set(codes[codes.index(503) :]) == {503}


async def test_large_requests_wait_only_as_far_as_there_is_room(autojump_clock):
    """One always may, however large; and room is made by whatever is carried out or cancelled."""
    asked = []

    async def say(seq, size):
        await near.send(json.dumps({"seq": seq, "action": "note", "data": "x" * size}))

    async def hear():
        reply = json.loads(await anext(near))
        return reply["seq_reply"], reply["status"] == "OK" or reply["error"]["status_code"]

    router = Router()
    router.action("note")(lambda calls, data: asked.append(len(data)))
    router.action("large")(lambda calls, data: "x" * 200_000)
    cable = Cable()
    async with (
        linked(cable.near, cable.far, options=LinkOptions(owed_size=100_000)) as (near, far),
        Calls(far, router).running(),
    ):
        for seq in (1, 2):
            await near.send(json.dumps({"seq": seq, "action": "large"}))
        await say(3, 150_000)
        await say(4, 100)
        await near.send('{"cancel": 3}')
        await say(5, 60_000)
        await say(6, 60_000)
        await trio.sleep(1)
        assert asked == []
        assert [await hear() for _ in range(6)] == [(1, True), (2, True), (3, 499), (4, 503), (5, True), (6, 503)]
        await say(7, 60_000)
        assert await hear() == (7, True)


async def test_who_asks_without_end_and_reads_nothing_is_sent_away(autojump_clock):
    options = CallOptions(running_requests=10)
    async with (
        linked_in_memory(options=LinkOptions(owed_size=1000)) as (near, far),
        Calls(far, Answering().router, options=options).running(),
    ):
        for seq in range(1, 1001):
            near.post(json.dumps({"seq": seq, "action": "large", "data": 5000}))
        near.writer.flush()
        await trio.sleep(1)
        assert far.closed == CloseReason(1008, "requests without end, and no reply is read")


@pytest.mark.parametrize("gives_up", [False, True], ids=["waits", "gives up"])
async def test_two_ends_that_ask_for_far_too_much_never_lock_up(gives_up, autojump_clock):
    options = CallOptions(running_requests=8, in_flight=64)
    ended, refused = [], set()
    async with (
        linked_in_memory(options=LinkOptions(owed_size=100_000)) as (near, far),
        Calls(near, Answering().router, options=options).running() as one,
        Calls(far, Answering().router, options=options).running() as other,
    ):

        async def ask(calls):
            with trio.move_on_after(0.001 if gives_up else 1000):
                try:
                    await calls.request("large", 50_000)
                except RequestFailed as failure:
                    refused.add(failure.status)
            ended.append(calls)

        with trio.fail_after(600):
            async with trio.open_nursery() as tasks:
                for _ in range(100):
                    tasks.start_soon(ask, one)
                    tasks.start_soon(ask, other)
        assert len(ended) == 200
        assert refused <= {503}
        assert len(await one.request("large", 10)) == len(await other.request("large", 10))


async def test_who_reads_no_items_has_the_handler_wait_and_nothing_else(autojump_clock):
    async with a_pair() as (calls, other), calls.stream("count", 1000) as slow:
        await trio.sleep(1)
        assert len(other.answering.begun) == 64
        assert await all_of(calls, "count", 300) == list(range(300))
        async for n in slow:
            assert await calls.request("double", n) == 2 * n


# -- from door to door


async def test_a_server_and_a_caller(autojump_clock):
    answering = Answering()

    async def serve(link):
        async with Calls(link, answering.router).running() as calls:
            assert await calls.request("double", 3) == 6
            await calls.wait_ended()

    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(serve_links, serve)
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with open_calls(url, Answering().router) as calls:
            assert await calls.request("ask_back", 4) == 9
            assert await all_of(calls, "count", 100) == list(range(100))
        tasks.cancel_scope.cancel()
    with pytest.raises(LinkLost):
        async with open_calls(url):
            pass


async def test_what_the_block_raises_comes_out_bare(autojump_clock):
    with pytest.raises(ZeroDivisionError):
        async with a_pair() as (calls, _), calls.stream("count", 1000):
            raise ZeroDivisionError
