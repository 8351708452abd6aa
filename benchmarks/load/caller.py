"""The far end of round trips: one epoll over many links, on each of which so many messages are always under way.

    python -m benchmarks.load.caller PORT OPENING LINKS WINDOW SIZE

Opens LINKS links, and answers. Then ``call COUNT SECONDS`` says so many messages in all, WINDOW of them under way on
each link, and answers when it began, when the last reply was there, and what it cost; for a WINDOW of 1 also how long a
round trip took. Here a message is a text of SIZE bytes that is expected back: replies are counted by their bytes.

Where several are under way it naps between two looks at its sockets, so that replies need not wake it one by one: that
would cost the server more than its own work, and make the caller the limit for whoever writes each reply by itself.
Nothing is made while time runs: frames lie ready, next to each other, so that several go out as one slice. Whatever
number of replies a read brings, as many messages follow at once.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from typing import Protocol

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import READ_SIZE, Trouble, masked, open_links, run
from benchmarks.report import quantile

__all__ = ["PATIENCE", "SPARE", "Caller", "Script", "obey"]

NAP = 0.0001  # s
SPARE = 16  # bytes in front of what is read, for a script that looks at what came before
PATIENCE = 10.0  # s, for the first reply


class Script(Protocol):
    """What is said on every link, the same on all, and how replies are told apart."""

    def prepare(self, first: int, count: int) -> None:
        """Make ready the messages from number `first` on."""
        ...

    def frames(self, number: int, count: int) -> memoryview:
        """Return as many messages in a row, of those made ready."""
        ...

    def replies(self, fd: int, buffer: bytearray, end: int) -> int:
        """Return how many replies end with what was read into `buffer`, between `SPARE` and `end`."""
        ...


class Caller:
    """Calls on all its links alike. `window` messages are under way on each, until it has said its share.

    Messages have numbers, the same on all links; `first` is that of the next.
    """

    def __init__(self, links: list[socket.socket], window: int, script: Script, *, first: int = 1) -> None:
        self._links = {link.fileno(): link for link in links}
        self._window = window
        self._script = script
        self._next = first
        self._end = first  # the number behind the last message of this call
        self._told = dict.fromkeys(self._links, first)  # by link: the number of its next message
        self._due = dict.fromkeys(self._links, 0)  # by link: replies that are still to come
        self._unsent: dict[int, memoryview] = {}
        self._said_at = dict.fromkeys(self._links, 0.0)
        self._trips: list[float] = []
        self._buffer = bytearray(SPARE + READ_SIZE)
        self._into = memoryview(self._buffer)[SPARE:]
        self._epoll = select.epoll()
        for fd in self._links:
            self._epoll.register(fd, select.EPOLLIN)

    def call(self, count: int, seconds: float) -> dict[str, float]:
        """Call, and return what it came to. Raises `Trouble` when replies are missing after so many seconds."""
        share, rest = divmod(count, len(self._links))
        assert not rest, "links have equal shares"
        self._end = self._next + share
        self._script.prepare(self._next, share)
        self._trips.clear()
        cpu, begun = time.process_time(), time.monotonic()
        self._converse(count, begun + seconds)
        facts = {"begun": begun, "ended": time.monotonic(), "cpu": time.process_time() - cpu}
        self._next = self._end
        if trips := sorted(self._trips):
            facts |= {"p50": quantile(trips, 0.5), "p99": quantile(trips, 0.99)}
        return facts

    def _converse(self, missing: int, deadline: float) -> None:
        """Have everything said and replied to."""
        for fd in self._links:
            self._due[fd] = self._end - self._next
            self._said_at[fd] = time.monotonic()
            self._tell(fd, self._window)
        poll, hear = self._epoll.poll, self._hear
        while missing:
            if (now := time.monotonic()) > deadline:
                raise Trouble(f"{missing} replies are missing")
            if self._window > 1:
                time.sleep(NAP)
            for fd, ready in poll(deadline - now):
                if ready & select.EPOLLOUT:
                    self._epoll.modify(fd, select.EPOLLIN)
                    self._send(fd, self._unsent.pop(fd))
                if ready != select.EPOLLOUT:
                    missing -= hear(fd)

    def _hear(self, fd: int) -> int:
        """Read once, and say as much as was replied to; return how many replies that were."""
        size = self._links[fd].recv_into(self._into)
        if not size:
            raise Trouble("the server ended a link")
        heard = self._script.replies(fd, self._buffer, SPARE + size)
        if not heard:
            return 0
        self._due[fd] -= heard
        if self._due[fd] < 0:
            raise Trouble("more replies came than were asked for")
        if self._window == 1:
            now = time.monotonic()
            self._trips.append(now - self._said_at[fd])
            self._said_at[fd] = now
        self._tell(fd, heard)
        return heard

    def _tell(self, fd: int, most: int) -> None:
        number = self._told[fd]
        if count := min(most, self._end - number):
            self._told[fd] = number + count
            data = self._script.frames(number, count)
            if fd in self._unsent:
                self._unsent[fd] = memoryview(b"".join((self._unsent[fd], data)))
            else:
                self._send(fd, data)

    def _send(self, fd: int, data: memoryview) -> None:
        """Send, the rest as soon as there is room again."""
        try:
            sent = self._links[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._unsent[fd] = data[sent:]
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)


class Echo:
    """One message, over and over. What the server says back is its frame without a mask, and nothing else."""

    def __init__(self, size: int, window: int) -> None:
        message = b"x" * size
        frame = masked(message)
        head = frame[: -size - 4]
        self._reply = bytes((head[0], head[1] & 0x7F)) + head[2:] + message
        self._frame_size = len(frame)
        self._frames = memoryview(frame * window)
        self._begun: dict[int, int] = {}  # by link: bytes of a reply whose end is still to come

    def prepare(self, first: int, count: int) -> None:
        """Do nothing: messages are all the same."""

    def frames(self, number: int, count: int) -> memoryview:
        return self._frames[: count * self._frame_size]

    def replies(self, fd: int, buffer: bytearray, end: int) -> int:
        replies, self._begun[fd] = divmod(self._begun.get(fd, 0) + end - SPARE, len(self._reply))
        return replies

    def check(self, link: socket.socket) -> None:
        """Call once. Raises `Trouble` when anything else comes back than what was said."""
        link.settimeout(PATIENCE)
        link.sendall(self.frames(0, 1))
        heard = b""
        while len(heard) < len(self._reply):
            if not (data := link.recv(READ_SIZE)):
                raise Trouble("the server ended a link")
            heard += data
        if heard != self._reply:
            raise Trouble(f"{heard[:100]!r} is no echo")
        link.setblocking(False)


def obey(caller: Caller) -> None:
    """Do as told on stdin."""
    answer()
    while words := next_command():
        _, count, seconds = words
        answer(**caller.call(int(count), float(seconds)))


def main() -> None:
    port, opening, count, window, size = sys.argv[1:]
    echo = Echo(int(size), int(window))
    links = open_links(port, opening, count)
    for link in links:
        echo.check(link)
    obey(Caller(links, int(window), echo))


if __name__ == "__main__":
    run(main)
