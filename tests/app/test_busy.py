"""A busy server refuses what can wait, pauses what nobody misses, and is itself again without being told."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_hub import (
    BusyOptions,
    Event,
    HubOptions,
    PresenceOptions,
    RequestFailed,
    Router,
    Server,
    TypingOptions,
    everyone,
)
from trio_hub.testing import open_world


@attrs.frozen
class Nothing:
    """No data."""


def make_server(**arguments) -> Server:
    router = Router()

    @router.action("report", critical=False)
    def report(connection, data: Nothing) -> str:
        return "done"

    return Server(router, **arguments)


async def test_what_can_wait_is_refused_for_the_time(autojump_clock):
    async with open_world(make_server()) as world, world.open_client() as client:
        assert await client.request("report") == "done"
        world.server.busy.set(10)
        assert world.server.busy
        with pytest.raises(RequestFailed, match="503 busy"):
            await client.request("report")
        await client.request("ping")
        await client.subscribe("town")
        await trio.sleep(10.5)
        assert not world.server.busy
        assert await client.request("report") == "done"
        world.server.busy.set(1000)
        world.server.busy.clear()
        assert await client.request("report") == "done"


async def test_presence_and_typing_pause_and_presence_catches_up(autojump_clock):
    server = make_server(presence=PresenceOptions(), typing=TypingOptions())
    async with open_world(server) as world, world.open_client(topics=["town"]) as client:
        await client.request("watch", {"topic": "town"})
        await client.request("set_open", {"topic": "town"})
        await trio.sleep(1)
        server.busy.set(10)
        for action in ("presence", "watch", "user_typing", "get_statuses"):
            with pytest.raises(RequestFailed, match="503"):
                await client.request(action, {"topic": "town", "channel_id": "town", "user_ids": []})
        assert not server.typing.tell("ann", "town", {})
        await client.request("set_active", {"active": False})
        published = server.hub.statistics().published
        await trio.sleep(5)
        assert server.hub.statistics().published == published
        await trio.sleep(6)
        assert server.hub.statistics().published == published + 1


async def test_a_full_inbox_is_busy_until_it_has_been_calm_for_a_while(autojump_clock):
    server = make_server(options=HubOptions(inbox=8), busy=BusyOptions(calm=5, every=0.25))
    await fill(server)
    async with trio.open_nursery() as tasks:
        # The hub does not run yet: that is what a full inbox looks like.
        await tasks.start(server.busy.run)
        await trio.sleep(0.3)
        assert server.busy
        await trio.sleep(60)
        assert server.busy
        await tasks.start(server.hub.run)
        await trio.sleep(4.5)
        assert server.busy
        await trio.sleep(1.5)
        assert not server.busy
        tasks.cancel_scope.cancel()


async def fill(server: Server) -> None:
    while server.hub.inbox_fullness < 1:
        server.hub.publish_nowait(Event("tick"), to=everyone())


async def test_a_loop_that_comes_late_is_busy(autojump_clock):
    server = make_server(busy=BusyOptions(lag=0.5, every=0.25, calm=5))
    async with open_world(server) as world, world.open_client() as client:
        await trio.sleep(1)
        autojump_clock.jump(0.4)  # as if somebody had not let the loop go on for so long
        await wait_all_tasks_blocked()
        assert not server.busy
        autojump_clock.jump(0.9)
        await wait_all_tasks_blocked()
        assert server.busy
        with pytest.raises(RequestFailed, match="503"):
            await client.request("report")
        await trio.sleep(6)
        assert not server.busy
