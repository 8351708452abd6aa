"""Many who listen, and note when each message came: one epoll, which wakes for every one of them.

    python -m benchmarks.load.listener PORT OPENING LINKS UNIT ACK

As `benchmarks.load.sink`, but for its naps, and UNIT is always about the size of a message. ``hear MESSAGES SECONDS``
answers, by message, with the time at which it came to each link.
"""

from __future__ import annotations

import select
import socket
import sys
import time

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import READ_SIZE, FrameCounter, Trouble, open_links, run
from benchmarks.load.sink import ACK_EVERY, ACKS


def hear(
    links: dict[int, socket.socket], counters: dict[int, FrameCounter], ack: str, messages: int, seconds: float
) -> list[list[float]]:
    """Return the times at which each message came to each link.

    Raises `Trouble` when one did not within so many seconds, or came too many.
    """
    came: list[list[float]] = [[] for _ in range(messages)]
    counts = dict.fromkeys(links, 0)
    left, deadline = messages * len(links), time.monotonic() + seconds
    buffer = bytearray(READ_SIZE)
    epoll = select.epoll()
    for fd in links:
        epoll.register(fd, select.EPOLLIN)
    while left:
        if time.monotonic() > deadline:
            raise Trouble(f"{left} messages did not come within {seconds:g} s")
        for fd, _ in epoll.poll(1):
            size = links[fd].recv_into(buffer)
            now = time.monotonic()
            if not size:
                raise Trouble("the server ended a link")
            count = counts[fd]
            counts[fd] = after = count + counters[fd].feed(buffer, size)
            if after > messages:
                raise Trouble(f"{after - messages} messages too many came to a link")
            left -= after - count
            for number in range(count, after):
                came[number].append(now)
            if ack in ACKS and after // ACK_EVERY > count // ACK_EVERY:
                links[fd].send(ACKS[ack](after))
    return came


def main() -> None:
    port, opening, count, unit, ack = sys.argv[1:]
    links = {link.fileno(): link for link in open_links(port, opening, count)}
    counters = {fd: FrameCounter(int(unit)) for fd in links}
    answer(links=len(links))
    while words := next_command():
        _, messages, seconds = words
        answer(came=hear(links, counters, ack, int(messages), float(seconds)))


if __name__ == "__main__":
    run(main)
