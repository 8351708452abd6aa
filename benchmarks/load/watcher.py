"""Somebody who keeps a list of who is in a topic, as a page does: from what is told.

    python -m benchmarks.load.watcher PORT TOPIC

Answers when it watches. Then ``until USERS SECONDS`` waits, so many seconds at most, until there are so many in its
list, and answers how many events have told of changes since the last time. They must be ``user-0`` and those that
follow. ``check USERS`` asks the hub itself, which must say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.load.raw import Trouble
from trio_hub import Client, Gap, open_client

__all__ = ["check_users"]


class Watcher:
    """A list that is kept by one client. `events` have told of changes; with a gap it is no list any more."""

    def __init__(self, client: Client, topic: str) -> None:
        self._client = client
        self._topic = topic
        self.users: dict[str, str] = {}
        self.events = 0
        self.has_gap = False

    async def watch(self) -> None:
        """Begin with whoever is there."""
        self.users = (await self._client.request("watch", {"topic": self._topic}))["users"]

    async def listen(self) -> None:
        """Keep the list, until there is a gap."""
        try:
            async for event in self._client:
                self.events += 1
                self.users |= event.data.get("joined", {}) | event.data.get("changed", {})
                for user in event.data.get("left", []):
                    self.users.pop(user, None)
        except Gap:
            self.has_gap = True

    async def until(self, count: int, seconds: float) -> int:
        """Wait until so many are there; return by how many events that was told. Raises `Trouble` for a wrong list."""
        with trio.move_on_after(seconds):
            while len(self.users) != count and not self.has_gap:  # noqa: ASYNC110 - of no interest to the hub
                await trio.sleep(0.02)
        if self.has_gap:
            raise Trouble("the watcher was told of a gap")
        check_users(self.users, count)
        events, self.events = self.events, 0
        return events

    async def check(self, count: int) -> None:
        """Raise `Trouble` where the hub itself has a wrong list."""
        check_users((await self._client.request("presence", {"topic": self._topic}))["users"], count)


def check_users(users: Mapping[str, str], count: int) -> None:
    """Raise `Trouble` unless these are so many, from ``user-0`` on, and all of them online."""
    expected = {f"user-{number}" for number in range(count)}
    missing, too_many = expected - set(users), set(users) - expected
    if missing or too_many:
        raise Trouble(f"of {count} users {len(missing)} are missing in a list, and {len(too_many)} should not be there")
    if set(users.values()) - {"online"}:
        raise Trouble("somebody in a list is not online")


async def _main(port: str, topic: str) -> None:
    async with open_client(f"ws://127.0.0.1:{port}/ws?user=watcher") as client, trio.open_nursery() as tasks:
        watcher = Watcher(client, topic)
        await watcher.watch()
        tasks.start_soon(watcher.listen)
        answer()
        while words := await trio.to_thread.run_sync(next_command):
            try:
                await _do(words, watcher)
            except Trouble as trouble:
                answer(failed=str(trouble))
        tasks.cancel_scope.cancel()


async def _do(words: Sequence[str], watcher: Watcher) -> None:
    match words:
        case ["until", count, seconds]:
            answer(events=await watcher.until(int(count), float(seconds)))
        case ["check", count]:
            await watcher.check(int(count))
            answer()


if __name__ == "__main__":
    trio.run(_main, *sys.argv[1:])
