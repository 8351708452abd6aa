"""Several processes on one port: one that serves nobody starts them, and sees that there are always so many.

Each worker is this program once more, with the same arguments, listening where the others do. The system gives each
newcomer to one of them. One that ends is started again: at once the first time, later with growing pauses. SIGTERM and
Ctrl-C end them all, politely; SIGHUP replaces them, one after the other: the new one listens before the old one leaves.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress

import click
import trio

from trio_hub.link.tasks import open_tasks

__all__ = ["run_workers"]

log = logging.getLogger("trio_hub.cli")

_LISTENING = b"listening on "
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # s
_GOOD_AFTER = 30.0  # s, after which a worker's end is no sign that the next will end as well
_TO_BEGIN = 30.0  # s, in which a worker must listen
_TO_LEAVE = 15.0  # s, in which it must have left; then it is killed


class _Worker:
    """One process. `listens` is set when it does, `has_ended` when it is no more."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.listens = trio.Event()
        self.has_ended = trio.Event()
        self.is_to_leave = False
        self._was_told = False

    def leave(self) -> None:
        """Have it leave politely, if it was not told yet: told twice it would end at once."""
        self.is_to_leave = True
        if not self._was_told and self.process.returncode is None:
            self._was_told = True
            self.process.terminate()


class _Workers:
    """As many as there are `places`, each restarted where it ends."""

    def __init__(self, arguments: list[str], node: str | None, tasks: trio.Nursery) -> None:
        self._arguments = arguments
        self._node = node
        self._tasks = tasks
        self._at: dict[int, _Worker] = {}
        self._all: set[_Worker] = set()  # those that are replaced, and still leave, as well
        self._failures: Counter[int] = Counter()  # in a row, of those in one place
        self._is_leaving = False

    async def start(self, place: int) -> _Worker:
        """Start the worker of this place; it may not listen yet."""
        name = [] if self._node is None else ["--node", f"{self._node}-{place}"]
        command = [sys.executable, "-m", "trio_hub", *self._arguments, *name]
        # A session of its own: Ctrl-C is for us alone. A pipe that we never write to: when we are gone, it ends.
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        worker = self._at[place] = _Worker(process)
        self._all.add(worker)
        self._tasks.start_soon(self._watch, place, worker)
        return worker

    async def _watch(self, place: int, worker: _Worker) -> None:
        """See to a worker until it has ended; then another takes its place, where it was not to leave."""
        begun = trio.current_time()
        async with open_tasks() as tasks:
            tasks.start_soon(self._hear, worker)
            await worker.process.wait()
            tasks.cancel_scope.cancel()
        worker.has_ended.set()
        self._all.remove(worker)
        if not (worker.is_to_leave or self._is_leaving):
            log.error("worker %d (process %d) has ended with %d", place, worker.process.pid, worker.process.returncode)
            await trio.sleep(self._pause(place, trio.current_time() - begun))
            if not self._is_leaving and self._at[place] is worker:
                await self.start(place)

    def _pause(self, place: int, lasted: float) -> float:
        self._failures[place] = 0 if lasted >= _GOOD_AFTER else self._failures[place] + 1
        return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures[place], 10)))

    async def _hear(self, worker: _Worker) -> None:
        """Hear of a worker when it listens; what else it says is said here."""
        said = b""
        assert worker.process.stdout is not None
        async for data in worker.process.stdout:
            said += data
            *lines, said = said.split(b"\n")
            for line in lines:
                if line.startswith(_LISTENING):
                    worker.listens.set()
                else:
                    click.echo(line.decode(errors="replace"))

    async def wait_listening(self) -> bool:
        """Wait until all listen; False where one has ended before."""
        for worker in list(self._at.values()):
            if not await self._listens(worker):
                return False
        return True

    async def _listens(self, worker: _Worker) -> bool:
        with trio.move_on_after(_TO_BEGIN):
            async with open_tasks() as tasks:

                async def wait_for(event: trio.Event) -> None:
                    await event.wait()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(wait_for, worker.listens)
                tasks.start_soon(wait_for, worker.has_ended)
        return worker.listens.is_set() and not worker.has_ended.is_set()

    async def replace_all(self) -> None:
        """Have a new worker in each place, one after the other; one that does not listen takes nobody's place."""
        for place, old in list(self._at.items()):
            old.is_to_leave = True  # whatever becomes of it now, another one is there
            new = await self.start(place)
            if not await self._listens(new):
                log.error("the new worker %d does not listen; the old ones stay", place)
                new.leave()
                self._at[place] = old
                old.is_to_leave = False
                if old.has_ended.is_set():
                    await self.start(place)
                return
            await self._see_off(old)

    async def leave(self) -> None:
        """Have all of them leave."""
        self._is_leaving = True
        async with open_tasks() as tasks:
            for worker in self._all:
                tasks.start_soon(self._see_off, worker)

    async def _see_off(self, worker: _Worker) -> None:
        worker.leave()
        with trio.move_on_after(_TO_LEAVE):
            await worker.has_ended.wait()
            return
        log.error("process %d does not leave; it is killed", worker.process.pid)
        worker.process.kill()
        await worker.has_ended.wait()

    def kill(self) -> None:
        """End all of them at once."""
        self._is_leaving = True
        for worker in self._all:
            if worker.process.returncode is None:
                worker.process.kill()


async def run_workers(count: int, host: str, port: int, node: str | None) -> int:
    """Run so many workers with this program's arguments, until a signal comes; return the exit status."""
    ours = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    with _reserved(host, port) as port, trio.open_signal_receiver(*ours) as signals:
        arguments = [*sys.argv[1:], "--shared", "--port", str(port)]
        async with open_tasks() as tasks:
            workers = _Workers(arguments, node, tasks)
            for place in range(count):
                await workers.start(place)
            if not await workers.wait_listening():
                workers.kill()
                return 1
            click.echo(f"listening on ws://{host}:{port}/ws with {count} workers")
            sys.stdout.flush()
            async with open_tasks() as replacing:
                send, receive = trio.open_memory_channel[None](1)
                replacing.start_soon(_replace_all, receive, workers)
                async for sign in signals:
                    if sign != signal.SIGHUP:
                        break
                    with suppress(trio.WouldBlock):  # once more after this time is enough
                        send.send_nowait(None)
                replacing.cancel_scope.cancel()
            tasks.start_soon(_kill_at_signal, signals, workers)
            await workers.leave()
            tasks.cancel_scope.cancel()
    return 0


@contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port within the block, for processes that share it, and yield it; 0 is one that the system chooses."""
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            sock = stack.enter_context(socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        except OSError as error:
            raise click.ClickException(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
        yield sock.getsockname()[1]


async def _replace_all(wanted: trio.MemoryReceiveChannel[None], workers: _Workers) -> None:
    async for _ in wanted:
        await workers.replace_all()


async def _kill_at_signal(signals: AsyncIterator[int], workers: _Workers) -> None:
    await anext(signals)
    workers.kill()
