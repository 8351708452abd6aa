"""``trio-hub serve``: a topic broker, until a signal comes."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import click
import msgspec
import trio

from trio_hub import ClusterOptions, HubError, HubOptions, OutboxOptions, RedisBackplane, Server, open_unix_listener
from trio_hub.broker import topic_broker
from trio_hub.cli.workers import run_workers
from trio_hub.link.tasks import open_tasks

__all__ = ["serve"]

_COLLECT_SELDOM = (5_000, 10, 1_000)
"""Python's garbage collector, as it comes, looks through everything there is whenever a quarter has been added: with
5,000 connections that takes 150 ms, many times while they come. Here it does so once in 50 million objects; what is
thrown away young, in cycles or not, goes as it always does."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=8065, show_default=True, type=click.IntRange(0, 65535), help="The port; 0 for one that is free."
)
@click.option("--unix", type=click.Path(), help="Listen on a Unix socket instead.")
@click.option("--tokens", type=click.Path(exists=True, dir_okay=False), help='JSON file: {"<token>": "<user id>"}.')
@click.option("--key", envvar="TRIO_HUB_KEY", help="Key for POST /publish and /tickets [env: TRIO_HUB_KEY].")
@click.option("--window", type=float, help="Seconds that a connection outlives its link [default: 60].")
@click.option("--origin", "origins", multiple=True, help="A page that may connect, as https://example.org.")
@click.option("--proxy", "proxies", multiple=True, help="A network whose X-Forwarded-For is believed; or unix.")
@click.option("--cert", type=click.Path(exists=True, dir_okay=False), help="TLS certificate chain (PEM).")
@click.option("--cert-key", type=click.Path(exists=True, dir_okay=False), help="Its key, where it is not in there.")
@click.option("--metrics", is_flag=True, help="Answer GET /metrics, for Prometheus; with --key to whoever has it.")
@click.option("--backplane", metavar="URL", help="Redis, as redis://host:6379/0: be one node of several.")
@click.option("--node", help="The name of this node [default: made up].")
@click.option("--cluster-key", envvar="TRIO_HUB_CLUSTER_KEY", help="What nodes sign with [env: TRIO_HUB_CLUSTER_KEY].")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes on this port; takes --backplane.")
@click.option("--shared", is_flag=True, hidden=True, help="Listen where others may, too.")
@click.option("--log-level", default="warning", type=click.Choice(["debug", "info", "warning", "error"]))
def serve(
    host: str,
    port: int,
    unix: str | None,
    tokens: str | None,
    key: str | None,
    window: float | None,
    origins: tuple[str, ...],
    proxies: tuple[str, ...],
    cert: str | None,
    cert_key: str | None,
    metrics: bool,
    backplane: str | None,
    node: str | None,
    cluster_key: str | None,
    workers: int | None,
    shared: bool,
    log_level: str,
) -> None:
    """Serve topics to everybody who knows a token, or, without --tokens, to everybody on this machine.

    Prints one line with the address once it listens. Ctrl-C and SIGTERM say goodbye to everybody and end it; a
    second one ends it at once.

    With --workers so many processes serve the port; one that ends is started again, and SIGHUP replaces them all, one
    after the other, with nothing lost.
    """
    gc.set_threshold(*_COLLECT_SELDOM)
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if log_level != "debug":  # it tells of every dial in vain at length; trio_hub.cluster tells why in a line
        logging.getLogger("coredis").setLevel(logging.CRITICAL)
    try:
        options = HubOptions() if window is None else HubOptions(window=window, outbox=_outbox_for(window))
    except ValueError as error:
        raise click.UsageError("--window must be more than 0 seconds") from error
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#]+", origin):
            raise click.UsageError(f"--origin is scheme and host, as https://example.org, not {origin}")
    if cert_key is not None and cert is None:
        raise click.UsageError("--cert-key is of use with --cert only")
    if backplane is None and node is not None:
        raise click.UsageError("--node is of use with --backplane only")
    if cluster_key == "":
        raise click.UsageError("an empty --cluster-key keeps nobody out")
    if node is not None and not (node and node.isprintable()):
        raise click.UsageError("a --node has a name of printable characters")
    if workers is not None and not shared:
        if backplane is None:
            raise click.UsageError("--workers takes --backplane: several processes know of each other by Redis alone")
        if unix is not None:
            raise click.UsageError("--workers share a port; a Unix socket takes one process")
        raise SystemExit(trio.run(run_workers, workers, host, port, node))
    known = _read_tokens(tokens)
    context = None
    if cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(cert, cert_key)
        except (OSError, ssl.SSLError) as error:
            raise click.UsageError(f"cannot use the certificate: {error}") from error
    try:
        server = topic_broker(
            known,
            key=key,
            origins=origins,
            proxies=proxies,
            metrics=metrics,
            backplane=None if backplane is None else RedisBackplane(backplane),
            node=node,
            cluster=ClusterOptions(key=None if cluster_key is None else cluster_key.encode()),
            options=options,
        )
        trio.run(_serve, server, host, port, unix, context, shared)
    except HubError as error:
        raise click.ClickException(str(error)) from error


def _outbox_for(window: float) -> OutboxOptions:
    """Return the usual bounds, but that events may grow older than the window."""
    usual = OutboxOptions()
    return attrs.evolve(usual, age=max(usual.age, 2 * window))


async def _serve(
    server: Server, host: str, port: int, unix: str | None, context: ssl.SSLContext | None, shared: bool
) -> None:
    """Serve until a signal comes; then say goodbye, until another one comes."""
    inode = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_tasks() as tasks:
            if unix is None:
                listeners = await tasks.start(partial(server.serve, host, port, ssl_context=context, shared=shared))
                click.echo(f"listening on {_url(listeners[0], context)}")
            else:
                await tasks.start(partial(server.serve, listeners=[await open_unix_listener(unix)]))
                inode = os.stat(unix).st_ino
                click.echo(f"listening on {unix}")
            sys.stdout.flush()
            await _wait_to_leave(signals, with_parent=shared)
            tasks.start_soon(_cancel_at_signal, signals, tasks)
            await server.drain()
            tasks.cancel_scope.cancel()
    if unix is not None:
        _remove(unix, inode)


def _remove(path: str, inode: int) -> None:
    """Remove our socket, unless somebody else listens there by now."""
    with suppress(FileNotFoundError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)


async def _wait_to_leave(signals: AsyncIterator[int], *, with_parent: bool) -> None:
    """Wait for a signal, or, where our input is a pipe of the process that started us, for the end of that."""
    async with open_tasks() as tasks:
        if with_parent:
            tasks.start_soon(_end_with_parent, tasks.cancel_scope)
        await anext(signals)
        tasks.cancel_scope.cancel()


async def _end_with_parent(scope: trio.CancelScope) -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        async for _ in stream:
            pass
    scope.cancel()


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
