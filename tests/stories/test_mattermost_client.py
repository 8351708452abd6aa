"""The unmodified client of Mattermost stays with our server through bad weather: real sockets, real time.

The client is the npm package, in a Node process (`tests/mattermost`); it dials a proxy that loses its links. What it
does not notice is what we promise: it counts events strictly, so one that is lost, doubled or out of order makes it
dial anew, and a connection that could not be resumed makes it run its missed-message listeners.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.stories.proxy import Proxy
from trio_hub import (
    CloseCode,
    CloseReason,
    Connection,
    Event,
    HubOptions,
    LinkOptions,
    Server,
    everyone,
    known_tokens,
    user,
)
from trio_hub.link.tasks import open_tasks

CLIENT = Path(__file__).parents[1] / "mattermost"
TOKENS = {"secret": "ann"}
PATIENCE = 30.0  # s, for each story; they take one or two
SELDOM = 30.0  # s between the client's pings: never within a story


@pytest.fixture(autouse=True)
def client_is_installed() -> None:
    """Skip where the client cannot run, except in CI, where that must not go unnoticed."""
    if shutil.which("node") is None:
        missing = "there is no `node`"
    elif not (CLIENT / "node_modules" / "@mattermost" / "client").is_dir():
        missing = "the client is not installed: npm ci --prefix tests/mattermost"
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@attrs.define
class Listener:
    """The client in its process, and everything it has told."""

    told: list[dict[str, Any]] = attrs.field(factory=list)
    _more: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, url: str, token: str, ping_every: float) -> None:
        command = ["node", str(CLIENT / "listen.mjs"), url, token, str(round(ping_every * 1000))]
        async with trio.open_nursery() as tasks:
            start = partial(trio.run_process, command, stdout=subprocess.PIPE)
            process: trio.Process = await tasks.start(start)
            assert process.stdout is not None
            rest = b""
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                self.told += map(json.loads, lines)
                self._more.set()
                self._more = trio.Event()

    def all(self, what: str) -> list[dict[str, Any]]:
        """Everything of this kind that it has told so far."""
        return [one for one in self.told if one["what"] == what]

    @property
    def hellos(self) -> list[dict[str, Any]]:
        return [one for one in self.all("event") if one["event"] == "hello"]

    @property
    def numbers(self) -> list[int]:
        """The numbers that the story said, as they arrived."""
        return [one["data"]["number"] for one in self.all("event") if one["event"] == "posted"]

    async def wait_until(self, fulfilled: Callable[[], bool]) -> None:
        while not fulfilled():
            await self._more.wait()


class Witness:
    """A plugin that notes the moments of all connections."""

    def __init__(self) -> None:
        self.taken_over_count = 0
        self.one_left = trio.Event()
        self.one_expired = trio.Event()

    async def taken_over(self, connection: Connection) -> None:
        self.taken_over_count += 1

    async def disconnected(self, connection: Connection, close: CloseReason | None) -> None:
        self.one_left.set()

    async def expired(self, connection: Connection) -> None:
        self.one_expired.set()


@attrs.define
class Story:
    """A server, a client, and the road between them."""

    server: Server
    proxy: Proxy
    listener: Listener
    witness: Witness
    said: int = 0

    def say(self, times: int = 1) -> None:
        """Publish the next numbers, all at once."""
        for _ in range(times):
            target = user("ann") if self.said % 2 else everyone()
            self.server.hub.publish_nowait(Event("posted", {"number": self.said}), to=target)
            self.said += 1

    async def all_heard(self) -> None:
        """Wait until everything said so far has arrived."""
        await self.listener.wait_until(lambda: self.said - 1 in self.listener.numbers[-1:])

    async def talk(self, times: int) -> None:
        """Publish the next numbers, each when the one before has arrived."""
        for _ in range(times):
            self.say()
            await self.all_heard()

    async def lose_link(self, cut: Callable[[], None], *, burst: int = 20) -> None:
        """Lose the link while much is said: some of it on the way, torn in the middle, and some while it is away."""
        await self.talk(5)
        self.proxy.tear()
        self.say(burst)
        await self.proxy.torn()
        cut()
        self.say(burst)
        await self.all_heard()

    def assert_nothing_is_missing(self, cuts: int) -> None:
        """Everything said has arrived once and in order, in one stay that was resumed `cuts` times or more."""
        listener, statistics = self.listener, self.server.hub.statistics()
        assert listener.numbers == list(range(self.said))
        assert [event["seq"] for event in listener.all("event")] == list(range(self.said + 1))
        assert listener.all("missed") == []
        (hello,) = listener.hellos
        assert [connection.id for connection in self.server.hub.connections()] == [hello["data"]["connection_id"]]
        assert len(listener.all("first_connect")) == 1
        assert len(listener.all("reconnect")) >= cuts
        assert statistics.resumed >= cuts
        assert statistics.gaps == 0


@asynccontextmanager
async def open_story(
    *, token: str = "secret", ping_every: float = SELDOM, options: HubOptions | None = None
) -> AsyncIterator[Story]:
    """Run a server, a proxy before it and the client; with a good token, it is connected already."""
    with trio.fail_after(PATIENCE):
        witness, listener = Witness(), Listener()
        server = Server(authenticate=known_tokens(TOKENS), plugins=[witness], options=options)
        async with open_tasks() as tasks:
            (listening,) = await tasks.start(server.serve)
            proxy = Proxy(listening.socket.getsockname()[1])
            await tasks.start(proxy.run)
            url = f"ws://127.0.0.1:{proxy.port}/api/v4/websocket"
            tasks.start_soon(listener.run, url, token, ping_every)
            if token in TOKENS:
                await listener.wait_until(lambda: listener.hellos != [])
            yield Story(server, proxy, listener, witness)
            tasks.cancel_scope.cancel()


# -- links that are lost -----------------------------------------------------------------------------------------


async def test_it_misses_nothing_however_its_link_is_lost():
    async with open_story() as story:
        for _ in range(8):
            for cut in (story.proxy.reset, story.proxy.close_cleanly, story.proxy.abandon):
                await story.lose_link(cut)
        await story.talk(5)
        story.assert_nothing_is_missing(cuts=24)
    assert story.witness.taken_over_count >= 8  # the abandoned links: they looked alive


async def test_it_misses_nothing_when_the_server_says_goodbye_to_a_silent_link():
    link = LinkOptions(ping_interval=0.1, pong_timeout=0.1, close_timeout=0.1)
    async with open_story(options=HubOptions(link=link)) as story:
        for _ in range(4):
            await story.talk(5)
            story.proxy.mute()
            goodbyes = len(story.listener.all("closed"))
            await story.listener.wait_until(lambda so_far=goodbyes: len(story.listener.all("closed")) > so_far)
            story.say(20)
            await story.all_heard()
        story.assert_nothing_is_missing(cuts=4)
    assert {one["code"] for one in story.listener.all("closed")} == {CloseCode.LOST_PATIENCE}


async def test_it_misses_nothing_when_it_is_the_one_that_notices_a_dead_link():
    async with open_story(ping_every=0.1) as story:
        for _ in range(4):
            await story.lose_link(story.proxy.freeze)
        story.assert_nothing_is_missing(cuts=4)
    assert story.witness.taken_over_count >= 4


async def test_it_misses_nothing_after_dials_that_failed():
    async with open_story() as story:
        await story.talk(5)
        for failures in (1, 3, 9):
            story.proxy.refuse()
            dials = len(story.listener.all("dial"))
            story.proxy.reset()
            story.say(20)
            await story.listener.wait_until(lambda enough=dials + failures: len(story.listener.all("dial")) > enough)
            story.proxy.accept()
            await story.all_heard()
        story.assert_nothing_is_missing(cuts=3)


async def test_after_the_window_it_is_told_once_that_it_missed_something():
    async with open_story(options=HubOptions(window=0.5)) as story:
        listener = story.listener
        await story.talk(5)
        story.proxy.refuse()
        story.proxy.reset()
        await story.witness.one_left.wait()
        story.say(5)  # these are lost: nobody keeps them for longer than the window
        await story.witness.one_expired.wait()
        story.proxy.accept()
        await listener.wait_until(lambda: len(listener.hellos) == 2)
        await story.talk(5)
        await story.lose_link(story.proxy.reset)

        first, second = (hello["data"] for hello in listener.hellos)
        assert len(listener.all("missed")) == 1
        assert first["connection_id"] != second["connection_id"]
        assert "gap" not in first
        assert second["gap"] == {"reason": "expired", "last": 5}
        assert listener.numbers == [*range(5), *range(10, story.said)]
        assert [one["seq"] for one in listener.all("event")] == [*range(6), *range(story.said - 10 + 1)]
        assert story.server.hub.statistics().gaps == 1
        assert story.server.hub.statistics().resumed == 1


# -- who it is, and signs of life --------------------------------------------------------------------------------


async def test_a_wrong_token_is_refused_and_hears_nothing():
    async with open_story(token="wrong") as story:
        listener = story.listener
        for dials in range(1, 6):
            await listener.wait_until(lambda enough=dials: len(listener.all("closed")) >= enough)
            story.say()
        assert {(one["code"], one["reason"]) for one in listener.all("closed")} == {
            (CloseCode.NOT_AUTHENTICATED, "the token is not known")
        }
        assert {one["error"]["status_code"] for one in listener.all("reply")} == {401}
        assert listener.all("event") == []
        assert story.server.hub.connections() == []


async def test_its_pings_are_answered_in_time():
    async with open_story(ping_every=0.4) as story:
        listener = story.listener
        await listener.wait_until(lambda: len(listener.all("reply")) > 5)
        challenge, *pings = listener.all("reply")
        assert challenge["status"] == "OK"
        assert [one["seq_reply"] for one in pings] == list(range(2, 2 + len(pings)))
        assert {one["data"]["text"] for one in pings} == {"pong"}
        assert len(listener.all("dial")) == 1
        assert listener.all("close") == []
