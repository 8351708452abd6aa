"""Some of the clients of a soak, in a process of their own.

    python -m tests.soak.crowd PORT WHICH SETTINGS

Answers when all of them are connected, hear their topics, and have come back from their first lost link. Commands:
``storm`` has them ask and lose links for as long as the settings say; ``finish PUBLISHED`` waits in fair weather until
each has heard everything of so many events, and tells what they heard.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import attrs
import trio

from benchmarks.conversation import answer, next_command
from tests.soak.findings import Heard, compare
from tests.soak.process import Effort
from tests.soak.road import Road, Spoil
from tests.soak.settings import Settings
from trio_hub import (
    Client,
    ClientOptions,
    Connected,
    Event,
    Gap,
    Lost,
    OutcomeUnknown,
    RequestFailed,
    open_client,
)

OPTIONS = ClientOptions(longest_retry=5.0)
"""A dozen dials fit into the hub's window of 60 s, however long nobody answers: no resume comes too late."""
WAYS = (Spoil.RESET, Spoil.CLOSE, Spoil.ABANDON, Spoil.STALL)
WEIGHTS = (3, 3, 3, 1)
PATIENCE = 60.0  # s, for what is still to come in fair weather
AFTERMATH = 1.5  # s, in which something may still come twice; longer than a client waits to acknowledge


class Member:
    """One client: it hears its topics, and in a storm it asks and loses its links."""

    def __init__(self, number: int, settings: Settings, heard: Heard) -> None:
        self.number = number
        self.numbers: list[int] = []  # of the events, as they came
        self.road = Road()
        self._settings = settings
        self._heard = heard  # by the whole crowd
        self._news = trio.Event()
        self._resumed = trio.Event()
        self._client: Client

    async def live(self, url: str, *, task_status: trio.TaskStatus[None]) -> None:
        """Stay connected until cancelled; started when every topic is heard."""
        async with open_client(
            url, open_stream=self.road.open, on_status=self._heed_status, options=OPTIONS
        ) as self._client:
            for topic in self._settings.topics_of(self.number):
                await self._client.subscribe(str(topic))
            task_status.started()
            await self._hear()

    def _heed_status(self, status: Connected | Lost) -> None:
        if isinstance(status, Connected) and status.resumed:
            self._heard.resumes += 1
            self._resumed.set()

    async def _hear(self) -> None:
        while True:
            try:
                for event in await self._client.receive_all():
                    self._note(event)
            except Gap:
                self._heard.gaps += 1

    def _note(self, event: Event) -> None:
        self.numbers.append(event.data["n"])
        self._heard.delays[str(round((time.monotonic() - event.data["at"]) * 1000))] += 1
        self._news.set()

    async def wait_until_heard(self, count: int) -> None:
        """Wait until so many events have come, and some more time, in which nothing should."""
        while len(self.numbers) < count:
            self._news = trio.Event()
            await self._news.wait()
        await trio.sleep(AFTERMATH)

    async def rehearse(self) -> None:
        """Lose the first link, and wait until there is another one."""
        await self.road.spoil(Spoil.RESET)
        await self._resumed.wait()

    async def lose_links(self) -> None:
        """Have something happen to the link, again and again."""
        chance = self._settings.chance(self.number, "weather")
        while True:
            await trio.sleep(chance.uniform(*self._settings.cuts))
            await self.road.spoil(*chance.choices(WAYS, WEIGHTS))

    async def ask(self, until: float) -> None:
        """Ask about once a second until then, one request after the other."""
        chance = self._settings.chance(self.number, "requests")
        while trio.current_time() < until:
            await trio.sleep(chance.uniform(0, 2))
            name, seconds = f"{self.number}-{len(self._heard.asked)}", chance.uniform(0, 0.2)
            self._heard.asked.append(name)
            try:
                if await self._client.request("count", {"name": name, "seconds": seconds}) == name:
                    self._heard.answered += 1
            except OutcomeUnknown:
                self._heard.unknown += 1
            except RequestFailed:
                self._heard.refused += 1


class Crowd:
    """The clients of this process."""

    def __init__(self, which: int, settings: Settings) -> None:
        self._settings = settings
        self._heard = Heard()
        self._members = [Member(number, settings, self._heard) for number in settings.clients_of(which)]

    async def gather(self, url: str, tasks: trio.Nursery) -> None:
        """Have all connect, one after the other; then have each come back once.

        A connection that has come back holds more than one with its first link. What it holds then is to be compared.
        """
        for member in self._members:
            await tasks.start(member.live, url)
        async with trio.open_nursery() as coming_back:
            for member in self._members:
                coming_back.start_soon(member.rehearse)

    async def storm(self) -> None:
        """Let them ask and lose links; then fair weather, until all was answered."""
        until = trio.current_time() + self._settings.seconds
        async with trio.open_nursery() as asking:
            async with trio.open_nursery() as losing:
                for member in self._members:
                    asking.start_soon(member.ask, until)
                    losing.start_soon(member.lose_links)
                await trio.sleep_until(until)
                losing.cancel_scope.cancel()
            asking.cancel_scope.deadline = until + PATIENCE

    async def finish(self, published: int) -> Heard:
        """Wait until all have heard all of so many events, within bounds; return what they heard."""
        wanted = {member: self._settings.heard_by(member.number, published) for member in self._members}
        with trio.move_on_after(PATIENCE):
            async with trio.open_nursery() as waiting:
                for member, numbers in wanted.items():
                    waiting.start_soon(member.wait_until_heard, len(numbers))
        for member, numbers in wanted.items():
            member.road.tidy_up()
            self._heard.faults += compare(member.numbers, numbers)
            self._heard.spoilt += Counter({how.value: count for how, count in member.road.spoilt.items()})
        return attrs.evolve(self._heard, effort=Effort.so_far())


async def main() -> None:
    port, which, settings = sys.argv[1:]
    crowd = Crowd(int(which), Settings.parse(settings))
    async with trio.open_nursery() as tasks:
        await crowd.gather(f"ws://127.0.0.1:{port}", tasks)
        answer(ready=True)
        while words := await trio.to_thread.run_sync(next_command):
            match words:
                case ["storm"]:
                    await crowd.storm()
                    answer(calm=True)
                case ["finish", published]:
                    answer(**attrs.asdict(await crowd.finish(int(published))))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
