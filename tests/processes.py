"""Programs run as a user would run them, and what they say."""

import signal
import subprocess
import sys
from collections import deque
from contextlib import asynccontextmanager
from pathlib import Path

import trio

__all__ = ["PATIENCE", "TRIO_HUB", "Program", "children_of", "program", "run", "serve"]

PATIENCE = 60.0  # s, that a test has with a program; it cannot be a fixture's, which would not cancel the test
TRIO_HUB = (sys.executable, "-m", "trio_hub")


class Program:
    """A running program: its lines on stdout as they come, and all it said on stderr."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._rest = b""
        self._lines: deque[bytes] = deque()
        self.errors = b""
        self.has_said = trio.Event()

    async def line(self) -> str:
        """The next line on stdout; `EOFError` at the end."""
        while not self._lines:
            data = await self.process.stdout.receive_some(65536)
            if not data:
                raise EOFError(self.errors.decode())
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(lines)
        return self._lines.popleft().decode()

    async def collect_errors(self) -> None:
        async for data in self.process.stderr:
            self.errors += data
            self.has_said.set()
            self.has_said = trio.Event()

    async def wait_for_error(self, words: str) -> None:
        """Wait until these words stand on stderr."""
        while words.encode() not in self.errors:
            await self.has_said.wait()

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal and return its exit status."""
        self.process.send_signal(number)
        return await self.process.wait()


def children_of(pid: int) -> list[int]:
    """The processes that this one has started, by whichever of its threads; of Linux alone."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


@asynccontextmanager
async def program(*command: str, within: float = PATIENCE):
    """Run a program within the block, which may take so many seconds; it is killed at the end if it still lives."""
    process = await trio.lowlevel.open_process(
        list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    running = Program(process)
    try:
        with trio.fail_after(within):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(running.collect_errors)
                yield running
                tasks.cancel_scope.cancel()
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
            await process.stderr.aclose()


async def run(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    """Run a program to its end, within a minute."""
    with trio.fail_after(PATIENCE):
        return await trio.run_process(list(command), stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)


@asynccontextmanager
async def serve(*arguments: str, within: float = PATIENCE):
    """Run `trio-hub serve` within the block; yield it, and its URL."""
    port = () if "--port" in arguments or "--unix" in arguments else ("--port", "0")
    async with program(*TRIO_HUB, "serve", *port, *arguments, within=within) as server:
        line = await server.line()
        yield server, line.removeprefix("listening on ")
