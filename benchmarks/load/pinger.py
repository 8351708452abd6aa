"""Somebody who asks for a sign of life all the time, and notes how long each takes.

    python -m benchmarks.load.pinger PORT OPENING

Opens one link, and answers. Then ``ping SECONDS`` sends the hub's own `ping` request every 5 ms, whether those before
it were answered or not, and answers with every round trip (in seconds) when the last reply is there.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import READ_SIZE, Trouble, frame_size, masked, opening_from, payload_of, run, upgrade

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
        self._trips: list[float] = []

    def ping(self, seconds: float) -> list[float]:
        """Return all round trips of so many seconds. Raises `Trouble` when one has no reply."""
        self._trips = []
        due = time.monotonic()
        end = due + seconds
        left = round(seconds / EVERY)
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
            if select.select([self._link], [], [], max(wait, 0))[0]:
                self._hear()
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
        self._data += data
        while (size := frame_size(self._data)) <= len(self._data):
            said = json.loads(payload_of(self._data[:size]))
            self._data = self._data[size:]
            for message in said if isinstance(said, list) else [said]:
                if message.get("status") != "OK":
                    raise Trouble(f"{message} answers no ping")
                self._trips.append(now - self._sent_at.pop(message["seq_reply"]))


def main() -> None:
    port, opening = sys.argv[1:]
    link, data = upgrade(int(port), opening_from(opening))
    if data:
        raise Trouble("more came than the greetings")
    pinger = Pinger(link)
    answer()
    while words := next_command():
        answer(trips=pinger.ping(float(words[1])))


if __name__ == "__main__":
    run(main)
