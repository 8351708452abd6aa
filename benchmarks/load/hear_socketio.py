"""Clients of python-socketio that are cut; it connects again, and recovers nothing. See `benchmarks.load.hearing`."""

from __future__ import annotations

import asyncio
from functools import partial

import socketio

from benchmarks.load.hearing import RETRY, Hearing, conclude, ports, run_clients
from benchmarks.load.raw import run

_MEAN = RETRY / 2
_OPTIONS = {"reconnection_delay": _MEAN, "reconnection_delay_max": _MEAN, "randomization_factor": _MEAN}
"""Its factor is no factor: so many seconds more or less, at most."""


async def _open(port: int, hearing: Hearing) -> socketio.AsyncClient:
    client = socketio.AsyncClient(handle_sigint=False, **_OPTIONS)
    client.on("tick", hearing.hear)
    await client.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
    hearing.connected = True
    return client


async def _main() -> None:
    hearings = [Hearing() for _ in ports()]
    opening = [_open(port, hearing) for port, hearing in zip(ports(), hearings, strict=True)]
    clients = await asyncio.gather(*opening)
    await conclude(hearings)
    for client in clients:
        await client.shutdown()


if __name__ == "__main__":
    run(partial(run_clients, _main))
