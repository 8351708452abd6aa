"""Numbered messages at a steady pace, the same for every server whose clients are cut.

As told on stdin: ``publish MESSAGES RATE`` publishes numbers from 1 on, so many a second, and answers behind the last.
From then on it publishes the number 0, at the same pace, until there are no more commands: whoever hears that has heard
all that was still to come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import trio

from benchmarks.conversation import answer, next_command

__all__ = ["tick", "tick_on_trio"]

Say = Callable[[int], Awaitable[None] | None]
"""Says a number to everybody; what that returns is awaited."""


async def tick(say: Say) -> None:
    """Do as told, on an asyncio loop."""
    if words := await asyncio.to_thread(next_command):
        ticking = asyncio.create_task(_tick(say, int(words[1]), int(words[2])))
        await asyncio.to_thread(next_command)
        ticking.cancel()


async def _tick(say: Say, messages: int, rate: int) -> None:
    for number, wait in ticks(messages, rate):
        await asyncio.sleep(wait)
        if (saying := say(number)) is not None:
            await saying
        if number == messages:
            answer()


async def tick_on_trio(say: Callable[[int], Awaitable[None]]) -> None:
    """Do the same on trio."""
    words = await trio.to_thread.run_sync(next_command)
    async with trio.open_nursery() as tasks:
        if words:
            tasks.start_soon(_tick_on_trio, say, int(words[1]), int(words[2]))
            await trio.to_thread.run_sync(next_command)
        tasks.cancel_scope.cancel()


async def _tick_on_trio(say: Callable[[int], Awaitable[None]], messages: int, rate: int) -> None:
    for number, wait in ticks(messages, rate):
        await trio.sleep(wait)
        await say(number)
        if number == messages:
            answer()


def ticks(messages: int, rate: int, clock: Callable[[], float] = time.monotonic) -> Iterator[tuple[int, float]]:
    """Yield what is to be said, and how long to wait before it; without an end."""
    begun, said = clock(), 0
    while True:
        said += 1
        yield said if said <= messages else 0, max(begun + said / rate - clock(), 0)
