"""A WebSocket client by hand, as far as a load needs one: an upgrade, frames that are masked with zeros, frames' sizes.

A mask of four zeros costs a server what any mask does, and us nothing.
"""

from __future__ import annotations

import json
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import Opening
from benchmarks.conversation import answer

__all__ = [
    "READ_SIZE",
    "FrameCounter",
    "MessageCounter",
    "Trouble",
    "frame_size",
    "masked",
    "open_files",
    "open_links",
    "opening_from",
    "payload_of",
    "read_frame",
    "request_head",
    "run",
    "take_messages",
    "upgrade",
]

READ_SIZE = 256 * 1024
PATIENCE = 20.0  # s, for one upgrade
_FIN_AND_RSV1 = 0xC0


class Trouble(Exception):
    """The server did not do what was agreed."""


def run(main: Callable[[], None]) -> None:
    """Run a load's `main`, and tell whoever started us of its trouble."""
    try:
        main()
    except (Trouble, OSError) as trouble:
        answer(failed=f"{type(trouble).__name__}: {trouble}")


def open_files() -> None:
    """Allow as many open sockets as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def opening_from(word: str) -> Opening:
    """Return the opening that a scenario has put into one word."""
    return Opening(**json.loads(word))


def request_head(port: int, opening: Opening, query: str = "") -> bytes:
    """Return the request for an upgrade; `query` is added to its target."""
    lines = [
        f"GET {opening.target}{query} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    if opening.subprotocol != "-":
        lines.append(f"Sec-WebSocket-Protocol: {opening.subprotocol}")
    if opening.extensions:
        lines.append(f"Sec-WebSocket-Extensions: {opening.extensions}")
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade(port: int, opening: Opening) -> tuple[socket.socket, bytes]:
    """Open one link, greetings included; return it, and what came behind them. It does not block from then on."""
    link = socket.create_connection(("127.0.0.1", port), PATIENCE)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(request_head(port, opening))
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(link)
    head, _, data = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise Trouble(f"the upgrade was answered with {head[:100]!r}")
    for number in range(max(opening.greetings, 1)):
        if number < opening.greetings:
            _, data = read_frame(link, data)
        if number == 0 and opening.said:
            link.sendall(masked(opening.said.encode()))
    link.setblocking(False)
    return link, data


def open_links(port: str, opening: str, count: str) -> list[socket.socket]:
    """Open links as a command line says it. Raises `Trouble` where more comes than the greetings."""
    open_files()
    opened = [upgrade(int(port), opening_from(opening)) for _ in range(int(count))]
    if any(data for _, data in opened):
        raise Trouble("more came than the greetings")
    return [link for link, _ in opened]


def read_frame(link: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    """Wait for a whole frame that begins with `data`; return it, and what came behind it."""
    while (size := frame_size(data)) > len(data):
        data += _more(link)
    return data[:size], data[size:]


def _more(link: socket.socket) -> bytes:
    data = link.recv(READ_SIZE)
    if not data:
        raise Trouble("the server ended a link")
    return data


def frame_size(data: bytes | bytearray) -> int:
    """Return the size of the whole frame that begins here: of 4 bytes at least, to have its own size read."""
    if len(data) < 4:
        return 4
    size = data[1] & 0x7F
    return size + 2 if size < 126 else int.from_bytes(data[2:4], "big") + 4


def payload_of(frame: bytes) -> bytes:
    """Return what a whole frame of a server carries: of less than 64 KiB, as all that we look into."""
    return frame[2 if frame[1] < 126 else 4 :]


def masked(payload: bytes, *, opcode: int = 0x1) -> bytes:
    """Return a client's frame, text unless told."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + b"\0\0\0\0" + payload


def take_messages(data: bytes) -> tuple[list[Any], bytes]:
    """Return the messages of all whole frames of JSON, a batch's each by itself, and what is left behind them."""
    messages: list[Any] = []
    while (size := frame_size(data)) <= len(data):
        said = json.loads(payload_of(data[:size]))
        messages += said if isinstance(said, list) else [said]
        data = data[size:]
    return messages, data


class FrameCounter:
    """Adds up what the frames of one link carry, in units of `unit` payload bytes; each frame's to the nearest.

    So the brackets and commas of a batch of events do not matter where a unit is an event, and where it is 1, bytes
    are counted. What is read of a frame is its head. Other frames than data are not expected.
    """

    __slots__ = ("_begun", "_half", "_skip", "_unit")

    def __init__(self, unit: int) -> None:
        self._unit = unit
        self._half = unit // 2
        self._skip = 0  # bytes of the last frame that are still to come
        self._begun = b""  # a head that is not all there

    def feed(self, buffer: bytes | bytearray, size: int) -> int:
        """Return how many units begin in the first `size` bytes of this read."""
        if self._begun:
            buffer = self._begun + buffer[:size]
            size, self._begun = len(buffer), b""
        units, at = 0, self._skip
        while at + 4 <= size:
            length = buffer[at + 1]
            if length < 126:
                at += 2
            elif length == 126:
                length = buffer[at + 2] << 8 | buffer[at + 3]
                at += 4
            elif at + 10 <= size:
                length = int.from_bytes(buffer[at + 2 : at + 10], "big")
                at += 10
            else:
                break
            units += (length + self._half) // self._unit
            at += length
        self._skip = max(at - size, 0)
        if at < size:
            self._begun = bytes(buffer[at:size])
        return units


class MessageCounter:
    """Counts the messages of one link that are there to their last byte, where each is one frame and is compressed.

    How large they are nobody knows before. The first is looked at: `Trouble` where it is not compressed.
    """

    __slots__ = ("_begun", "_is_first", "_missing")

    def __init__(self) -> None:
        self._missing = 0  # bytes of the last frame that are still to come
        self._begun = b""  # a head that is not all there
        self._is_first = True

    def feed(self, buffer: bytes | bytearray, size: int) -> int:
        """Return how many messages end in the first `size` bytes of this read."""
        if self._begun:
            buffer = self._begun + buffer[:size]
            size, self._begun = len(buffer), b""
        at = self._missing
        messages = 1 if 0 < at <= size else 0
        while at + 4 <= size:
            if self._is_first:
                self._check(buffer[at])
            at += frame_size(buffer[at : at + 4])
            if at <= size:
                messages += 1
        self._missing = max(at - size, 0)
        if at < size:
            self._begun = bytes(buffer[at:size])
        return messages

    def _check(self, byte: int) -> None:
        self._is_first = False
        if byte & 0xF0 != _FIN_AND_RSV1:
            raise Trouble("a message was not compressed, or not in one frame")
