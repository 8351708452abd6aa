"""What every command does at the terminal: what it says, and how it ends."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import trio

from trio_hub import Connected, HubError, Lost

__all__ = ["Number", "plainly", "run", "say", "tell_status", "token_option"]

token_option = click.option("--token", envvar="TRIO_HUB_TOKEN", help="Who you are [env: TRIO_HUB_TOKEN].")


class Number(click.FloatRange):
    """A number within a range; what is not a number, as ``nan``, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or complain."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def say(text: str) -> None:
    """Tell the person at the terminal something that is no result."""
    click.echo(text, err=True)


def tell_status(status: Connected | Lost) -> None:
    """Tell of a link that came or was lost, as an `on_status`."""
    match status:
        case Connected(resumed=resumed):
            say("connected again, nothing is lost" if resumed else "connected")
        case Lost(close, retry_in):
            say(f"not connected: {close}; trying again in {retry_in:.1f} s")


def run(main: Any, *arguments: Any) -> None:
    """Run an async command, and end `plainly`."""
    with plainly():
        trio.run(main, *arguments)


@contextmanager
def plainly() -> Iterator[None]:
    """Within the block our own errors are told in a sentence, Ctrl-C and a closed pipe end it quietly."""
    try:
        yield
    except HubError as error:
        raise click.ClickException(str(error)) from error
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever read us is gone, or has had enough: nothing that is still in a buffer can be of interest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(130) from None
    except OSError as error:
        raise click.ClickException(str(error)) from error
