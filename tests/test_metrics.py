"""Metrics: what happened in a story is what Prometheus reads, under the names that are documented."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.test_side_door import caller, publish
from trio_hub import (
    Editor,
    Event,
    Gap,
    HubOptions,
    OutboxOptions,
    Rate,
    Reach,
    RequestFailed,
    Router,
    Server,
    everyone,
    expires,
    latest,
    open_client,
    topic,
    volatile,
)
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.hub.statistics import OTHER, Counts, Durations
from trio_hub.metrics import Metrics
from trio_hub.testing import World, open_world

DOCS = (Path(__file__).parent.parent / "docs" / "metrics.rst").read_text()


def samples_of(text: str) -> dict[str, float]:
    """Return every number as ``name{label}``, of which the label may be missing."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


async def scrape(world: World) -> dict[str, float]:
    status, headers, body = await caller(world).ask("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return samples_of(body.decode())


def expect(samples: dict[str, float], **expected: float) -> None:
    """Compare, names without their prefix; ``__`` stands before a label."""
    named = {_spelled(name): value for name, value in expected.items()}
    assert {name: samples.get(name) for name in named} == named


def _spelled(name: str) -> str:
    name, _, label = name.partition("__")
    return f"trio_hub_{name}{{{label}}}" if label else f"trio_hub_{name}"


# -- a story


async def test_a_running_server_is_scraped_over_a_socket():
    server = Server(metrics=True)
    async with trio.open_nursery() as tasks:
        (listener,) = await tasks.start(server.serve)
        port = listener.socket.getsockname()[1]
        url = f"ws://127.0.0.1:{port}/ws?topics=town"
        async with open_client(url) as one, open_client(url) as two:
            await one.connected()
            await two.connected()
            for _ in range(3):
                await server.publish(Event("tick"), to=topic("town"), wait_for=Reach.OFFERED)
            await server.publish(Event("tock"), to=topic("nowhere"), wait_for=Reach.OFFERED)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                head = f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
                await stream.send_all(head.encode())
                answer = b"".join([data async for data in stream])
        samples = samples_of(answer.partition(b"\r\n\r\n")[2].decode())
        expect(
            samples,
            http_websockets__attached=2,
            http_websockets__away=0,
            websocket_broadcast_users_registered=1,
            topics=1,
            websocket_broadcast_buffer_size=0,
            websocket_event_total__tick=3,
            websocket_event_total__tock=1,
            websocket_broadcasts_total=4,
            deliveries_total=6,
            fan_out_seconds_count=4,
        )
        assert samples["trio_hub_held_bytes"] > 0
        tasks.cancel_scope.cancel()


async def test_who_goes_and_comes_back_is_counted(autojump_clock):
    async with open_world(metrics=True, options=HubOptions(window=30)) as world, world.open_client() as client:
        client.weather.cut()
        await trio.sleep(1)
        await world.server.publish(Event("tick"), to=everyone())
        await trio.sleep(1)
        samples = await scrape(world)
        expect(samples, http_websockets__attached=0, http_websockets__away=1, owed_events=1)
        assert samples["trio_hub_owed_bytes"] > 0
        client.weather.mend()
        await client.receive()
        expect(
            await scrape(world),
            http_websockets__attached=1,
            owed_events=0,
            websocket_reconnects_total__success=1,
            websocket_reconnects_total__failure=0,
            gaps_total__expired=0,
        )
        client.weather.cut()
        await trio.sleep(60)
        client.weather.mend()
        with pytest.raises(Gap, match="expired"):
            await client.receive()
        expect(
            await scrape(world),
            websocket_reconnects_total__success=1,
            websocket_reconnects_total__failure=1,
            gaps_total__expired=1,
            gaps_total__overflow=0,
        )


async def test_gaps_and_drops_are_counted_by_reason(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(count=20, kept_count=10))
    async with open_world(metrics=True, options=options) as world, world.open_client() as client:
        client.weather.cut()
        await trio.sleep(1)
        for delivery in [volatile(), latest("k"), latest("k"), latest("k"), expires(5)]:
            await world.server.publish(Event("tick"), to=everyone(), delivery=delivery)
        await trio.sleep(10)
        client.weather.mend()
        await client.receive()
        expect(
            await scrape(world),
            drops_total__away=1,
            drops_total__replaced=2,
            drops_total__expired=1,
            drops_total__behind=0,
            deliveries_total=4,
        )
        client.weather.cut()
        await trio.sleep(1)
        for _ in range(30):
            await world.server.publish(Event("tick"), to=everyone())
        client.weather.mend()
        with pytest.raises(Gap, match="overflow"):
            await client.receive()
        expect(await scrape(world), gaps_total__overflow=1, gaps_total__expired=0, drops_total__replaced=2)


async def test_volatile_events_for_who_is_behind_are_counted(autojump_clock):
    options = HubOptions(outbox=OutboxOptions(count=20, kept_count=5))
    async with (
        open_world(metrics=True, options=options) as world,
        world.open_link("/ws", subprotocols=["trio-hub.v1.json"]),
    ):
        for _ in range(15):  # of which five may be written before something is acknowledged
            await world.server.publish(Event("tick"), to=everyone(), wait_for=Reach.OFFERED)
        await world.server.publish(Event("typing"), to=everyone(), delivery=volatile(), wait_for=Reach.OFFERED)
        expect(await scrape(world), drops_total__behind=1, drops_total__away=0, kept_events=5)


async def test_requests_are_counted_by_their_outcome(autojump_clock):
    router = Router()

    @router.action("odd")
    async def odd(connection, data: int):
        if data == 1:
            raise RequestFailed(409, "conflict", "not now")
        if data == 2:
            raise RequestFailed(7, "odd", "this is no status")
        return data

    @router.action("unencodable")
    def unencodable(connection, data: dict):
        return object()

    options = HubOptions(requests=Rate(1, burst=6))
    async with open_world(Server(router, metrics=True, options=options)) as world, world.open_client() as client:
        for action, data in [("ping", {}), ("odd", 0), ("odd", 1), ("odd", 2), ("odd", "x"), ("unencodable", {})]:
            try:
                await client.request(action, data)
            except RequestFailed:
                pass
        with pytest.raises(RequestFailed, match="429"):
            await client.request("ping")
        expect(
            await scrape(world),
            requests_total__200=2,
            requests_total__400=1,
            requests_total__409=1,
            requests_total__500=2,
            requests_total__429=1,
            requests_too_fast_total=1,
        )


async def test_what_goes_wrong_is_counted(autojump_clock, caplog):
    def fail(*_):
        raise ValueError("broken on purpose")

    options = HubOptions(arrivals=Rate(1, burst=2))
    async with open_world(metrics=True, options=options) as world, world.open_client(), world.open_client():
        editors = [Editor(key=lambda connection: connection.id, edit=fail)]
        await world.server.publish(Event("tick"), to=everyone(), editors=editors, wait_for=Reach.OFFERED)
        third = world.open_client()
        await third.__aenter__()  # refused, and let in a second later
        await third.__aexit__(None, None, None)
        samples = await scrape(world)
        expect(samples, editor_failures_total=2, restarts_total=0, relieved_total=0)
        assert samples["trio_hub_arrivals_refused_total"] >= 1


# -- what is counted


def test_only_so_many_names_of_events_are_kept():
    counts = Counts()
    for n in range(1000):
        counts.note_published(f"event {n}")
        counts.note_published("x" * 101)
    counts.note_published("event 7")
    assert len(counts.published) == 100
    assert counts.published["event 7"] == 2
    assert sum(counts.published.values()) == 2001
    assert counts.published[OTHER] == 2001 - 2 - 98


def test_durations_are_counted_up_to_their_bound():
    durations = Durations()
    for seconds in (0, 0.0001, 0.00011, 1, 3):
        durations.note(seconds)
    at_most = dict(zip(Durations.BOUNDS, durations.counts, strict=False))
    assert (at_most[0.0001], at_most[0.00025], at_most[1.0], durations.counts[-1]) == (2, 1, 1, 1)
    assert durations.total == pytest.approx(4.00021)


async def test_names_of_events_need_not_be_plain(autojump_clock):
    async with open_world(metrics=True) as world:
        name = 'a "quoted" \\ name\nof two lines, ünd mehr'
        await publish(world, {"event": name, "to": "everyone"})
        samples = await scrape(world)
        assert samples[f"trio_hub_websocket_event_total{{{name}}}"] == 1


# -- who may see it


async def test_where_it_is_not_switched_on_there_is_nothing(autojump_clock):
    async with open_world() as world:
        for method in ("GET", "POST"):
            status, _, body = await caller(world).ask(method, "/metrics")
            assert (status, body) == (404, b'{"error":"There is nothing here"}\n')


async def test_where_there_is_a_key_it_must_be_shown(autojump_clock):
    async with open_world(metrics=True, key="sesame") as world:
        for shown in ({}, {"Authorization": "Bearer sesam"}):
            status, headers, body = await caller(world).ask("GET", "/metrics", headers=shown)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert b"trio_hub" not in body
        status, _, _ = await caller(world).ask("GET", "/metrics", headers={"Authorization": "Bearer sesame"})
        assert status == 200


async def test_only_get_and_head_are_answered(autojump_clock):
    async with open_world(metrics=True) as world:
        status, headers, _ = await caller(world).ask("POST", "/metrics")
        assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_without_the_extra_the_answer_says_what_to_install(autojump_clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "trio_hub.metrics")
    async with open_world(metrics=True) as world:
        status, _, body = await caller(world).ask("GET", "/metrics")
        assert status == 404
        assert b"pip install 'trio-hub[metrics]'" in body


async def test_health_tells_nobody_what_events_are_called(autojump_clock):
    async with open_world() as world:
        await publish(world, {"event": "merger", "to": "everyone"})
        _, _, body = await caller(world).ask("GET", "/healthz")
        assert b"merger" not in body


# -- what is documented


async def test_the_names_that_are_exported_are_those_that_are_documented(autojump_clock):
    async with open_world(metrics=True, backplane=MemoryBackplane()) as world:
        text = Metrics(world.server.hub.statistics, world.server.relay.statistics).scrape()[1].decode()
    exported = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert set(re.findall(r"^``(trio_hub_\w+)(?:\{\w+\})?``$", DOCS, re.MULTILINE)) == set(exported)
    assert {name for name, kind in exported.items() if kind == "counter"} == {
        name for name in exported if name.endswith("_total")
    }
    alerting = DOCS.partition("Alerts\n------")[2].partition("Logs\n----")[0]
    assert {name.removesuffix("_bucket") for name in re.findall(r"trio_hub_\w+", alerting)} <= set(exported)
