"""``trio-hub bench``: a load, from its arguments to its exit status."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable

import click
import msgspec
import trio

from trio_hub.cli.bench.findings import Reading
from trio_hub.cli.bench.load import Load
from trio_hub.cli.bench.members import SMALLEST, Plan
from trio_hub.cli.bench.report import open_display, print_table
from trio_hub.cli.terminal import Number, plainly, run, token_option
from trio_hub.link.tasks import open_tasks

__all__ = ["bench"]

_INTERRUPTED = 130
_SLOWEST = 0.001  # publishes a second
_OTHER_FILES = 64  # open files beside the links: terminal, modules, event loop, threads


@click.command()
@click.argument("url")
@click.option("--connections", default=100, show_default=True, type=click.IntRange(1), help="Clients that listen.")
@click.option("--topics", default=1, show_default=True, type=click.IntRange(1), help="Topics; each client hears one.")
@click.option("--publishers", default=1, show_default=True, type=click.IntRange(1, 1000), help="Clients that publish.")
@click.option(
    "--rate",
    default=0.0,
    type=Number(0, 1_000_000),
    help="Publishes a second, all publishers together [default: as many as the hub accepts].",
)
@click.option("--size", default=200, show_default=True, type=click.IntRange(SMALLEST), help="Bytes of data, as JSON.")
@click.option("--seconds", default=10.0, show_default=True, type=Number(0, min_open=True), help="How long to publish.")
@click.option("--cbor", is_flag=True, help="Speak CBOR instead of JSON.")
@token_option
@click.option(
    "--patience",
    default=10.0,
    show_default=True,
    type=Number(0, min_open=True),
    help="Seconds to wait for each connection, and at the end for the rest as long as some of it comes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def bench(
    url: str,
    connections: int,
    topics: int,
    publishers: int,
    rate: float,
    size: int,
    seconds: float,
    cbor: bool,
    token: str | None,
    patience: float,
    as_json: bool,
) -> None:
    """Load a running server, and see what it does: how fast, how late, and whether everything comes.

    The publishers' events go to topics that nobody else knows, and every listener checks that each comes once and in
    order. Ctrl-C ends it early, with what was measured so far; a second one does not wait for what is on its way.

    The exit status is 0 only when every publish was accepted and every event came, once and in order, or its loss was
    told as a gap.
    """
    if 0 < rate < _SLOWEST:
        raise click.UsageError(f"--rate must be 0, or at least {_SLOWEST:g}")
    if topics > connections:
        raise click.UsageError("--topics must not be more than --connections: each topic needs somebody who hears it")
    _allow_files(connections + publishers + _OTHER_FILES)
    plan = Plan(
        url=url,
        token=token,
        connections=connections,
        topics=topics,
        publishers=publishers,
        rate=rate,
        size=size,
        seconds=seconds,
        cbor=cbor,
        patience=patience,
    )
    load = Load(plan)
    run(_bench, load)
    findings = load.findings()
    with plainly():
        if as_json:
            sys.stdout.buffer.write(msgspec.json.encode(findings.as_json()) + b"\n")
        else:
            print_table(findings)
        sys.stdout.flush()
    if findings.interrupted:
        raise SystemExit(_INTERRUPTED)
    raise SystemExit(0 if findings.is_sound else 1)


def _allow_files(count: int) -> None:
    """Raise our limit of open files so far, where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise click.UsageError(f"so many connections need {count} open files, and the limit is {hard} (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def _bench(load: Load) -> None:
    """Run it, show it, and heed signals."""
    with open_display() as show, trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_tasks() as tasks:
            tasks.start_soon(_stop_at_signals, signals, load)
            tasks.start_soon(_show_every_second, show, load)
            await load.run()
            tasks.cancel_scope.cancel()


async def _stop_at_signals(signals: AsyncIterator[int], load: Load) -> None:
    async for _ in signals:
        load.stop()


async def _show_every_second(show: Callable[[Reading], None], load: Load) -> None:
    while True:
        await trio.sleep(1)
        # In a thread, so that a terminal that takes nothing keeps us from showing, not from measuring; nor does one
        # that is gone.
        try:
            await trio.to_thread.run_sync(show, load.reading(), abandon_on_cancel=True)
        except OSError:
            return
