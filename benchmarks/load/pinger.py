"""Somebody who asks for a sign of life all the time, and notes how long each takes.

    python -m benchmarks.load.pinger PORT OPENING

Opens one link, and answers. Then ``ping SECONDS`` sends the hub's own `ping` request every 5 ms, whether those before
it were answered or not, and answers with every round trip (in seconds), and when each began, when the last reply is
there. ``ping`` alone goes on until there is another command, whatever it is.
"""

from __future__ import annotations

import math
import select
import socket
import sys
import time

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import READ_SIZE, Trouble, masked, opening_from, run, take_messages, upgrade

__all__ = ["Pinger"]

EVERY = 0.005  # s
PATIENCE = 20.0  # s, for what is still under way at the end


class Pinger:
    """Pings on one link. Requests have numbers, so it is known which of them is answered."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._data = b""
        self._number = 0
        self._sent_at: dict[int, float] = {}
        self._trips: list[tuple[float, float]] = []

    def ping(self, seconds: float | None = None) -> list[tuple[float, float]]:
        """Return when each round trip began and what it took: of so many seconds, or until there is another command.

        Raises `Trouble` when a ping has no reply.
        """
        self._trips = []
        due = time.monotonic()
        left, end = (math.inf, math.inf) if seconds is None else (round(seconds / EVERY), due + seconds)
        heard = [self._link, sys.stdin] if seconds is None else [self._link]
        while left or self._sent_at:
            now = time.monotonic()
            if now > end + PATIENCE:
                raise Trouble(f"{len(self._sent_at)} pings were not answered")
            if due <= now and left:
                self._send()
                left -= 1
                due += EVERY
                continue
            wait = due - now if left else end + PATIENCE - now
            ready = select.select(heard, [], [], max(wait, 0))[0]
            if self._link in ready:
                self._hear()
            if sys.stdin in ready:
                left, end, heard = 0, time.monotonic(), [self._link]
        return self._trips

    def _send(self) -> None:
        self._number += 1
        request = masked(b'{"seq":%d,"action":"ping"}' % self._number)
        self._sent_at[self._number] = time.monotonic()
        if self._link.send(request) < len(request):
            raise Trouble("the server reads no more")

    def _hear(self) -> None:
        data = self._link.recv(READ_SIZE)
        now = time.monotonic()
        if not data:
            raise Trouble("the server ended the link")
        messages, self._data = take_messages(self._data + data)
        for message in messages:
            if message.get("status") != "OK":
                raise Trouble(f"{message} answers no ping")
            begun = self._sent_at.pop(message["seq_reply"])
            self._trips.append((begun, now - begun))


def main() -> None:
    port, opening = sys.argv[1:]
    link, data = upgrade(int(port), opening_from(opening))
    if data:
        raise Trouble("more came than the greetings")
    pinger = Pinger(link)
    answer()
    while words := next_command():
        if words[0] == "ping":
            trips = pinger.ping(*map(float, words[1:]))
            answer(begun=[begun for begun, _ in trips], trips=[took for _, took in trips])


if __name__ == "__main__":
    run(main)
