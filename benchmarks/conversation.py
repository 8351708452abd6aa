"""Programs that answer: a command is a line of words, an answer a line of JSON.

The one side is `Program`, in the process that measures. The other is `next_command` and `answer`; programs in other
languages say the same on their stdin and stdout.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Failed", "Program", "answer", "next_command", "python"]

_ROOT = Path(__file__).parent.parent


class Failed(Exception):
    """A program gave no answer, or a wrong one."""


def python(module: str, *words: object, profile: Path | None = None) -> list[str]:
    """Return the command that runs one of our modules. `profile` names a file for its cProfile statistics."""
    profiler = [] if profile is None else ["-m", "cProfile", "-o", str(profile)]
    return [sys.executable, *profiler, "-m", module, *map(str, words)]


class Program:
    """A program in a process of its own, `pid`, until the block is left. `facts` is what it said first."""

    def __init__(self, command: Sequence[str], *, within: float = 60.0) -> None:
        self._name = " ".join(command[-3:])
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=_ROOT)
        try:
            self.pid = self._process.pid
            self.facts = self.listen(within)
        except BaseException:
            self._end()
            raise

    def tell(self, *words: object) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        except BrokenPipeError:
            raise Failed(f"{self._name} has ended") from None

    def listen(self, within: float = 30.0) -> dict[str, Any]:
        """Return the next answer. Raises `Failed` when there is none within so many seconds."""
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], within)[0]:
            raise Failed(f"{self._name} gave no answer within {within:g} s")
        line = out.readline()
        if not line:
            raise Failed(f"{self._name} has ended")
        facts: dict[str, Any] = json.loads(line)
        if "failed" in facts:
            raise Failed(f"{self._name}: {facts['failed']}")
        return facts

    def ask(self, *words: object, within: float = 30.0) -> dict[str, Any]:
        """Give a command and return the answer to it."""
        self.tell(*words)
        return self.listen(within)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # to a program, the end of its commands is its own
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def next_command() -> Sequence[str]:
    """Return the words of the next command, none when there will be no more. Blocks."""
    return sys.stdin.readline().split()


def answer(**facts: Any) -> None:
    """Say something to the one who started us."""
    print(json.dumps(facts), flush=True)
