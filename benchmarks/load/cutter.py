"""A proxy that cuts: between clients and a server, the same for every contender.

    python -m benchmarks.load.cutter PORT CLIENTS

Listens on a port of its own for each client, hands on to PORT what it hears there, and answers with those ``ports``.
Then ``cut SECONDS`` begins: every client is cut as often, each at its own moment, with a reset to both sides. Every
second time it is in the midst of what the server says next. ``stop`` ends that and answers how often it was done.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import sys
from collections.abc import Iterator
from typing import cast

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import open_files, run

__all__ = ["Lane", "cut_moments"]

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time
MIDST_WITHIN = 0.2  # s, for the server to say something that can be cut in two


class Way(asyncio.Protocol):
    """One direction of a link: what comes here goes to `other`. What comes in the meantime waits in the kernel."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.transport: asyncio.Transport
        self.other: Way | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._link.came(self)

    def data_received(self, data: bytes) -> None:
        assert self.other is not None, "nothing is read before both sides are there"
        self._link.hand_on(self, self.other, data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.end(self)


class Link:
    """A client's link, and ours to the server behind it."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._ways: list[Way] = []  # the client's, the server's
        self._to_be_cut = False

    def came(self, way: Way) -> None:
        self._ways.append(way)
        if len(self._ways) == 1:
            way.transport.pause_reading()
            self._lane.open_behind(self)
            return
        client, server = self._ways
        client.other, server.other = server, client
        if client.transport.is_closing():
            self.reset()
        else:
            client.transport.resume_reading()

    def hand_on(self, way: Way, other: Way, data: bytes) -> None:
        """Pass data on; of the server's, where this is to be the end, the first half."""
        if not (self._to_be_cut and way is self._ways[-1] and len(data) > 1):
            other.transport.write(data)
            return
        other.transport.write(data[: len(data) // 2])
        self._lane.midst += 1
        self.reset()

    def cut_in_the_midst(self) -> None:
        """Reset when the server says something next, and at once where it is silent for long."""
        self._to_be_cut = True
        asyncio.get_running_loop().call_later(MIDST_WITHIN, self.reset)

    def reset(self) -> None:
        self._lane.links.discard(self)
        for way in self._ways:
            if not way.transport.is_closing():
                way.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                way.transport.abort()

    def end(self, way: Way) -> None:
        """One side has ended it; so the other does when it has what was said."""
        self._lane.links.discard(self)
        for each in self._ways:
            if each is not way:
                each.transport.close()


class Lane:
    """One client's way to the server."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._opening: set[asyncio.Task[None]] = set()
        self.links: set[Link] = set()
        self.cuts = 0
        self.midst = 0

    async def listen(self) -> int:
        """Return the port on which this client is awaited."""
        server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def _accept(self) -> Way:
        link = Link(self)
        self.links.add(link)
        return Way(link)

    def open_behind(self, link: Link) -> None:
        task = asyncio.create_task(self._open(link))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, link: Link) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Way(link), "127.0.0.1", self._upstream)
        except OSError:
            link.reset()

    async def cut_at(self, moments: Iterator[float], *, midst: bool) -> None:
        """Cut whatever this client has whenever it is time, every second time in the midst of what it hears."""
        begun = asyncio.get_running_loop().time()
        for moment in moments:
            await asyncio.sleep(begun + moment - asyncio.get_running_loop().time())
            for link in list(self.links):
                self.cuts += 1
                if midst:
                    link.cut_in_the_midst()
                else:
                    link.reset()
            midst = not midst


def cut_moments(number: int, clients: int, every: float) -> Iterator[float]:
    """Yield when client `number` is cut, in seconds: as often as all, and at no other's moment; without an end."""
    first = every * (number + 1) / (clients + 1)
    return (first + every * turn for turn in itertools.count())


async def _main(upstream: int, clients: int) -> None:
    lanes = [Lane(upstream) for _ in range(clients)]
    answer(ports=[await lane.listen() for lane in lanes])
    cutting: list[asyncio.Task[None]] = []
    while words := await asyncio.to_thread(next_command):
        if words[0] == "cut":
            moments = [cut_moments(number, clients, float(words[1])) for number in range(clients)]
            ways = enumerate(zip(lanes, moments, strict=True))
            cutting = [asyncio.create_task(lane.cut_at(when, midst=bool(n % 2))) for n, (lane, when) in ways]
            continue
        for task in cutting:
            task.cancel()
        answer(cuts=sum(lane.cuts for lane in lanes), midst=sum(lane.midst for lane in lanes))


def main() -> None:
    upstream, clients = map(int, sys.argv[1:])
    open_files()
    asyncio.run(_main(upstream, clients))


if __name__ == "__main__":
    run(main)
