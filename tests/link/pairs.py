"""Two ends to talk between: a pair of links, or one link and a raw peer who may say anything, right or wrong."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import open_stream_to_socket_listener

from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.options import LinkOptions
from trio_hub.testing import Cable
from trio_hub.wire.frames import Received
from trio_hub.wire.reading import FrameReader

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
KEY = bytes.fromhex("37fa213d")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # linger for 0 seconds


def spoken(first: int, payload: bytes = b"", *, masked: bool = True) -> bytes:
    """Return a frame, whether it may be said or not; `first` is its first byte."""
    size = len(payload)
    if size < 126:
        lengths = bytes((size,))
    else:
        lengths = b"\x7e" + struct.pack(">H", size) if size < 65536 else b"\x7f" + struct.pack(">Q", size)
    if not masked:
        return bytes((first,)) + lengths + payload
    repeated = KEY * (size // 4 + 1)
    body = bytes(byte ^ key for byte, key in zip(payload, repeated, strict=False))
    return bytes((first, lengths[0] | 0x80)) + lengths[1:] + KEY + body


class RawPeer:
    """The far end of a link, frame by frame. `client` says which end it plays."""

    def __init__(self, stream: trio.abc.Stream, *, client: bool = True) -> None:
        self.stream = stream
        self._client = client
        self._frames = FrameReader(masked=not client, max_message=1 << 24, max_fragments=1 << 20)
        self._heard: list[Received] = []

    async def say(self, first: int, payload: bytes = b"") -> None:
        """Say one proper frame."""
        await self.stream.send_all(spoken(first, payload, masked=self._client))

    async def hear(self) -> Received | None:
        """Return the next frame's meaning, None at the end."""
        while not self._heard:
            data = await self.stream.receive_some(65536)
            if not data:
                return None
            self._heard += self._frames.feed(data)
        return self._heard.pop(0)

    async def hear_rest(self, at_a_time: int = 65536) -> list[Received]:
        """Return everything until the end, reading so many bytes at a time."""
        heard, self._heard = self._heard, []
        while data := await self.stream.receive_some(at_a_time):
            heard += self._frames.feed(data)
        return heard

    @property
    def midway(self) -> bool:
        """Whether what was heard ends in the middle of something."""
        return self._frames.midway


async def tcp_pair(buffer: int | None = None) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return both ends of a connection over loopback, the first with a send buffer of so many bytes."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        if buffer is not None:
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        near = await open_stream_to_socket_listener(listener)
        far = await listener.accept()
    if buffer is not None:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return near, far


@asynccontextmanager
async def linked(
    near: trio.abc.Stream, far: trio.abc.Stream, *, options: LinkOptions | None = None
) -> AsyncIterator[tuple[Link, Link]]:
    """Join a client's and a server's link, both of which can write; in the end both are closed at the same time."""
    client, server = Link(near, client=True, options=options), Link(far, client=False, options=options)
    async with open_tasks() as tasks:
        tasks.start_soon(client.writer.run)
        tasks.start_soon(server.writer.run)
        try:
            yield client, server
        finally:
            async with trio.open_nursery() as closing:
                closing.start_soon(client.close)
                closing.start_soon(server.close)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def linked_in_memory(*, options: LinkOptions | None = None) -> AsyncIterator[tuple[Link, Link]]:
    """A client's and a server's link over a cable."""
    cable = Cable()
    async with linked(cable.near, cable.far, options=options) as pair:
        yield pair


@asynccontextmanager
async def link_and_peer(
    *, client: bool = False, options: LinkOptions | None = None, cable: Cable | None = None
) -> AsyncIterator[tuple[Link, RawPeer]]:
    """A link over a cable (`client` says which end it is), and a raw peer at the other end."""
    cable = cable or Cable()
    async with Link(cable.near, client=client, options=options).running() as link:
        yield link, RawPeer(cable.far, client=not client)


async def receive(link: Link, count: int) -> list[str | bytes]:
    """Return the next messages, in as many reads as it takes."""
    messages: list[str | bytes] = []
    while len(messages) < count:
        messages += await link.receive()
    return messages


async def send_forever(link: Link, message: str | bytes) -> None:
    """Send until the link ends, and raise that."""
    while True:
        await link.send(message)


async def receive_forever(link: Link) -> None:
    """Receive until the link ends, and raise that."""
    while True:
        await link.receive()
