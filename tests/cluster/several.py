"""Several nodes in one process, and people who come to one or the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_hub.app.auth import known_tokens
from trio_hub.app.router import Router
from trio_hub.app.topics import anybody
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.link.tasks import open_tasks
from trio_hub.server import Server
from trio_hub.testing.weather import Weather
from trio_hub.testing.world import World, open_world

PEOPLE = {"ann": "ann", "bob": "bob", "eve": "eve"}


class Cluster:
    """Servers that share a backplane, each in a task of its own. `arguments` are those of `Server`; `router` makes one
    for each.
    """

    def __init__(
        self,
        tasks: trio.Nursery,
        backplane: MemoryBackplane,
        arguments: dict[str, Any],
        router: Callable[[], Router] = Router,
    ) -> None:
        self._router = router
        self.backplane = backplane
        self.arguments = {"authenticate": known_tokens(PEOPLE), "may_publish": anybody, **arguments}
        self._tasks = tasks
        self._scopes: dict[World, trio.CancelScope] = {}

    async def start(self, name: str, *, settled: bool = True) -> World:
        """Start one more node, and wait until they have heard it, too, that were there before."""
        world: World = await self._tasks.start(self._run, name)
        if settled:
            await trio.sleep(1)
        return world

    async def _run(self, name: str, *, task_status: trio.TaskStatus[World]) -> None:
        with trio.CancelScope() as scope:
            server = Server(self._router(), backplane=self.backplane, node=name, **self.arguments)
            async with open_world(server) as world:
                self._scopes[world] = scope
                task_status.started(world)
                await trio.sleep_forever()

    def kill(self, world: World) -> None:
        """Have a node gone, without a word."""
        self._scopes.pop(world).cancel()

    async def replace(self, gone: World, name: str, roads: Iterable[Road]) -> World:
        """Have a node gone, without a word, and start another, to which the roads lead that led to the first."""
        stranded = [road for road in roads if road.to is gone]
        for road in stranded:
            road.cut()
        self.kill(gone)
        world = await self.start(name)
        for road in stranded:
            road.to = world
            road.mend()
        return world


@asynccontextmanager
async def open_cluster(
    *, backplane: MemoryBackplane | None = None, router: Callable[[], Router] = Router, **arguments: Any
) -> AsyncIterator[Cluster]:
    """A cluster without nodes, for the length of the block."""
    async with open_tasks() as tasks:
        yield Cluster(tasks, backplane or MemoryBackplane(), arguments, router)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def open_nodes(*names: str, **arguments: Any) -> AsyncIterator[tuple[MemoryBackplane, list[World]]]:
    """A cluster of these nodes, for the length of the block. Further arguments are those of `open_cluster`."""
    async with open_cluster(**arguments) as cluster:
        yield cluster.backplane, [await cluster.start(name) for name in names]


class Road(Weather):
    """Weather of somebody who may go to another node with the next link: `to` is where that leads."""

    def __init__(self, to: World) -> None:
        super().__init__(self._go)
        self.to = to

    def _go(self, stream: trio.abc.Stream) -> None:
        self.to.reach(stream)
