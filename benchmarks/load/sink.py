"""The far end of a fan-out: one epoll over many links, which counts what comes and looks at no more than it must.

It naps between two looks at its sockets, so no write ever has to wake it. A real listener lives on another machine:
waking a process on this one is not the server's work, but costs it more than all the rest where cores are virtual.

    python -m benchmarks.load.sink PORT OPENING LINKS UNIT ACK

Opens LINKS links, and answers. Then ``take WANTED SECONDS`` counts until so much has come on all links together, and
answers when that was, and what it cost. With a UNIT of 0 that is bytes, frame heads included; with ``compressed`` see
`MessageCounter`, else `FrameCounter`.
ACK says how events are acknowledged, ``json`` or ``cbor``, when they are 256 or 256 KiB, as our client does it; ``-``
for not at all.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

import cbor2

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import (
    READ_SIZE,
    FrameCounter,
    MessageCounter,
    Trouble,
    masked,
    open_links,
    run,
)

ACK_EVERY, ACK_SIZE = 256, 256 * 1024
NAP = 0.001  # s

ACKS: dict[str, Callable[[int], bytes]] = {
    "json": lambda number: masked(b'{"ack":%d}' % number),
    "cbor": lambda number: masked(cbor2.dumps({"ack": number}), opcode=0x2),
}


class Sink:
    """Takes what comes on all its links. `counts` are events, where they are acknowledged by `ack`."""

    def __init__(self, links: list[socket.socket], unit: str, ack: Callable[[int], bytes] | None) -> None:
        self._links = {link.fileno(): link for link in links}
        count = _counting(unit)
        self._counters = None if count is None else {fd: count() for fd in self._links}
        self._ack = ack
        self._counts = dict.fromkeys(self._links, 0)
        self._ack_every = min(ACK_EVERY, ACK_SIZE // int(unit)) if unit.isdigit() and int(unit) else ACK_EVERY
        self._ack_at = dict.fromkeys(self._links, self._ack_every)
        self._epoll = select.epoll()
        for fd in self._links:
            self._epoll.register(fd, select.EPOLLIN)

    def take(self, wanted: int, seconds: float) -> tuple[int, int]:
        """Read until so much has come; return bytes, and reads. Raises `Trouble` when it does not within the time."""
        deadline = time.monotonic() + seconds
        received = taken = reads = 0
        buffer = bytearray(READ_SIZE)
        read: dict[int, Callable[[bytearray], int]] = {fd: link.recv_into for fd, link in self._links.items()}
        poll, counters = self._epoll.poll, self._counters
        while received < wanted:
            for fd, _ in poll(0):
                size = read[fd](buffer)
                if not size:
                    raise Trouble("the server ended a link")
                taken += size
                reads += 1
                if counters is None:
                    received += size
                    continue
                units = counters[fd].feed(buffer, size)
                received += units
                if self._ack is not None:
                    self._count(fd, units)
            if received < wanted:
                time.sleep(NAP)
                if time.monotonic() > deadline:
                    raise Trouble(f"only {received} of {wanted} came within {seconds:g} s")
        if received > wanted:
            raise Trouble(f"{received - wanted} too many came")
        return taken, reads

    def _count(self, fd: int, events: int) -> None:
        count = self._counts[fd] = self._counts[fd] + events
        if count >= self._ack_at[fd]:  # the first event behind the greeting, which is event 0, is number 1
            assert self._ack is not None
            self._links[fd].send(self._ack(count))
            self._ack_at[fd] = count + self._ack_every


def _counting(unit: str) -> Callable[[], FrameCounter | MessageCounter] | None:
    """Return what makes the counter of one link; None where bytes are counted."""
    if unit == "compressed":
        return MessageCounter
    return partial(FrameCounter, int(unit)) if int(unit) else None


def main() -> None:
    port, opening, count, unit, ack = sys.argv[1:]
    links = open_links(port, opening, count)
    sink = Sink(links, unit, ACKS.get(ack))
    answer(links=len(links))
    while words := next_command():
        _, wanted, seconds = words
        cpu = time.process_time()
        taken, reads = sink.take(int(wanted), float(seconds))
        answer(ended=time.monotonic(), cpu=time.process_time() - cpu, bytes=taken, reads=reads)


if __name__ == "__main__":
    run(main)
