"""Clients of `websockets` that are cut: its loop that connects again. See `benchmarks.load.hearing`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from functools import partial

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks.load.hearing import RETRY, Hearing, conclude, ports, run_clients
from benchmarks.load.raw import run


def _delays() -> Generator[float, None, None]:
    while True:
        yield RETRY / 2


async def _stay(port: int, hearing: Hearing) -> None:
    async for websocket in connect(f"ws://127.0.0.1:{port}/", reconnect_delays=_delays, proxy=None):
        hearing.connected = True
        try:
            async for message in websocket:
                hearing.hear(json.loads(message)["n"])
        except ConnectionClosed:
            continue


async def _main() -> None:
    hearings = [Hearing() for _ in ports()]
    tasks = [asyncio.create_task(_stay(port, hearing)) for port, hearing in zip(ports(), hearings, strict=True)]
    await conclude(hearings)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    run(partial(run_clients, _main))
