"""The Autobahn test suite against both ends of a link: ``python -m tests.autobahn WSTEST REPORTS [all]``.

As a client we call its fuzzing server, once for each case; as a server, `examples/echo.py`, we are called by its
fuzzing client. Each writes what it thinks of us into REPORTS: as HTML for people, and as JSON, from which the tables
come. The exit status is 1 where a case failed or was not run.

Each case about compression sends a thousand messages, of up to 128 KiB: those above 1 KiB are run only with `all`.
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
from trio_hub import CompressionOptions, LinkLost, LinkOptions, PeerFault, open_link

US = "trio_hub"
ALL = [f"{section}.*" for section in SECTIONS]
COMPRESSION = {"12": 5, "13": 7}  # sections, and how many parts they have
SMALL = [
    f"{section}.{part}.{case}"
    for section, parts in COMPRESSION.items()
    for part in range(1, parts + 1)
    for case in range(1, 5)
]
QUICK = [*(f"{section}.*" for section in SECTIONS if section not in COMPRESSION), *SMALL]
OPTIONS = LinkOptions(max_message=16 * 2**20, max_fragments=2**16 + 1, compression=CompressionOptions(above=0))
"""What section 9 takes (16 MiB in one frame, and 4 MiB in frames of 64 bytes with an empty one behind them), and
sections 12 and 13."""
PATIENCE = 7200  # seconds for both roles; what is quick takes two minutes


async def main(wstest: Path, reports: Path, cases: list[str]) -> bool:
    """Run the suite against both roles, print what it found, and return whether all is well."""
    with trio.fail_after(PATIENCE):
        count = await call(Wstest(wstest, reports / "client", cases))
        await be_called(Wstest(wstest, reports / "server", cases))
    well = True
    for role in ("client", "server"):
        verdicts = read_report(reports / role)
        print(f"\nas a {role}\n{as_table(verdicts)}\n{len(verdicts)} of {count} cases were run", flush=True)
        well = well and len(verdicts) == count and not failures(verdicts)
    return well


class Wstest:
    """The suite's command, and the folder where its specification, its log and its report stand."""

    def __init__(self, command: Path, folder: Path, cases: list[str]) -> None:
        folder.mkdir(parents=True)
        self._command = command
        self._folder = folder
        self._cases = cases

    async def run(self, mode: str, specification: dict[str, Any]) -> None:
        """Run it to its end; it is ended when cancelled."""
        file = self._folder / "specification.json"
        file.write_text(json.dumps({"outdir": str(self._folder), "cases": self._cases, **specification}))
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
    limits = ("--max-message", str(OPTIONS.max_message), "--max-fragments", str(OPTIONS.max_fragments))
    async with program(sys.executable, "examples/echo.py", "--compress", *limits, within=PATIENCE) as server:
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
        async with open_link(url, options=OPTIONS) as link:
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
    command, reports = (Path(argument).absolute() for argument in sys.argv[1:3])
    cases = ALL if sys.argv[3:] == ["all"] else QUICK
    shutil.rmtree(reports, ignore_errors=True)  # an old report must not stand for one that was not written
    sys.exit(not trio.run(main, command, reports, cases))
