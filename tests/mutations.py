"""Ways to break the outbox, each small, and the proof that its property tests notice every one.

    python -m tests.mutations [--seed 1]

A test that cannot fail proves nothing. Each mutation below is made in a copy of the package, and the tests of every
story are run on it with a given seed; that they fail is what is wanted. Prints a table; ends with 1 where a mutation
was not noticed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
MUTATED = Path("trio_hub/wire/outbox.py")
STORIES = "tests/wire/test_outbox_in_any_story.py"


@attrs.frozen
class Mutation:
    """What is broken, and the changes (text, text instead) that break it."""

    name: str
    changes: tuple[tuple[str, str], ...]

    def apply(self, source: str) -> str:
        """Return the broken source. Raises `ValueError` where a text does not occur exactly once."""
        for old, new in self.changes:
            if source.count(old) != 1:
                raise ValueError(f"{self.name}: {source.count(old)} times {old!r}")
            source = source.replace(old, new)
        return source


def mutation(name: str, *changes: tuple[str, str]) -> Mutation:
    return Mutation(name, changes)


MUTATIONS = (
    mutation(
        "resume begins one event too late",
        ("range(self.next_number - wanted)", "range(self.next_number - wanted - 1)"),
    ),
    mutation(
        "resume refuses the oldest that is kept",
        ("self.first_kept <= wanted <= self.next_number", "self.first_kept < wanted <= self.next_number"),
    ),
    mutation(
        "resume accepts a number never written",
        ("wanted <= self.next_number", "wanted <= self.next_number + 1"),
    ),
    mutation("resume brings events back to front", ("self.owed[:0] = reversed(again)", "self.owed[:0] = again")),
    mutation("resume puts events behind what is owed", ("self.owed[:0] = reversed(again)", "self.owed += again[::-1]")),
    mutation(
        "resume repeats what is volatile",
        ("or any(body.delivery is not MUST for body in again)", "and False"),
    ),
    mutation(
        "a number is given when an event is offered",
        ("self.owed.append(body)\n", "self.owed.append(body)\n        self.next_number += 1\n"),
        ("        self.next_number += len(taken)\n", ""),
    ),
    mutation(
        "an acknowledgement trims one too many",
        ("range(number - self.first_kept + 1)", "range(min(number - self.first_kept + 2, len(self._kept)))"),
    ),
    mutation(
        "an acknowledgement trims one too few",
        ("range(number - self.first_kept + 1)", "range(number - self.first_kept)"),
    ),
    mutation(
        "an acknowledgement of the next event is taken",
        ("if number >= self.next_number:", "if number > self.next_number:"),
    ),
    mutation(
        "what is kept does not count against the bound",
        ("self._owed_size + self._kept_size + size > options.size", "self._owed_size + size > options.size"),
    ),
    mutation(
        "one event more than the bound",
        ("+ count > options.count", "+ count > options.count + 1"),
    ),
    mutation(
        "more is written than may be unacknowledged",
        ("if size <= most and (fits or not self._acknowledged):", "if size <= most:"),
    ),
    mutation(
        "the oldest is forgotten one too early",
        ("while len(kept) > options.kept_count", "while len(kept) >= options.kept_count"),
    ),
    mutation("an event overtakes what is owed", ("if self.owed or len(kept) >=", "if len(kept) >=")),
    mutation("a newer event replaces one that is written", ("            self._droppable.written(taken)\n", "")),
    mutation(
        "what is replaced is not taken off the account",
        ("            self._owed_size -= size\n        return count", "        return count"),
    ),
    mutation(
        "a restart goes on with the old numbers",
        ("        self.next_number = 0\n", "        self.next_number = getattr(self, 'next_number', 0)\n"),
    ),
    mutation("nobody is told that an event is lost", ("            heed(Fate.LOST)\n", "            pass\n")),
)


def is_noticed(broken: Mutation, seed: int) -> str | None:
    """Run the stories on a broken copy; return what noticed it, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("trio_hub", "tests"):
            shutil.copytree(ROOT / part, Path(folder, part), ignore=_UNNEEDED)
        shutil.copy(ROOT / "pyproject.toml", folder)
        Path(folder, MUTATED).write_text(broken.apply((ROOT / MUTATED).read_text()))
        environment = {**os.environ, "PYTHONPATH": folder, "HYPOTHESIS_PROFILE": "no shrinking"}
        options = ("-xq", "--tb=line", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}")
        command = [sys.executable, "-m", "pytest", *options, STORIES]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return None
    failure = re.search(r"^(\S+\.py):(\d+): (\w+)", run.stdout, re.MULTILINE)
    if run.returncode != 1 or failure is None:
        raise RuntimeError(f"{broken.name}: {run.stdout}{run.stderr}")
    path, line, error = failure.groups()
    return f"{error} in `{_function_at(ROOT / Path(path).relative_to(folder), int(line))}`"


def _function_at(path: Path, line: int) -> str:
    """Return the name of the function that this line is in; a rule, an invariant, or one of the outbox itself."""
    return re.findall(r"^ +def (\w+)", "\n".join(path.read_text().splitlines()[:line]), re.MULTILINE)[-1]


_UNNEEDED = shutil.ignore_patterns("node_modules", "__pycache__", ".hypothesis")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="so many more are tried where the first finds nothing")
    arguments = parser.parse_args()
    missed = 0
    print(f"{'mutation':50} {'seed':>4} {'after':>7}  noticed by")
    for broken in MUTATIONS:
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            begun = time.perf_counter()
            noticed = is_noticed(broken, seed)
            if noticed is not None:
                print(f"{broken.name:50} {seed:4} {time.perf_counter() - begun:5.1f} s  {noticed}", flush=True)
                break
        else:
            missed += 1
            print(f"{broken.name:50}    -        -  NOT NOTICED", flush=True)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
