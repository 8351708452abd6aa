"""The command line: ``trio-hub serve``, ``listen`` and ``send``."""

from __future__ import annotations

import logging
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import click
import msgspec
import trio

from trio_hub import (
    Client,
    ClientOptions,
    Connected,
    Event,
    Gap,
    HubError,
    HubOptions,
    Lost,
    Misuse,
    OutboxOptions,
    Position,
    Question,
    RequestFailed,
    Server,
    __version__,
    open_client,
    open_unix_listener,
)
from trio_hub.broker import topic_broker
from trio_hub.link.tasks import open_tasks

__all__ = ["cli"]

_MOST_COMPLAINTS = 10


def _say(text: str) -> None:
    """Tell the person at the terminal something that is no result."""
    click.echo(text, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trio-hub")
def cli() -> None:
    """Keep people and programs connected over WebSockets, so that a dropped link costs them nothing."""


# -- serve -------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=8065, show_default=True, type=click.IntRange(0, 65535), help="The port; 0 for one that is free."
)
@click.option("--unix", type=click.Path(), help="Listen on a Unix socket instead.")
@click.option("--tokens", type=click.Path(exists=True, dir_okay=False), help='JSON file: {"<token>": "<user id>"}.')
@click.option("--key", envvar="TRIO_HUB_KEY", help="Key for POST /publish [env: TRIO_HUB_KEY].")
@click.option("--window", type=float, help="Seconds that a connection outlives its link [default: 60].")
@click.option("--origin", "origins", multiple=True, help="A page that may connect, as https://example.org.")
@click.option("--cert", type=click.Path(exists=True, dir_okay=False), help="TLS certificate chain (PEM).")
@click.option("--cert-key", type=click.Path(exists=True, dir_okay=False), help="Its key, where it is not in there.")
@click.option("--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]))
def serve(
    host: str,
    port: int,
    unix: str | None,
    tokens: str | None,
    key: str | None,
    window: float | None,
    origins: tuple[str, ...],
    cert: str | None,
    cert_key: str | None,
    log_level: str,
) -> None:
    """Serve topics to everybody who knows a token, or, without --tokens, to everybody on this machine.

    Prints one line with the address once it listens. Ctrl-C and SIGTERM say goodbye to everybody and end it; a
    second one ends it at once.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        options = HubOptions() if window is None else HubOptions(window=window, outbox=_outbox_for(window))
    except ValueError as error:
        raise click.UsageError("--window must be more than 0 seconds") from error
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#]+", origin):
            raise click.UsageError(f"--origin is scheme and host, as https://example.org, not {origin}")
    if cert_key is not None and cert is None:
        raise click.UsageError("--cert-key is of use with --cert only")
    server = topic_broker(_read_tokens(tokens), key=key, origins=origins, options=options)
    context = None
    if cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(cert, cert_key)
        except (OSError, ssl.SSLError) as error:
            raise click.UsageError(f"cannot use the certificate: {error}") from error
    try:
        trio.run(_serve, server, host, port, unix, context)
    except HubError as error:
        raise click.ClickException(str(error)) from error


def _outbox_for(window: float) -> OutboxOptions:
    """Return the usual bounds, but that events may grow older than the window."""
    usual = OutboxOptions()
    return attrs.evolve(usual, age=max(usual.age, 2 * window))


async def _serve(server: Server, host: str, port: int, unix: str | None, context: ssl.SSLContext | None) -> None:
    """Serve until a signal comes; then say goodbye, until another one comes."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_tasks() as tasks:
            if unix is None:
                listeners = await tasks.start(partial(server.serve, host, port, ssl_context=context))
                click.echo(f"listening on {_url(listeners[0], context)}")
            else:
                await tasks.start(partial(server.serve, listeners=[await open_unix_listener(unix)]))
                click.echo(f"listening on {unix}")
            sys.stdout.flush()
            await anext(signals)
            tasks.start_soon(_cancel_at_signal, signals, tasks)
            await server.drain()
            tasks.cancel_scope.cancel()
    if unix is not None:
        os.unlink(unix)


async def _cancel_at_signal(signals: AsyncIterator[int], tasks: trio.Nursery) -> None:
    await anext(signals)
    tasks.cancel_scope.cancel()


def _url(listener: Any, context: ssl.SSLContext | None) -> str:
    socket_listener = listener if context is None else listener.transport_listener
    host, port = socket_listener.socket.getsockname()[:2]
    return f"{'ws' if context is None else 'wss'}://{f'[{host}]' if ':' in host else host}:{port}/ws"


def _read_tokens(path: str | None) -> dict[str, str] | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=dict[str, str])
    except (OSError, msgspec.DecodeError) as error:
        raise click.UsageError(f"{path} is not a JSON object of tokens and user ids: {error}") from error


# -- listen ------------------------------------------------------------------------------------------------------

_token = click.option("--token", envvar="TRIO_HUB_TOKEN", help="Who you are [env: TRIO_HUB_TOKEN].")


@cli.command()
@click.argument("url")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@_token
@click.option("--resume", type=click.Path(dir_okay=False), help="Keep the place here, and go on from it next time.")
def listen(url: str, topics: tuple[str, ...], token: str | None, resume: str | None) -> None:
    """Print one JSON line for each event said to any TOPIC, each once and in order.

    Lost links are made good by themselves, also across restarts of the server; they are told on stderr, and so is
    every gap: events that were lost for good.
    """
    _run(_listen, url, topics, token, resume)


async def _listen(url: str, topics: tuple[str, ...], token: str | None, resume: str | None) -> None:
    position = _read_position(resume)
    async with open_client(url, token=token, resume=position, on_status=_tell_status) as client:
        for topic in topics:
            await client.subscribe(topic)
        _say(f"listening to {', '.join(topics)}")
        while True:
            try:
                events = await client.receive_all()
                lines = b"".join(_line(event) for event in events)
                # In a thread, so that whoever reads us slowly keeps us from printing, not from answering pings.
                await trio.to_thread.run_sync(_print, lines, abandon_on_cancel=True)
            except Gap as gap:
                _say(f"gap: {gap}")
            client.settle()
            if resume is not None and client.position is not None:
                _write_position(resume, client.position)


def _line(event: Event) -> bytes:
    line = {"event": event.name, "data": event.data, "broadcast": event.broadcast}
    return msgspec.json.encode(line) + b"\n"


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _tell_status(status: Connected | Lost) -> None:
    match status:
        case Connected(resumed=resumed):
            _say("connected again, nothing is lost" if resumed else "connected")
        case Lost(close, retry_in):
            _say(f"not connected: {close}; trying again in {retry_in:.1f} s")


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


# -- send --------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("url")
@click.argument("topic")
@click.argument("data", default="{}", metavar="[DATA | -]")
@click.option("--event", default="message", show_default=True, help="The events' name.")
@_token
@click.option(
    "--patience",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds to wait for each acceptance.",
)
def send(url: str, topic: str, data: str, event: str, token: str | None, patience: float) -> None:
    """Say DATA, which is JSON, to a TOPIC; with - say each JSON line of stdin.

    The exit status is 0 only when the hub has accepted everything. Lost links are made good by themselves, and
    nothing is said twice.
    """
    _run(_send, url, topic, data, event, token, patience)


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
            _say(f"line {number}: {fault}")

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
        _tell_status(status)


def _run(main: Any, *arguments: Any) -> None:
    """Run an async command; our own errors are told in a sentence, Ctrl-C and a closed pipe end it quietly."""
    try:
        trio.run(main, *arguments)
    except HubError as error:
        raise click.ClickException(str(error)) from error
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever read us is gone, or has had enough: nothing that is still in a buffer can be of interest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(130) from None
    except OSError as error:
        raise click.ClickException(str(error)) from error
