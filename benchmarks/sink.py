"""The far end of many links, as cheap as Python allows: raw sockets, one epoll, bytes counted and never looked at.

It naps between two looks at its sockets, so no write ever has to wake it. A real listener lives on another machine:
waking a process on this one is not the server's work, but costs it more than all the rest where cores are virtual.

    python -m benchmarks.sink PORT TARGET SUBPROTOCOL LINKS GREETINGS ACK

Upgrades LINKS links by hand, swallows GREETINGS frames on each, and answers. Then ``take BYTES SECONDS`` counts until
that many bytes have come on all links together, and answers when that was, and what it cost. ACK is the size of a
frame where events must be acknowledged (``trio-hub.v1.json``), else 0; they are, 64 at a time as our client does it.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable

from benchmarks.conversation import answer, next_command

ACK_EVERY = 64
READ_SIZE = 256 * 1024
NAP = 0.001  # s
PATIENCE = 10.0  # s, for one upgrade


class Trouble(Exception):
    """The server did not do what was agreed."""


def upgrade(port: int, target: str, subprotocol: str, greetings: int) -> tuple[socket.socket, int]:
    """Open one link; return it, and how many bytes came behind what it begins with."""
    link = socket.create_connection(("127.0.0.1", port), PATIENCE)
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    if subprotocol != "-":
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    link.sendall("\r\n".join([*lines, "", ""]).encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += more(link)
    head, _, data = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise Trouble(f"the upgrade was answered with {head[:100]!r}")
    for _ in range(greetings):
        while (size := frame_size(data)) > len(data):
            data += more(link)
        data = data[size:]
    link.setblocking(False)
    return link, len(data)


def more(link: socket.socket) -> bytes:
    data = link.recv(READ_SIZE)
    if not data:
        raise Trouble("the server ended a link")
    return data


def frame_size(data: bytes) -> int:
    """Return the size of the whole frame that begins here: of 2 bytes at least, to have its own size read."""
    if len(data) < 4:
        return 4
    size = data[1] & 0x7F
    return size + 2 if size < 126 else int.from_bytes(data[2:4], "big") + 4


def acknowledgement(number: int) -> bytes:
    """Return a client's frame; its mask is four zeros, which costs the server what any mask does."""
    text = b'{"ack":%d}' % number
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


class Sink:
    """Takes what comes on all its links. With `ack_size`, acknowledges it by frames of that size."""

    def __init__(self, links: list[socket.socket], received: int, ack_size: int) -> None:
        self._links = {link.fileno(): link for link in links}
        self._early = received
        self._ack_size = ack_size
        self._counts = dict.fromkeys(self._links, 0)
        self._ack_at = dict.fromkeys(self._links, ACK_EVERY * ack_size)
        self._epoll = select.epoll()
        for fd in self._links:
            self._epoll.register(fd, select.EPOLLIN)

    def take(self, wanted: int, seconds: float) -> None:
        """Read until `wanted` bytes have come. Raises `Trouble` when they do not within so many seconds."""
        deadline = time.monotonic() + seconds
        received, self._early = self._early, 0
        buffer = bytearray(READ_SIZE)
        read: dict[int, Callable[[bytearray], int]] = {fd: link.recv_into for fd, link in self._links.items()}
        poll, ack_size = self._epoll.poll, self._ack_size
        while received < wanted:
            for fd, _ in poll(0):
                size = read[fd](buffer)
                if not size:
                    raise Trouble("the server ended a link")
                received += size
                if ack_size:
                    count = self._counts[fd] = self._counts[fd] + size
                    if count >= self._ack_at[fd]:
                        self._acknowledge(fd, count)
            if received < wanted:
                time.sleep(NAP)
                if time.monotonic() > deadline:
                    raise Trouble(f"only {received} of {wanted} bytes came within {seconds:g} s")
        if received > wanted:
            raise Trouble(f"{received - wanted} bytes too many came")

    def _acknowledge(self, fd: int, count: int) -> None:
        number = count // self._ack_size  # the first event behind the greeting, which is event 0, is number 1
        self._links[fd].send(acknowledgement(number))
        self._ack_at[fd] = (number + ACK_EVERY) * self._ack_size


def main() -> None:
    port, target, subprotocol, count, greetings, ack_size = sys.argv[1:]
    opened = [upgrade(int(port), target, subprotocol, int(greetings)) for _ in range(int(count))]
    sink = Sink([link for link, _ in opened], sum(size for _, size in opened), int(ack_size))
    answer(links=len(opened))
    while words := next_command():
        _, wanted, seconds = words
        cpu = time.process_time()
        sink.take(int(wanted), float(seconds))
        answer(ended=time.monotonic(), cpu=time.process_time() - cpu)


if __name__ == "__main__":
    try:
        main()
    except (Trouble, OSError) as trouble:
        answer(failed=str(trouble))
