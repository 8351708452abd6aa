"""The far end of requests: a caller that asks for sums, and counts them. All else is as in `benchmarks.load.caller`.

    python -m benchmarks.load.asker PORT OPENING LINKS WINDOW SPELLING

Request n asks for n + 2. SPELLING is how: ``json``, ``v1`` (the same; replies are acknowledged, 64 at a time), or
``socket.io``. A server may put several replies into one frame, and nobody's have one size; so what is counted is the
one word that each must have, and no FAIL has. The first on each link is looked at whole.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from itertools import accumulate

from benchmarks.load.caller import PATIENCE, SPARE, Caller, obey
from benchmarks.load.raw import Trouble, masked, open_links, read_frame, run

ACK_EVERY = 64
WORD = b'"sum"'
TAIL = len(WORD) - 1  # bytes of a read that may begin the word


def _as_json(number: int) -> bytes:
    return masked(b'{"seq":%d,"action":"add","data":{"a":%d,"b":2}}' % (number, number))


def _as_socket_io(number: int) -> bytes:
    return masked(b'42%d["add",{"a":%d,"b":2}]' % (number, number))


SPELLINGS: dict[str, Callable[[int], bytes]] = {"json": _as_json, "v1": _as_json, "socket.io": _as_socket_io}


class Requests:
    """Numbered requests. `lag` is how many replies may be missing at most when a request is sent."""

    def __init__(self, spelling: str, lag: int) -> None:
        self._spell = SPELLINGS[spelling]
        self._acknowledges = spelling == "v1"
        self._lag = lag
        self._first = 0
        self._starts = [0]
        self._frames = memoryview(b"")
        self._tails: dict[int, bytes | bytearray] = {}

    def prepare(self, first: int, count: int) -> None:
        frames = [self._frame(number) for number in range(first, first + count)]
        self._first = first
        self._starts = [0, *accumulate(map(len, frames))]
        self._frames = memoryview(b"".join(frames))

    def _frame(self, number: int) -> bytes:
        frame = self._spell(number)
        if self._acknowledges and number % ACK_EVERY == 0 and number > self._lag:
            frame = masked(b'{"ack_replies":%d}' % (number - self._lag)) + frame
        return frame

    def frames(self, number: int, count: int) -> memoryview:
        at = number - self._first
        return self._frames[self._starts[at] : self._starts[at + count]]

    def replies(self, fd: int, buffer: bytearray, end: int) -> int:
        buffer[SPARE - TAIL : SPARE] = self._tails.get(fd, bytes(TAIL))
        self._tails[fd] = buffer[end - TAIL : end]
        return buffer.count(WORD, SPARE - TAIL, end)

    def check(self, link: socket.socket) -> None:
        """Ask for one sum. Raises `Trouble` when it is not told."""
        link.settimeout(PATIENCE)
        link.sendall(self._spell(1))
        reply, _ = read_frame(link, b"")
        if not re.search(WORD + rb": ?3\b", reply):
            raise Trouble(f"{reply[:100]!r} has no sum")
        link.setblocking(False)


def main() -> None:
    port, opening, count, window, spelling = sys.argv[1:]
    requests = Requests(spelling, int(window))
    links = open_links(port, opening, count)
    for link in links:
        requests.check(link)
    obey(Caller(links, int(window), requests, first=2))


if __name__ == "__main__":
    run(main)
