"""``trio-hub listen``: what is said to some topics, line by line."""

from __future__ import annotations

import os
import sys

import click
import msgspec
import trio

from trio_hub import Event, Gap, Position, open_client
from trio_hub.cli.terminal import run, say, tell_status, token_option

__all__ = ["listen"]


@click.command()
@click.argument("url")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@token_option
@click.option("--resume", type=click.Path(dir_okay=False), help="Keep the place here, and go on from it next time.")
def listen(url: str, topics: tuple[str, ...], token: str | None, resume: str | None) -> None:
    """Print one JSON line for each event said to any TOPIC, each once and in order.

    Lost links are made good by themselves, also across restarts of the server; they are told on stderr, and so is
    every gap: events that were lost for good.
    """
    run(_listen, url, topics, token, resume)


async def _listen(url: str, topics: tuple[str, ...], token: str | None, resume: str | None) -> None:
    position = _read_position(resume)
    async with open_client(url, token=token, resume=position, on_status=tell_status) as client:
        for topic in topics:
            await client.subscribe(topic)
        say(f"listening to {', '.join(topics)}")
        while True:
            try:
                events = await client.receive_all()
                lines = b"".join(_line(event) for event in events)
                # In a thread, so that whoever reads us slowly keeps us from printing, not from answering pings.
                await trio.to_thread.run_sync(_print, lines, abandon_on_cancel=True)
            except Gap as gap:
                say(f"gap: {gap}")
            client.settle()
            if resume is not None and client.position is not None:
                _write_position(resume, client.position)


def _line(event: Event) -> bytes:
    line = {"event": event.name, "data": event.data, "broadcast": event.broadcast}
    return msgspec.json.encode(line) + b"\n"


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _read_position(path: str | None) -> Position | None:
    if path is None:
        return None
    try:
        with open(f"{path}.new", "ab"):  # what cannot be written is found out now, not after the first event
            pass
        os.unlink(f"{path}.new")
    except OSError as error:
        raise click.UsageError(f"cannot keep a place in {path}: {error.strerror}") from error
    if not os.path.exists(path):
        return None
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Position)
    except (OSError, msgspec.DecodeError) as error:
        raise click.UsageError(f"{path} holds no place to go on from: {error}") from error


def _write_position(path: str, position: Position) -> None:
    """Replace the file in one step, so that a crash leaves either the old place or the new one."""
    with open(f"{path}.new", "wb") as file:
        file.write(msgspec.json.encode(position))
    os.replace(f"{path}.new", path)
