"""The command line: ``trio-hub serve``, ``listen``, ``send`` and ``bench``, each in a module of its own."""

from __future__ import annotations

import click

from trio_hub import __version__
from trio_hub.cli.bench import bench
from trio_hub.cli.listen import listen
from trio_hub.cli.send import send
from trio_hub.cli.serve import serve

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trio-hub")
def cli() -> None:
    """Keep people and programs connected over WebSockets, so that a dropped link costs them nothing."""


for command in (serve, listen, send, bench):
    cli.add_command(command)
