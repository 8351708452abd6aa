"""The Autobahn test suite against both ends of a link: ``python -m tests.autobahn WSTEST REPORTS``.

As a client we call its fuzzing server, once for each case; as a server, `examples/echo.py`, we are called by its
fuzzing client. Each writes what it thinks of us into REPORTS: as HTML for people, and as JSON, from which the tables
come. The exit status is 1 where a case failed or was not run.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from examples.echo import echo
from tests.autobahn.verdicts import SECTIONS, Verdicts, as_table, failures, verdicts_of
from tests.processes import program
from trio_hub import LinkLost, LinkOptions, PeerFault, open_link

US = "trio_hub"
CASES = [f"{section}.*" for section in SECTIONS]
LARGEST = LinkOptions(max_message=16 * 2**20, max_fragments=2**16 + 1)
"""What section 9 takes: 16 MiB in one frame, and 4 MiB in frames of 64 bytes with an empty one behind them."""
PATIENCE = 300  # seconds for both roles; they take less than a minute


async def main(wstest: Path, reports: Path) -> bool:
    """Run the suite against both roles, print what it found, and return whether all is well."""
    with trio.fail_after(PATIENCE):
        count = await call(Wstest(wstest, reports / "client"))
        await be_called(Wstest(wstest, reports / "server"))
    well = True
    for role in ("client", "server"):
        verdicts = read_report(reports / role)
        print(f"\nas a {role}\n{as_table(verdicts)}\n{len(verdicts)} of {count} cases were run", flush=True)
        well = well and len(verdicts) == count and not failures(verdicts)
    return well


class Wstest:
    """The suite's command, and the folder where its specification, its log and its report stand."""

    def __init__(self, command: Path, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._command = command
        self._folder = folder

    async def run(self, mode: str, specification: dict[str, Any]) -> None:
        """Run it to its end; it is ended when cancelled."""
        file = self._folder / "specification.json"
        file.write_text(json.dumps({"outdir": str(self._folder), "cases": CASES, **specification}))
        with (self._folder / "wstest.log").open("wb") as log:
            command = [self._command, "--mode", mode, "--spec", file, "--webport", "0"]
            await trio.run_process(command, stdout=log, stderr=subprocess.STDOUT)


async def call(wstest: Wstest) -> int:
    """Be the client of the suite's server in every case; return how many there are."""
    with free_port() as port:
        url = f"ws://127.0.0.1:{port}"
        async with trio.open_nursery() as tasks:
            tasks.start_soon(wstest.run, "fuzzingserver", {"url": url})
            count = await ask_for_count(url)
            for number in range(1, count + 1):
                await converse(f"{url}/runCase?case={number}&agent={US}")
            await converse(f"{url}/updateReports?agent={US}")
            tasks.cancel_scope.cancel()
    return count


async def be_called(wstest: Wstest) -> None:
    """Be the server that the suite's client calls."""
    limits = ("--max-message", str(LARGEST.max_message), "--max-fragments", str(LARGEST.max_fragments))
    async with program(sys.executable, "examples/echo.py", *limits, within=PATIENCE) as server:
        await wstest.run("fuzzingclient", {"servers": [{"agent": US, "url": await server.line()}]})


async def ask_for_count(url: str) -> int:
    """Return how many cases there are, as soon as the suite's server answers."""
    while True:
        with suppress(LinkLost):
            async with open_link(f"{url}/getCaseCount") as link:
                return int(await anext(link))
        await trio.sleep(0.1)


async def converse(url: str) -> None:
    """Echo until the link ends, however it does: the suite judges that, not we."""
    with suppress(LinkLost, PeerFault):
        async with open_link(url, options=LARGEST) as link:
            await echo(link)


def read_report(folder: Path) -> Verdicts:
    """Return the verdicts in a folder's report."""
    return verdicts_of(json.loads((folder / "index.json").read_text()).get(US, {}))


@contextmanager
def free_port() -> Iterator[int]:
    """Keep a port for a program that sets SO_REUSEADDR, as the suite does.

    It is bound but not listened to: so that program may have it, and nobody else is given it meanwhile.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


if __name__ == "__main__":
    command, reports = (Path(argument).absolute() for argument in sys.argv[1:])
    shutil.rmtree(reports, ignore_errors=True)  # an old report must not stand for one that was not written
    sys.exit(not trio.run(main, command, reports))
