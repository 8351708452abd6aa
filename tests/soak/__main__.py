"""A soak over real sockets: many clients whose links are lost all the time, and nothing else is.

    python -m tests.soak [--clients 300] [--seconds 60] [--rate 2000] [--cuts 1 3] [--seed 1]

The server is a process of its own, and so are the crowds of clients. Every client hears a few topics and asks about
once a second, while something befalls its link every few seconds: it is reset, closed, abandoned (so that the server
has to take over a link that looks alive) or stalled. Then there is fair weather, and everything is counted: prints a
table, and ends with 1 where something is not as promised. The seed decides what befalls whom, and when.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import reduce
from operator import add

from benchmarks.conversation import Program, python
from tests.soak.findings import Heard, Look, Published, Soak, as_table, rows
from tests.soak.settings import Settings

PATIENCE = 150.0  # s, for any answer that has not to wait for the storm
QUIET_WITHIN = 30.0  # s, in which all is acknowledged, and links that were taken over are given up
PAUSE = 0.5  # s between two looks


def soak(settings: Settings) -> Soak:
    """Run all of it; takes about 15 s more than the storm."""
    begun = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(Program(python("tests.soak.server", settings.spelled())))
        words = server.facts["port"], settings.spelled()
        crowds = [stack.enter_context(_crowd(which, *words)) for which in range(settings.crowds)]
        start = _look_when(server, lambda look: look.is_quiet)
        for program in crowds:
            program.tell("storm")
        published = Published(**server.ask("publish", within=settings.seconds + PATIENCE))
        for program in crowds:
            program.listen(PATIENCE)
        for program in crowds:
            program.tell("finish", published.count)
        heard = [Heard.parse(program.listen(PATIENCE)) for program in crowds]
        end = _look_when(server, lambda look: look.is_quiet and look.tasks <= start.tasks)
        carried_out = Counter(server.ask("carried_out"))
        left = Look.parse(server.ask("drain"))
    return Soak(settings, time.monotonic() - begun, start, end, left, published, reduce(add, heard), carried_out)


def _crowd(which: int, port: int, settings: str) -> Program:
    return Program(python("tests.soak.crowd", port, which, settings), within=PATIENCE)


def _look_when(server: Program, is_well: Callable[[Look], bool]) -> Look:
    """Look at the server when all is well, or when it should be."""
    deadline = time.monotonic() + QUIET_WITHIN
    while True:
        look = Look.parse(server.ask("look"))
        if is_well(look) or time.monotonic() > deadline:
            return look
        time.sleep(PAUSE)


def main() -> None:
    """The command."""
    usual = Settings()
    parser = argparse.ArgumentParser("python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=usual.clients)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="how long the storm lasts")
    parser.add_argument("--rate", type=float, default=usual.rate, help="events a second")
    parser.add_argument("--cuts", type=float, nargs=2, default=usual.cuts, help="seconds between two cuts of a link")
    parser.add_argument("--seed", type=int, default=usual.seed)
    settings = Settings(**vars(parser.parse_args()))
    print(_machine(), settings, sep="\n", flush=True)
    table = rows(soak(settings))
    print(as_table(table))
    broken = [row.name for row in table if not row.holds]
    if broken:
        sys.exit(f"not as promised: {', '.join(broken)}")


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {os.cpu_count()} cores, on which {os.getloadavg()[0]:.1f} programs ran in the minute before"


if __name__ == "__main__":
    main()
