"""A Redis that a test starts, freezes, kills and starts again, on a port of its own and without a file."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Self

import pytest

__all__ = ["RedisServer"]

PATIENCE = 20.0  # s, that a server has to start on a busy machine


class RedisServer:
    """A running server; a context manager. `start` again, and it is another one, which is empty."""

    def __init__(self, *options: str) -> None:
        self._program = shutil.which("redis-server")
        if self._program is None:
            pytest.skip("redis-server is not installed here")
        self._options = options
        self._directory = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._program is not None
        said = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        where = ("--dir", self._directory.name)
        self._process = subprocess.Popen([self._program, *said, *where, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.tell("PING")
                return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.01)

    def kill(self) -> None:
        """End it, and all that it knows."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Let it do nothing, with all its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def tell(self, command: str) -> str:
        """Have a command carried out, and return the first line of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            connection.sendall(command.encode() + b"\r\n")
            with connection.makefile("rb") as replies:
                return replies.readline().decode().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._directory.cleanup()
