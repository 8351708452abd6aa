"""Traces: from a client's request over what it publishes to those who hear it."""

from __future__ import annotations

import gc
import json
import sys

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from trio_hub import Closed, CloseReason, Event, Reach, RequestFailed, Router, Server, everyone, topic
from trio_hub.testing import World, open_world

V1 = "trio-hub.v1.json"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Tracing:
    """A server whose handlers publish and fail, and the spans that have ended in it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")
        router = Router()

        @router.action("say", ordered=True)
        async def say(connection, data: dict):
            await trio.lowlevel.checkpoint()
            await self.server.publish(Event("said"), to=topic("town"), wait_for=Reach.OFFERED)

        @router.action("say_now")
        def say_now(connection, data: dict):
            self.server.hub.publish_nowait(Event("said"), to=topic("town"))

        @router.action("refuse")
        async def refuse(connection, data: dict):
            raise RequestFailed(409, "conflict", "not now")

        @router.action("break")
        def break_down(connection, data: dict):
            raise ValueError("broken on purpose")

        @router.action("wait")
        async def wait(connection, data):
            await trio.sleep_forever()

        @router.action("end")
        def end(connection, data: dict):
            connection.end(CloseReason(4500, "over"))

        @router.action("count")
        async def count(connection, data: int):
            for n in range(data):
                await trio.sleep(1)
                await self.server.publish(Event("counted"), to=topic("town"))
                yield n
            await trio.sleep(1)
            raise ValueError("broken on purpose")

        @router.action("count_later")
        async def count_later(connection, data: int):
            return count(connection, data)

        self.server = Server(router, tracer=self.tracer)

    def named(self, name: str):
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str):
        (span,) = self.named(name)
        return span


@pytest.fixture
def tracing() -> Tracing:
    return Tracing()


async def ask(world: World, action: str, **more) -> dict:
    """Ask once on a link that hears the town; return the reply."""
    async with world.open_link("/ws?topics=town", subprotocols=[V1]) as link:
        await link.send(json.dumps({"seq": 1, "action": action, **more}))
        while True:
            for message in await link.receive():
                said = json.loads(message)
                for each in said if isinstance(said, list) else [said]:
                    if "seq_reply" in each:
                        return each


def is_child(span, parent) -> bool:
    return span.parent.span_id == parent.context.span_id and span.context.trace_id == parent.context.trace_id


@pytest.mark.parametrize("action", ["say", "say_now"])
async def test_a_request_is_followed_to_those_who_hear_what_it_said(action, tracing, autojump_clock):
    async with open_world(tracing.server) as world:
        await ask(world, action, traceparent=TRACEPARENT)
        await tracing.server.hub.wait_written()
    request, publish, deliver = map(tracing.one, ("request", "publish", "deliver"))
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert is_child(publish, request)
    assert is_child(deliver, publish)
    assert [link.context for link in deliver.links] == [publish.context]
    assert (request.kind, publish.kind, deliver.kind) == (SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert dict(request.attributes) == {"trio_hub.action": action}
    assert dict(publish.attributes) == {"trio_hub.event": "said"}
    assert dict(deliver.attributes) == {"trio_hub.events": 1}


@pytest.mark.parametrize("traceparent", [None, "", "00-1", 7, {}, "x" * 1000, TRACEPARENT + "-", TRACEPARENT.upper()])
async def test_without_a_traceparent_that_can_be_read_a_trace_begins(traceparent, tracing, autojump_clock):
    async with open_world(tracing.server) as world:
        assert (await ask(world, "ping", traceparent=traceparent))["status"] == "OK"
    assert tracing.one("request").parent is None


async def test_a_delivery_is_linked_to_every_event_of_its_burst(tracing, autojump_clock):
    async with open_world(tracing.server) as world, world.open_client():
        with tracing.tracer.start_as_current_span("job") as job:
            for n in range(3):
                world.server.hub.publish_nowait(Event("tick", n), to=everyone())
        await world.server.hub.wait_written()
    publishes, deliver = tracing.named("publish"), tracing.one("deliver")
    assert all(span.parent.span_id == job.get_span_context().span_id for span in publishes)
    assert [link.context for link in deliver.links] == [span.context for span in publishes]
    assert is_child(deliver, publishes[0])


async def test_only_what_is_our_fault_is_an_error(tracing, autojump_clock, caplog):
    async with open_world(tracing.server) as world:
        for action in ("refuse", "fly", "break"):
            await ask(world, action)
    refuse, fly, broken = tracing.named("request")
    assert refuse.attributes["trio_hub.status"] == 409
    assert fly.attributes["trio_hub.status"] == 404
    assert [span.status.status_code for span in (refuse, fly, broken)] == [StatusCode.UNSET] * 2 + [StatusCode.ERROR]
    assert broken.events[0].attributes["exception.message"] == "broken on purpose"


async def test_a_request_that_is_cancelled_ends_its_span(tracing, autojump_clock):
    async with open_world(tracing.server) as world:
        assert (await ask(world, "wait", deadline=1000))["error"]["id"] == "deadline"
    assert tracing.one("request").status.status_code is StatusCode.UNSET


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("action", ["wait", "count", "count_later"])
async def test_a_request_that_is_never_begun_ends_its_span(action, tracing, autojump_clock):
    """It is asked together with what ends its connection."""
    async with open_world(tracing.server) as world, world.open_link(subprotocols=[V1]) as link:
        await anext(link)
        never = {"seq": 1, "action": action, "data": 1, "items": 9}
        await link.send(json.dumps([never, {"seq": 2, "action": "end"}]))
        async for _ in link:
            pass
        await trio.sleep(1)
        gc.collect()
    assert [span.attributes["trio_hub.action"] for span in tracing.named("request")] == ["end", action]


async def test_a_publish_that_is_not_accepted_ends_its_span(tracing, autojump_clock):
    async with open_world(tracing.server):
        pass
    with pytest.raises(Closed):
        await tracing.server.publish(Event("tick"), to=everyone())
    assert tracing.one("publish").status.status_code is StatusCode.ERROR
    assert not tracing.named("deliver")


async def test_where_nothing_is_asked_for_neither_extra_is_loaded():
    program = """if True:
        import sys, trio_hub.__main__
        trio_hub.Server()
        assert not {"opentelemetry", "prometheus_client"} & set(sys.modules)
        """
    await trio.run_process([sys.executable, "-c", program])


@pytest.mark.parametrize("action", ["count", "count_later"])
async def test_a_streamed_reply_s_span_lasts_as_long_as_its_handler(autojump_clock, action):
    tracing = Tracing()
    async with open_world(tracing.server) as world, world.open_client() as client:
        async with client.stream(action, 2) as items:
            assert [await anext(items), await anext(items)] == [0, 1]
            assert tracing.named("request") == []
            with pytest.raises(RequestFailed):
                await anext(items)
        span = tracing.one("request")
        assert span.status.status_code is StatusCode.ERROR
        assert [each.parent.span_id for each in tracing.named("publish")] == [span.context.span_id] * 2
        async with client.stream(action, 100) as items:
            await anext(items)
        await trio.sleep(1)
        assert len(tracing.named("request")) == 2
