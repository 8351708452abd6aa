"""Plugins hear of events, answer requests of their own, and run beside the hub; none of them harms another."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub import Edit, Editors, Event, RequestFailed, Router, Server, everyone, topic, volatile
from trio_hub.testing import open_world


class Audit:
    """Writes down every event that a connection is owed."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Event]] = []

    async def event(self, connection, event: Event) -> None:
        self.heard.append((connection.id, event))


async def test_events_are_told_as_each_connection_gets_them(autojump_clock):
    audit, editors = Audit(), Editors()

    @editors.editor("number", key=lambda connection, arguments: connection.id)
    def number(event: Event, id: str, arguments) -> Event:
        return attrs.evolve(event, data={"for": id})

    server = Server(plugins=[audit], editors=editors)
    async with (
        open_world(server) as world,
        world.open_client(topics=["town"]) as one,
        world.open_client(topics=["town"]) as two,
    ):
        ids = {each.id for each in server.hub.connections()}
        await server.publish(Event("plain", {"n": 1}), to=topic("town"))
        await server.publish(Event("edited", {}), to=everyone(), editors=[Edit("number")])
        await server.publish(Event("nobody"), to=topic("sea"))
        for client in (one, two):
            assert [(await client.receive()).name for _ in range(2)] == ["plain", "edited"]
        await wait_all_tasks_blocked()
        plain = [(id, event) for id, event in audit.heard if event.name == "plain"]
        assert {id for id, _ in plain} == ids
        assert plain[0][1] is plain[1][1], "one event for all"
        assert plain[0][1] == Event("plain", {"n": 1}, {"topic": "town"})
        assert {(id, event.data["for"]) for id, event in audit.heard if event.name == "edited"} == {
            (id, id) for id in ids
        }
        assert len(audit.heard) == 4


async def test_what_was_dropped_is_not_told(autojump_clock):
    audit = Audit()
    async with open_world(plugins=[audit]) as world, world.open_client() as client:
        client.weather.cut()
        await wait_all_tasks_blocked()
        await world.server.publish(Event("typing"), to=everyone(), delivery=volatile())
        await wait_all_tasks_blocked()
        assert audit.heard == []


# -- answers


class Dice:
    async def answer(self, connection, request):
        if request.action != "custom_roll":
            return NotImplemented
        if request.data == {"dice": 0}:
            raise RequestFailed(400, "bad_dice", "one die at least")
        await trio.sleep(1)
        return {"total": 4, "for": connection.user}


class Failing:
    async def answer(self, connection, request):
        if request.action == "custom_fail":
            raise OSError("nothing works")
        return NotImplemented


@pytest.fixture
async def client():
    router = Router()

    @router.action("custom_known")
    def known(connection, data) -> str:
        return "by the router"

    server = Server(router, plugins=[Failing(), Dice(), Audit()])
    async with open_world(server) as world, world.open_client() as client:
        yield client


async def test_the_first_plugin_that_knows_answers(client, autojump_clock):
    assert await client.request("custom_roll", {"dice": 1}) == {"total": 4, "for": "guest"}
    assert await client.request("custom_known") == "by the router"


@pytest.mark.parametrize(
    ("action", "data", "status"),
    [("custom_roll", {"dice": 0}, 400), ("custom_other", None, 404), ("roll", None, 404), ("custom_fail", None, 500)],
)
async def test_what_they_cannot_answer_fails_by_itself(action, data, status, client, autojump_clock):
    with pytest.raises(RequestFailed) as caught:
        await client.request(action, data)
    assert caught.value.status == status
    await client.request("ping")


# -- beside the hub


class Clock:
    """Tells the time, for as long as the hub runs."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self, server, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                await trio.sleep(1)
                await server.publish(Event("time", {"now": trio.current_time()}), to=everyone())
        finally:
            self.ended = True


async def test_a_plugin_runs_as_long_as_the_hub_and_may_publish(autojump_clock):
    clock = Clock()
    async with open_world(plugins=[clock]) as world, world.open_client() as client:
        assert (await client.receive()).name == "time"
        assert not clock.ended
    assert clock.ended


class Broken:
    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once

    async def run(self, server, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        if not self.at_once:
            task_status.started()
            await trio.sleep(1)
        raise OSError("the disk is gone")


async def test_one_that_fails_later_ends_alone(autojump_clock, caplog):
    async with open_world(plugins=[Broken(at_once=False), Clock()]) as world, world.open_client() as client:
        await trio.sleep(5)
        assert (await client.receive()).name == "time"
    assert "the disk is gone" in caplog.text


async def test_one_that_cannot_begin_is_told_to_whoever_starts_the_hub(autojump_clock):
    with pytest.raises(OSError, match="the disk is gone"):
        async with open_world(plugins=[Broken(at_once=True)]):
            raise AssertionError
