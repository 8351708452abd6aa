"""Servers to which all work comes from their clients: they are asked for nothing but the CPU time they have used."""

from __future__ import annotations

import asyncio
import time

import trio

from benchmarks.conversation import answer, next_command

__all__ = ["tell_cost", "tell_cost_on_trio"]


async def tell_cost() -> None:
    """Answer every ``cpu``, on an asyncio loop, until there are no more commands."""
    while await asyncio.to_thread(next_command):
        answer(cpu=time.process_time())


async def tell_cost_on_trio() -> None:
    """Do the same on trio."""
    while await trio.to_thread.run_sync(next_command):
        answer(cpu=time.process_time())
