"""nats-server, heard over its own WebSockets. We start it, and publish on a connection as any client of its does.

A burst is one write with a PING behind it; its PONG, said when the burst was handed to all, is the turn of the loop.
nats-server holds publishers up by itself while anybody is owed more than half of what makes a consumer a slow one.

    python -m benchmarks.servers.nats SIZE

Every message takes SIZE bytes, its MSG line included. A frame holds one or several, so messages are counted.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contenders import find_program
from benchmarks.conversation import answer, next_command
from benchmarks.servers.pace import MOST_OWED

SUBJECT = "bench"
PATIENCE = 10.0  # s, for the server to start
CONFIG = """
host: "127.0.0.1"
port: -1
ports_file_dir: "{folder}"
ping_interval: "1h"
max_payload: {most}
max_pending: {pending}
websocket {{ host: "127.0.0.1", port: -1, no_tls: true, compression: false }}
"""


class Nats:
    """A nats-server that runs with its files in `folder`, and a connection to it that publishes."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self.pid = process.pid
        ports = _ports(folder / f"nats-server_{process.pid}.ports")
        self.port = ports["websocket"]
        self._link = socket.create_connection(("127.0.0.1", ports["nats"]))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.say(b'CONNECT {"verbose":false}\r\n')

    def say(self, commands: bytes) -> None:
        """Return when the server has carried them out."""
        self._link.sendall(commands + b"PING\r\n")
        heard = b""
        while b"PONG\r\n" not in heard:
            if not (data := self._link.recv(4096)):
                raise SystemExit("nats-server has ended the link")
            heard += data

    def cpu(self) -> float:
        """Return the server's CPU time in seconds, by the clock that Linux has for every process."""
        return time.clock_gettime(~self._process.pid << 3 | 2)  # as clock_getcpuclockid(3) makes it


def _ports(file: Path) -> dict[str, int]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return {kind: int(urls[0].rpartition(":")[2]) for kind, urls in json.loads(file.read_text()).items()}
        except (FileNotFoundError, json.JSONDecodeError):  # not there, or not whole
            time.sleep(0.01)
    raise SystemExit("nats-server did not start")


def payload_of(size: int) -> bytes:
    """Return the payload with which a subscriber, whose subscription is number 1, gets so many bytes."""
    for length in range(size):
        if len(f"MSG {SUBJECT} 1 {length}\r\n\r\n") + length == size:
            return b"x" * length
    raise AssertionError(f"no message takes {size} bytes")


def obey(nats: Nats, size: int) -> None:
    payload = payload_of(size)
    message = b"PUB %b %d\r\n%b\r\n" % (SUBJECT.encode(), len(payload), payload)
    answer(port=nats.port, unit=size, pid=nats.pid)
    while words := next_command():
        match words:
            case ["size", messages]:
                answer(units=int(messages))
            case ["publish", messages, burst]:
                commands = message * int(burst)
                answer(begun=time.monotonic(), cpu=nats.cpu())
                for _ in range(0, int(messages), int(burst)):
                    nats.say(commands)
            case ["cpu"]:
                answer(cpu=nats.cpu())


def main(size: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "nats.conf"
        config.write_text(CONFIG.format(folder=folder, most=MOST_OWED, pending=2 * MOST_OWED))
        command = [find_program("nats-server"), "--config", str(config)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            obey(Nats(process, folder), size)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
