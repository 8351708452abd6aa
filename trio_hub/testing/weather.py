"""What happens to one client's links."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NoReturn

import trio

from trio_hub.errors import LinkLost, Misuse
from trio_hub.link.dialing import Address
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.testing.cable import Cable, Direction

__all__ = ["Weather"]


class Weather:
    """The weather between one client and a server: good until somebody spoils it.

    `reach` is given the server's end of every cable that is laid. `dials` counts the client's attempts, `cable` is the
    latest cable, or before the first dial the one that will be laid.

    Some things befall that one cable: `cut_once`, `cut_after`, `abandon`. The others are the weather itself, in which
    the next cables are laid too, until `mend`.
    """

    def __init__(self, reach: Callable[[trio.abc.Stream], None]) -> None:
        self._reach = reach
        self._bad = False
        self._lasting: list[Callable[[Cable], None]] = []
        self._spoilt: list[Cable] = []  # older ones that are, too
        self._laid = False
        self.cable = Cable()
        self.dials = 0

    async def open_stream(self, address: Address | None = None) -> trio.abc.Stream:
        """Lay a cable to the server, and return its near end; a client's `open_stream`.

        Raises `LinkLost` in bad weather. The address does not matter: every one leads to the same server.
        """
        await trio.lowlevel.checkpoint()
        self.dials += 1
        if self._bad:
            raise LinkLost(CloseReason(CloseCode.ABNORMAL, "the weather is bad"))
        if self._laid:
            if self._lasting:
                self._spoilt.append(self.cable)
            self.cable = Cable()
            for spoil in self._lasting:
                spoil(self.cable)
        self._laid = True
        self._reach(self.cable.far)
        return self.cable.near

    def cut(self) -> None:
        """Cut the cable, and let no new one be laid until `mend`."""
        self._bad = True
        self.cut_once()

    def mend(self) -> None:
        """Make the weather good: cables can be laid, and nothing befalls what they carry."""
        self._bad = False
        self._lasting.clear()
        for cable in (*self._spoilt, self.cable):
            cable.mend()
        self._spoilt.clear()

    def cut_once(self) -> None:
        """Cut the cable; the next one may be laid at once."""
        if self._laid:
            self.cable.cut()

    def cut_after(self, size: int, direction: Direction) -> None:
        """Cut the cable when exactly `size` more bytes of what is written in this direction have arrived."""
        self.cable.cut_after(size, direction)

    def abandon(self, *, noticed: bool = True) -> None:
        """Leave the cable half-open: nothing passes, and the server is not told.

        The client's end is closed, so it dials anew; unless it is not `noticed`, and the client believes in the link
        as much as the server does.
        """
        if self._laid:
            self.cable.abandon()
            if noticed:
                self.cable.near.hang_up()

    def stall(self, direction: Direction = Direction.BOTH) -> None:
        """Let nothing pass until `mend`."""
        self._last(lambda cable: cable.stall(direction))

    def slow(self, rate: float, direction: Direction = Direction.BOTH) -> None:
        """Let `rate` bytes per second pass, until `mend`."""
        self._last(lambda cable: cable.slow(rate, direction))

    def split(self, most: int, direction: Direction = Direction.BOTH) -> None:
        """Let every read return at most so many bytes, until `mend`."""
        self._last(lambda cable: cable.split(most, direction))

    def _last(self, spoil: Callable[[Cable], None]) -> None:
        spoil(self.cable)
        self._lasting.append(spoil)

    async def storm(self, rng: random.Random, *, every: tuple[float, float] = (1.0, 3.0)) -> NoReturn:
        """Change the weather again and again, after so many seconds each time, until cancelled; then it is good.

        The same `rng` brings the same storm, as far as the program under test does the same.
        """
        shortest, longest = every
        if not 0 < shortest <= longest:
            raise Misuse(f"the weather lasts for some time, not {every}")
        try:
            while True:
                await trio.sleep(rng.uniform(shortest, longest))
                self.mend()
                rng.choice(_CHANGES)(self, rng)
        finally:
            self.mend()


def _direction(rng: random.Random) -> Direction:
    return rng.choice([Direction.UP, Direction.DOWN])


_CHANGES: Final[tuple[Callable[[Weather, random.Random], None], ...]] = (
    lambda weather, rng: weather.cut(),
    lambda weather, rng: weather.cut_once(),
    lambda weather, rng: weather.cut_after(rng.randrange(300), _direction(rng)),
    lambda weather, rng: weather.abandon(),
    lambda weather, rng: weather.stall(_direction(rng)),
    lambda weather, rng: weather.slow(rng.randint(100, 10_000)),
    lambda weather, rng: weather.split(rng.randint(1, 10)),
)
