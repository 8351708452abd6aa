"""Plugins hear of a connection's moments, each once and in order, and cannot delay it."""

import pytest
import trio

from trio_hub import Event, Gap, HubOptions, Misuse, Server, everyone
from trio_hub.testing import open_world


class Diary:
    """Writes down what it hears."""

    def __init__(self, pause=0.0):
        self.pages = []
        self.connections = []  # of each page
        self.pause = pause

    def __getattr__(self, moment):
        if moment not in ("connected", "resumed", "gap", "taken_over", "disconnected", "expired", "request"):
            raise AttributeError(moment)

        async def write(connection, *details):
            await trio.sleep(self.pause)
            self.pages.append((moment, *(getattr(each, "action", each) for each in details)))
            self.connections.append(connection)

        return write

    def of(self, connection):
        return [page for page, each in zip(self.pages, self.connections, strict=True) if each is connection]

    @property
    def moments(self):
        return [page[0] for page in self.pages]


async def test_a_life_in_order(autojump_clock):
    diary = Diary()
    options = HubOptions(window=5)
    async with open_world(plugins=[diary], options=options) as world:
        async with world.open_client() as client:
            await client.request("ping")
            client.weather.cut_once()
            await trio.sleep(2)
            await client.request("ping")
            client.weather.abandon()
            await trio.sleep(2)
            await client.request("ping")
        await trio.sleep(10)
    assert diary.moments == [
        "connected", "request", "disconnected", "resumed", "request", "taken_over", "resumed", "request",
        "disconnected", "expired",
    ]  # fmt: skip
    assert [page for page in diary.pages if page[0] == "request"] == [("request", "ping")] * 3


async def test_a_gap_is_told(autojump_clock):
    from trio_hub import OutboxOptions

    diary = Diary()
    options = HubOptions(outbox=OutboxOptions(count=30, kept_count=10))
    async with open_world(plugins=[diary], options=options) as world, world.open_client() as client:
        client.weather.stall()
        for n in range(100):
            await world.server.publish(Event("e", n), to=everyone())
        await trio.sleep(1)
    assert ("gap", "overflow") in diary.pages


async def test_a_plugin_that_raises_is_logged_and_the_others_are_told(autojump_clock, caplog):
    class Clumsy:
        async def connected(self, connection):
            raise ZeroDivisionError

    diary = Diary()
    async with open_world(plugins=[Clumsy(), diary]) as world, world.open_client() as client:
        await client.request("ping")
        await trio.testing.wait_all_tasks_blocked()
        assert diary.moments == ["connected", "request"]
    assert "failed at 'connected'" in caplog.text


async def test_a_slow_plugin_delays_nobody_and_misses_requests_first(autojump_clock):
    diary = Diary(pause=100)
    options = HubOptions(hook_queue=8, window=1, hooks_end_within=5000)
    async with open_world(plugins=[diary], options=options) as world:
        async with world.open_client() as client:
            begun = trio.current_time()
            for _ in range(100):
                await client.request("ping")
            assert trio.current_time() - begun < 1
        await trio.sleep(10_000)
    assert diary.moments.count("request") == 4  # half the queue, no more
    assert diary.moments[0] == "connected"
    assert diary.moments[-2:] == ["disconnected", "expired"]


async def test_where_plugins_cannot_follow_the_connection_ends_and_nothing_is_left_untold(autojump_clock, caplog):
    diary = Diary(pause=100)
    options = HubOptions(hook_queue=8, hooks_end_within=5000)
    async with open_world(plugins=[diary], options=options) as world, world.open_client() as client:
        (first,) = world.server.hub.connections()
        while first in world.server.hub.connections():
            client.weather.cut_once()
            await trio.sleep(3)
        with pytest.raises(Gap, match="overflow"):
            await client.receive()
        await trio.sleep(10_000)
        moments = [page[0] for page in diary.of(first)]
    assert moments[0] == "connected"
    assert moments[1:-2] == ["disconnected", "resumed"] * (len(moments[1:-2]) // 2)
    assert moments[-2:] == ["disconnected", "expired"]
    assert "is given up" in caplog.text


async def test_a_server_that_is_cancelled_has_told_what_it_could(autojump_clock):
    """Plugins that wait for nothing hear of the end, also when there is no time left for it."""
    diary = Diary()
    async with open_world(plugins=[diary]) as world, world.open_link() as link:
        await link.receive()
        await world.server.drain()
        await trio.sleep(1)
    assert diary.moments == ["connected", "disconnected", "expired"]


async def test_without_plugins_there_is_no_hook_task(autojump_clock):
    async with open_world() as world:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with world.open_link() as link:
            await link.receive()
            quiet = trio.lowlevel.current_statistics().tasks_living - tasks
    async with open_world(plugins=[Diary()]) as world:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with world.open_link() as link:
            await link.receive()
            assert trio.lowlevel.current_statistics().tasks_living - tasks == quiet + 1


async def test_a_plugin_that_never_returns_is_given_up_when_the_connection_is_gone(autojump_clock, caplog):
    class Stuck:
        async def connected(self, connection):
            await trio.sleep_forever()

    options = HubOptions(window=1, hooks_end_within=10)
    async with open_world(plugins=[Stuck()], options=options) as world:
        before = trio.lowlevel.current_statistics().tasks_living
        async with world.open_link() as link:
            await link.receive()
        await trio.sleep(30)
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert "did not come to an end" in caplog.text


def test_a_plugin_is_an_object_and_not_its_class():
    with pytest.raises(Misuse, match="Diary"):
        Server(plugins=[Diary])
