"""``trio-hub send``: say something to a topic, or many things."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

import attrs
import click
import msgspec
import trio

from trio_hub import Client, ClientOptions, Connected, Lost, Misuse, Question, RequestFailed, open_client
from trio_hub.cli.terminal import Number, run, say, tell_status, token_option
from trio_hub.link.tasks import open_tasks

__all__ = ["send"]

_MOST_COMPLAINTS = 10


@click.command()
@click.argument("url")
@click.argument("topic")
@click.argument("data", default="{}", metavar="[DATA | -]")
@click.option("--event", default="message", show_default=True, help="The events' name.")
@token_option
@click.option(
    "--patience",
    default=30.0,
    show_default=True,
    type=Number(0, min_open=True),
    help="Seconds to wait for each acceptance.",
)
def send(url: str, topic: str, data: str, event: str, token: str | None, patience: float) -> None:
    """Say DATA, which is JSON, to a TOPIC; with - say each JSON line of stdin.

    The exit status is 0 only when the hub has accepted everything. Lost links are made good by themselves, and
    nothing is said twice.
    """
    run(_send, url, topic, data, event, token, patience)


@attrs.define
class _Sending:
    """What is on its way in one run of `send`, and what went wrong."""

    client: Client
    topic: str
    event: str
    patience: float
    failures: int = 0

    def complain(self, number: int, fault: object) -> None:
        self.failures += 1
        if self.failures <= _MOST_COMPLAINTS:
            say(f"line {number}: {fault}")

    async def ask(self, lines: AsyncIterator[bytes], asked: trio.MemorySendChannel[tuple[int, Question]]) -> None:
        """Ask the hub to publish line after line."""
        number = 0
        async with asked:
            async for line in lines:
                number += 1
                if not line.strip():
                    continue
                try:
                    data = msgspec.json.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    self.complain(number, f"not JSON: {error}")
                    continue
                publication = {"topic": self.topic, "event": self.event, "data": data}
                try:
                    question = await self.client.ask("publish", publication)
                except Misuse as error:
                    self.complain(number, error)
                    continue
                await asked.send((number, question))

    async def check(self, asked: trio.MemoryReceiveChannel[tuple[int, Question]]) -> None:
        """See that each is accepted."""
        async for number, question in asked:
            try:
                with trio.fail_after(self.patience):
                    await question.reply()
            except RequestFailed as failure:
                self.complain(number, failure)


async def _send(url: str, topic: str, data: str, event: str, token: str | None, patience: float) -> None:
    lines = _lines_of_stdin() if data == "-" else _one_line(data)
    async with open_client(url, token=token, on_status=_tell_trouble) as client:
        sending = _Sending(client, topic, event, patience)
        try:
            with trio.fail_after(patience):
                await client.connected()
            async with open_tasks() as tasks:
                to_check, asked = trio.open_memory_channel[tuple[int, Question]](ClientOptions().in_flight)
                tasks.start_soon(sending.check, asked)
                await sending.ask(lines, to_check)
        except trio.TooSlowError:
            raise click.ClickException(f"the hub accepted nothing for {patience:g} s") from None
    if sending.failures:
        raise click.ClickException(f"{sending.failures} lines were not accepted")


async def _one_line(line: str) -> AsyncIterator[bytes]:
    yield line.encode(errors="surrogateescape")


async def _lines_of_stdin() -> AsyncIterator[bytes]:
    """Yield line after line, read in chunks: a thread for each line would take longer than the line."""
    rest = b""
    while chunk := await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), 65536, abandon_on_cancel=True):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def _tell_trouble(status: Connected | Lost) -> None:
    if isinstance(status, Lost):
        tell_status(status)
