"""Somebody who opens many links as quickly as the server lets him: one epoll, a bounded number of dials under way.

    python -m benchmarks.load.dialer PORT OPENING LINKS FLIGHT

Answers, and then does ``open SECONDS`` (every link, up to its greeting), ``reset`` (lose them all at once) or
``reset KEPT`` (all but the first so many), and, at a hub, ``resume EVENTS SECONDS``: open them again where each of them
was, hear that it is resumed, and then exactly so many events. ``open`` and ``resume`` answer when they began and ended,
and what they cost. ``check EVENTS`` looks at all that came on every link behind a resume, which is not done while time
is measured. Where the opening's target has ``{number}`` in it, that is each link's own.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import (
    READ_SIZE,
    Trouble,
    frame_size,
    open_files,
    opening_from,
    request_head,
    run,
    take_messages,
)

HEAD_END = b"\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is not sent is forgotten, and no port is waited for
EVENT = b'"event":"tick"'
RESUMED = b'{"resumed":'
id_in = re.compile(rb'"connection_id":"([a-z0-9]{26})"').search

Done = Callable[[bytes], bool]
"""Whether what a link has said, behind the head, is all that is waited for. Raises `Trouble` where it is wrong."""


class Dialer:
    """Opens links to one server. `said` is what came on each of them."""

    def __init__(self, port: int, flight: int) -> None:
        self._address = ("127.0.0.1", port)
        self._flight = flight
        self._epoll = select.epoll()
        self._dialed: dict[int, tuple[int, socket.socket]] = {}  # by descriptor: which one it is
        self._links: list[socket.socket] = []
        self.said: list[bytes] = []

    def open(self, heads: Sequence[bytes], done: Done, seconds: float) -> None:
        """Open one link with each of these heads, and wait until all are done."""
        deadline = time.monotonic() + seconds
        self.said = [b""] * len(heads)
        waiting = iter(enumerate(heads))
        left = len(heads)
        for number, _ in islice(waiting, self._flight):
            self._dial(number)
        while left:
            if time.monotonic() > deadline:
                raise Trouble(f"{left} links were not open within {seconds:g} s")
            for fd, ready in self._epoll.poll(1):
                number, link = self._dialed[fd]
                if ready & select.EPOLLOUT:
                    link.send(heads[number])
                    self._epoll.modify(fd, select.EPOLLIN)
                elif self._hear(number, link, done):
                    left -= 1
                    self._epoll.unregister(fd)
                    del self._dialed[fd]
                    if (following := next(waiting, None)) is not None:
                        self._dial(following[0])

    def _dial(self, number: int) -> None:
        link = socket.socket()
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        link.connect_ex(self._address)
        self._links.append(link)
        self._dialed[link.fileno()] = number, link
        self._epoll.register(link.fileno(), select.EPOLLOUT)

    def _hear(self, number: int, link: socket.socket, done: Done) -> bool:
        data = link.recv(READ_SIZE)
        if not data:
            raise Trouble(f"the server ended a link behind {self.said[number][:100]!r}")
        said = self.said[number] = self.said[number] + data
        if not said.startswith(b"HTTP/1.1 101"[: len(said)]):
            raise Trouble(f"the upgrade was answered with {said[:100]!r}")
        _, end, rest = said.partition(HEAD_END)
        return bool(end) and done(rest)

    def hear_rest(self) -> None:
        """Add to `said` what came since."""
        for number, link in enumerate(self._links):
            try:
                while data := link.recv(READ_SIZE):
                    self.said[number] += data
            except BlockingIOError:
                continue
            raise Trouble("the server ended a link")

    def reset(self, kept: int = 0) -> None:
        """Lose every link, but the first so many."""
        for link in self._links[kept:]:
            link.close()
        del self._links[kept:]


def numbered(head: bytes, number: int) -> bytes:
    """Return a head with a number where it has a place for one."""
    return head.replace(b"{number}", b"%d" % number)


def is_greeted(greetings: int) -> Done:
    """Return what waits for so many greetings: none, or one to its last byte."""
    return lambda rest: not greetings or frame_size(rest) <= len(rest)


def has_resumed(events: int) -> Done:
    """Return what waits for the word that a link is resumed, and for so many events behind it."""

    def done(rest: bytes) -> bool:
        if len(rest) > 16 and RESUMED not in rest[:16]:
            raise Trouble(f"a link was not resumed: {rest[:100]!r}")
        count = rest.count(EVENT)
        if count > events:
            raise Trouble(f"{count} events came where {events} were missed")
        return RESUMED in rest and count == events

    return done


def check_resumed(said: bytes, id: str, events: int) -> None:
    """Raise `Trouble` unless a link was told that `id` goes on at 1, and then so many events, and nothing else."""
    first, *others = take_messages(said)[0] or [{}]
    resumed = first.get("resumed", {})
    if (resumed.get("connection_id"), resumed.get("next")) != (id, 1):
        raise Trouble(f"{id} was not resumed at 1: {first}")
    told = [message.get("event") for message in others]
    if told != ["tick"] * events:
        raise Trouble(f"{events} events were missed by {id}, which was told {told[:10]}")


def main() -> None:
    port, opening_word, links, flight = sys.argv[1:]
    open_files()
    opening = opening_from(opening_word)
    dialer = Dialer(int(port), int(flight))
    heads = [numbered(request_head(int(port), opening), number) for number in range(int(links))]
    ids: list[bytes] = []
    answer()
    while words := next_command():
        cpu, begun = time.process_time(), time.monotonic()
        match words:
            case ["open", seconds]:
                dialer.open(heads, is_greeted(opening.greetings), float(seconds))
            case ["reset", *kept]:
                ids = [found[1] if (found := id_in(said)) else b"" for said in dialer.said]
                dialer.reset(*map(int, kept))
            case ["check", events]:
                dialer.hear_rest()
                for id, said in zip(ids, dialer.said, strict=True):
                    check_resumed(said.partition(HEAD_END)[2], id.decode(), int(events))
            case ["resume", events, seconds]:
                there = [f"&connection_id={id.decode()}&sequence_number=1" for id in ids]
                again = [numbered(request_head(int(port), opening, query), at) for at, query in enumerate(there)]
                cpu, begun = time.process_time(), time.monotonic()
                dialer.open(again, has_resumed(int(events)), float(seconds))
        answer(begun=begun, ended=time.monotonic(), cpu=time.process_time() - cpu)


if __name__ == "__main__":
    run(main)
