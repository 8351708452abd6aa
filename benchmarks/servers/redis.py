"""A Redis of its own, by way of which nodes reach each other: without files, and gone when we are.

python -m benchmarks.servers.redis
"""

from __future__ import annotations

import socket
import subprocess
import time
from tempfile import TemporaryDirectory

from benchmarks.contenders import find_program
from benchmarks.conversation import answer, next_command

PATIENCE = 10.0  # s, for it to start


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Return when it can be dialled. Ends the program where that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise SystemExit("redis-server did not start")


def main() -> None:
    port = free_port()
    with TemporaryDirectory() as folder:
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(
            [find_program("redis-server"), *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        try:
            wait_for(port)
            answer(port=port)
            while next_command():
                answer(cpu=time.clock_gettime(~process.pid << 3 | 2))  # as clock_getcpuclockid(3) makes it
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
