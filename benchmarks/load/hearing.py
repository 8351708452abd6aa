"""What clients heard while they were cut, for those that use a library: they are programs of one form.

    python -m benchmarks.load.hear_... PORTS

PORTS are as many as there are clients, with a comma between them, one for each. A program answers when all are
connected. Then ``finish MESSAGES SECONDS`` waits, so many seconds at most, until everybody has heard the number 0,
which is said when all was said, and answers with what they heard of the numbers from 1 to MESSAGES.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence

import attrs

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import Trouble, open_files

__all__ = ["CONNECT_WITHIN", "RETRY", "Hearing", "conclude", "ports", "run_clients", "tally"]

CONNECT_WITHIN = 30.0  # s, all together
RETRY = 0.5  # s, the longest wait of any client before it comes back


@attrs.define(eq=False)
class Hearing:
    """What one client heard. `gaps` is how often it was told that something is lost."""

    numbers: set[int] = attrs.field(factory=set)
    last: int = 0
    duplicates: int = 0
    disorder: int = 0
    gaps: int = 0
    connected: bool = False
    finished: bool = False

    def hear(self, number: int) -> None:
        """Note a number. One that came before is a duplicate, one below the last is out of order."""
        if number == 0:
            self.finished = True
        elif number in self.numbers:
            self.duplicates += 1
        else:
            self.disorder += number < self.last
            self.numbers.add(number)
            self.last = number


def tally(hearings: Sequence[Hearing], messages: int) -> dict[str, int]:
    """Return what all heard together. Raises `Trouble` for a number that nobody said."""
    if any(hearing.numbers and max(hearing.numbers) > messages for hearing in hearings):
        raise Trouble("a number was heard that was not said")
    counts = {name: sum(getattr(each, name) for each in hearings) for name in ("duplicates", "disorder", "gaps")}
    return {
        "received": sum(len(each.numbers) for each in hearings),
        "unfinished": sum(not each.finished for each in hearings),
        **counts,
    }


async def conclude(hearings: Sequence[Hearing]) -> None:
    """Do as told, on an asyncio loop; the clients are tasks of it."""
    async with asyncio.timeout(CONNECT_WITHIN):
        while not all(each.connected for each in hearings):  # noqa: ASYNC110 - nothing is waited for by anybody else
            await asyncio.sleep(0.02)
    answer()
    while words := await asyncio.to_thread(next_command):
        _, messages, seconds = words
        try:
            async with asyncio.timeout(float(seconds)):
                while not all(each.finished for each in hearings):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pass  # that is counted, too
        answer(**tally(hearings, int(messages)))


def run_clients(main: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run a program of such clients, on an asyncio loop. What their library says of losses is no news."""
    open_files()
    logging.disable()
    asyncio.run(main())


def ports() -> list[int]:
    """Return those of the command line."""
    return [int(port) for port in sys.argv[1].split(",")]
