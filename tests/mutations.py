"""Ways to break the outbox, the hub and links, each small, and the proof that their property tests notice every one.

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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import attrs

ROOT = Path(__file__).parent.parent
OUTBOX = "wire/outbox.py"
STORIES_OF_AN_OUTBOX = "tests/wire/test_outbox_in_any_story.py"
STORIES_OF_A_HUB = "tests/stories/test_any_story_of_a_hub.py"
STORIES_OF_A_LINK = "tests/stories/test_links_in_any_weather.py"
STORIES_OF_A_POOL = "tests/link/test_pool_in_any_story.py"


@attrs.frozen
class Mutation:
    """What is broken, in which file, and the changes (text, text instead) that break it."""

    name: str
    path: Path
    changes: tuple[tuple[str, str], ...]

    @property
    def stories(self) -> str:
        """The tests that are to notice it."""
        if self.path.name in ("pool.py", "crowd.py"):
            return STORIES_OF_A_POOL
        if self.path.name in ("outgoing.py", "arrivals.py", "pieces.py", "framing.py"):
            return STORIES_OF_A_LINK
        return STORIES_OF_AN_OUTBOX if self.path.name == "outbox.py" else STORIES_OF_A_HUB

    def apply(self, source: str) -> str:
        """Return the broken source. Raises `ValueError` where a text does not occur exactly once."""
        for old, new in self.changes:
            if source.count(old) != 1:
                raise ValueError(f"{self.name}: {source.count(old)} times {old!r}")
            source = source.replace(old, new)
        return source


def mutation(name: str, *changes: tuple[str, str], of: str = OUTBOX) -> Mutation:
    return Mutation(name, Path("trio_hub", of), changes)


MUTATIONS = (
    mutation(
        "resume begins one event too late",
        ("take_back(self.next_number - wanted)", "take_back(max(self.next_number - wanted - 1, 0))"),
    ),
    mutation(
        "resume refuses the oldest that is kept",
        ("self.first_kept <= wanted <= self.next_number", "self.first_kept < wanted <= self.next_number"),
    ),
    mutation(
        "resume accepts a number never written",
        ("wanted <= self.next_number", "wanted <= self.next_number + 1"),
    ),
    mutation("resume brings events back to front", ("self.owed[:0] = again", "self.owed[:0] = again[::-1]")),
    mutation("resume puts events behind what is owed", ("self.owed[:0] = again", "self.owed += again")),
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
        ("max(number - self.first_kept + 1, 0)", "max(min(number - self.first_kept + 2, self._kept.count), 0)"),
    ),
    mutation(
        "an acknowledgement trims one too few",
        ("max(number - self.first_kept + 1, 0)", "max(number - self.first_kept, 0)"),
    ),
    mutation(
        "an acknowledgement of the next event is taken",
        ("if number >= self.next_number:", "if number > self.next_number:"),
    ),
    mutation(
        "what is kept does not count against the bound",
        ("self._owed_size + self._kept.size + size > options.size", "self._owed_size + size > options.size"),
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
        ("surplus(self._options.kept_count,", "surplus(self._options.kept_count - 1,"),
    ),
    mutation("an event overtakes what is owed", ("        if self.owed:\n            return None\n", "")),
    mutation("a newer event replaces one that is written", ("            self._droppable.written(taken)\n", "")),
    mutation(
        "what is replaced is not taken off the account",
        ("        self._owed_size -= self._droppable.dead_size\n", ""),
    ),
    mutation(
        "a restart goes on with the old numbers",
        ("        self.next_number = 0\n", "        self.next_number = getattr(self, 'next_number', 0)\n"),
    ),
    mutation("nobody is told that an event is lost", ("            heed(Fate.LOST)\n", "            pass\n")),
    # And of the hub, as a whole.
    mutation(
        "who is behind is not told of the gap",
        (
            'self._restart(connection, "overflow")\n        else',
            "connection.outbox._drop(connection.outbox.owed[1:], 'away')\n        else",
        ),
        of="hub/roster.py",
    ),
    mutation(
        "what a failure of the hub lost is not told",
        ("                    self.roster.tell_gap(burst[0].target)", "                    pass"),
        of="hub/hub.py",
    ),
    mutation(
        "who has left stays in the index",
        ("            self._index.remove(connection)\n", ""),
        of="hub/roster.py",
    ),
    mutation(
        "a repeated request is carried out again",
        ("if self._once and request.seq <= self.highest:", "if False:"),
        of="peer/requests.py",
    ),
    mutation(
        "replies are not kept",
        ("            self._replies.keep(request.seq, message)\n", "            pass\n"),
        of="peer/requests.py",
    ),
    mutation(
        "a reply goes to a link that never asked",
        ("link = connection.link if connection.codec.acknowledges else asked_on", "link = connection.link"),
        of="peer/hearing.py",
    ),
    mutation(
        "plugins are not told of a takeover",
        ('        self._tell("taken_over")\n', ""),
        of="peer/connection.py",
    ),
    mutation(
        "a client does not ask again what was not answered",
        ("        for question in self.questions.open:\n            self.send(question)\n", ""),
        of="peer/conversation.py",
    ),
    mutation(
        "a client counts a repeated hello as an event",
        (
            "id, self._next, self._acked = self.id is not None, id, 1, -1",
            "id, self._next, self._acked = self.id is not None, id, 2, -1",
        ),
        of="peer/conversation.py",
    ),
    mutation(
        "a message that its sender gave up looks whole",
        ("            self._give_up(fragments)\n            raise\n", "            raise\n"),
        of="link/outgoing.py",
    ),
    mutation(
        "a message that the link's end has cut looks whole",
        ("        raise again(self._end)\n\n    async def _wait", "        return None\n\n    async def _wait"),
        of="link/arrivals.py",
    ),
    mutation(
        "a mask begins anew with each read",
        ("turn = len(part) % len(key) if not whole else 0", "turn = 0"),
        of="wire/pieces.py",
    ),
    mutation(
        "text is decoded read by read",
        ("data = self.decode(payload, last)", "data = payload.decode(errors='replace')"),
        of="wire/pieces.py",
    ),
    mutation(
        "the last fragment of a message has no end",
        ("first = _FIN if last else 0", "first = 0"),
        of="wire/framing.py",
    ),
)

MISSED = "NOT NOTICED"
NOTHING = (mutation("nothing"), mutation("nothing", of="hub/hub.py"))


def is_noticed(broken: Mutation, seed: int) -> str | None:
    """Run the stories on a broken copy; return what noticed it, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("trio_hub", "tests"):
            shutil.copytree(ROOT / part, Path(folder, part), ignore=_UNNEEDED)
        shutil.copy(ROOT / "pyproject.toml", folder)
        Path(folder, broken.path).write_text(broken.apply((ROOT / broken.path).read_text()))
        environment = {**os.environ, "PYTHONPATH": folder, "HYPOTHESIS_PROFILE": "no shrinking"}
        options = ("-xq", "--tb=line", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}")
        command = [sys.executable, "-m", "pytest", *options, broken.stories]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return None
    failure = re.search(r"^(\S+\.py):(\d+): (\w+)", run.stdout, re.MULTILINE)
    if run.returncode != 1 or failure is None:
        raise RuntimeError(f"{broken.name}: {run.stdout}{run.stderr}")
    path, line, error = failure.groups()
    if not path.startswith(folder):
        return error
    return f"{error} in `{_function_at(ROOT / Path(path).relative_to(folder), int(line))}`"


def _function_at(path: Path, line: int) -> str:
    """Return the name of the function that this line is in; a rule, an invariant, or one of the outbox itself."""
    return re.findall(r"^ +def (\w+)", "\n".join(path.read_text().splitlines()[:line]), re.MULTILINE)[-1]


_UNNEEDED = shutil.ignore_patterns("node_modules", "__pycache__", ".hypothesis")


def search(broken: Mutation, seeds: range) -> str:
    """Return the line of the table: with which of these seeds the mutation is noticed, and by what."""
    for seed in seeds:
        begun = time.perf_counter()
        noticed = is_noticed(broken, seed)
        if noticed is not None:
            return f"{broken.name:50} {seed:4} {time.perf_counter() - begun:5.1f} s  {noticed}"
    return f"{broken.name:50}    -        -  {MISSED}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3, help="so many are tried, as long as nothing is noticed")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    missed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if any(MISSED not in line for line in pool.map(partial(search, seeds=seeds), NOTHING)):
            sys.exit("the stories fail where nothing is broken")
        print(f"{'mutation':50} {'seed':>4} {'after':>7}  noticed by")
        for line in pool.map(partial(search, seeds=seeds), MUTATIONS):
            print(line, flush=True)
            missed += MISSED in line
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
