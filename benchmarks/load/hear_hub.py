"""Clients of ours that are cut: `open_client`, as a program uses it. See `benchmarks.load.hearing`."""

from __future__ import annotations

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.hearing import CONNECT_WITHIN, RETRY, Hearing, ports, tally
from benchmarks.load.raw import open_files, run
from trio_hub import Client, ClientOptions, Gap, open_client

_OPTIONS = ClientOptions(first_retry=RETRY, longest_retry=RETRY)


async def _stay(port: int, hearing: Hearing) -> None:
    async with open_client(f"ws://127.0.0.1:{port}/ws?topics=bench", options=_OPTIONS) as client:
        await client.connected()
        hearing.connected = True
        while True:
            await _hear(client, hearing)


async def _hear(client: Client, hearing: Hearing) -> None:
    try:
        async for event in client:
            if event.name == "tick":
                hearing.hear(event.data["n"])
    except Gap:
        hearing.gaps += 1


async def _main() -> None:
    hearings = [Hearing() for _ in ports()]
    async with trio.open_nursery() as tasks:
        for port, hearing in zip(ports(), hearings, strict=True):
            tasks.start_soon(_stay, port, hearing)
        with trio.fail_after(CONNECT_WITHIN):
            while not all(each.connected for each in hearings):  # noqa: ASYNC110
                await trio.sleep(0.02)
        answer()
        while words := await trio.to_thread.run_sync(next_command):
            _, messages, seconds = words
            with trio.move_on_after(float(seconds)):
                while not all(each.finished for each in hearings):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            answer(**tally(hearings, int(messages)))
        tasks.cancel_scope.cancel()


def main() -> None:
    open_files()
    trio.run(_main)


if __name__ == "__main__":
    run(main)
