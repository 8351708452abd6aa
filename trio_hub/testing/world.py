"""A server in memory, and whoever connects to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_hub.app.topics import anybody
from trio_hub.link.dialing import Address
from trio_hub.link.link import Link
from trio_hub.link.listening import guard
from trio_hub.link.opening import request_link
from trio_hub.link.tasks import open_tasks
from trio_hub.options import ClientOptions, LinkOptions
from trio_hub.peer.client import Client, Token
from trio_hub.peer.mailbox import Position
from trio_hub.server import Server
from trio_hub.testing.cable import Cable
from trio_hub.testing.script import ScriptedClient
from trio_hub.testing.weather import Weather

__all__ = ["WeatheredClient", "World", "open_hub_and_client", "open_world"]


class WeatheredClient(Client):
    """A client with `weather`."""

    weather: Weather


class World:
    """A server that can be reached by cables of memory alone."""

    def __init__(self, server: Server, tasks: trio.Nursery) -> None:
        self.server = server
        self._tasks = tasks

    def reach(self, stream: trio.abc.Stream) -> None:
        """Give the server a stream, as if it had accepted it."""
        self._tasks.start_soon(guard, self.server.serve_stream, stream)

    @asynccontextmanager
    async def open_client(
        self,
        *,
        topics: Iterable[str] = (),
        token: Token | None = None,
        resume: Position | None = None,
        options: ClientOptions | None = None,
        weather: Weather | None = None,
    ) -> AsyncIterator[WeatheredClient]:
        """Be connected for the length of the block; the hub has greeted the client.

        Its `weather` is its own, unless one was made for it beforehand: ``Weather(world.reach)``.
        """
        weather = weather or Weather(self.reach)
        client = WeatheredClient(
            Address.parse("ws://memory/ws"),
            token=token,
            position=resume,
            options=options or ClientOptions(),
            open_stream=weather.open_stream,
            on_status=lambda status: None,
        )
        client.weather = weather
        async with client.running():
            await client.connected()
            for topic in topics:
                await client.subscribe(topic)
            yield client

    @asynccontextmanager
    async def open_link(
        self,
        resource: str = "/ws",
        *,
        subprotocols: Sequence[str] = (),
        headers: dict[str, str] | None = None,
        options: LinkOptions | None = None,
        cable: Cable | None = None,
    ) -> AsyncIterator[Link]:
        """Open a bare link to the server, for conversations message by message."""
        cable = cable or Cable()
        self.reach(cable.far)
        link = await request_link(
            cable.near, host="memory", resource=resource, subprotocols=subprotocols, headers=headers, options=options
        )
        async with link.running():
            yield link

    @asynccontextmanager
    async def open_scripted_client(self, *, cable: Cable | None = None) -> AsyncIterator[ScriptedClient]:
        """Play a client of the server, frame by frame, beginning with its request."""
        cable = cable or Cable()
        self.reach(cable.far)
        try:
            yield ScriptedClient(cable.near)
        finally:
            cable.near.hang_up()


@asynccontextmanager
async def open_world(server: Server | None = None, **arguments: Any) -> AsyncIterator[World]:
    """Run a server in memory for the length of the block: the given one, or one that lets everybody do everything.

    `arguments` are those of `Server`, where none is given.
    """
    server = server or Server(**{"may_publish": anybody, **arguments})
    async with open_tasks() as tasks:
        await tasks.start(server.hub.run)
        yield World(server, tasks)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_hub_and_client(
    server: Server | None = None, *, topics: Iterable[str] = (), **arguments: Any
) -> AsyncIterator[tuple[Server, WeatheredClient]]:
    """Run a server and one client in memory for the length of the block."""
    async with open_world(server, **arguments) as world, world.open_client(topics=topics) as client:
        yield world.server, client
