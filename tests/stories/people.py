"""People at a hub, who write down what they hear: one with our own client, one who speaks the compat spelling by hand.

What both write down is a list of `Heard` and `Missed`, in the order in which they were told.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from trio_hub.errors import Gap, HubError, OutcomeUnknown, RequestFailed
from trio_hub.link.dialing import Address, dial
from trio_hub.link.heart import Heart
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import HELLO, Event, Reply, Request
from trio_hub.options import ClientOptions, LinkOptions, OpeningOptions
from trio_hub.peer.client import Client
from trio_hub.testing import Weather, World
from trio_hub.wire.codecs import COMPAT

__all__ = ["Answered", "CompatPerson", "Heard", "Missed", "Person"]


_OPTIONS = LinkOptions(max_message=10_000_000)


@attrs.frozen
class Heard:
    """An event, by the number that its publisher gave it."""

    n: int


@attrs.frozen
class Missed:
    """A gap."""

    reason: str


@attrs.frozen
class Answered:
    """A reply, or its failure's name."""

    n: int
    outcome: Any


class Person:
    """Uses our own client, for as long as `live` runs."""

    acknowledges = True

    def __init__(self, world: World, name: str, *, cbor: bool = False) -> None:
        self.name = name
        self.diary: list[Heard | Missed] = []
        self.asked: list[int] = []  # what will be answered, in whatever way
        self.answers: list[Answered] = []
        self.weather: Weather
        self.attentive = trio.Event()
        self.attentive.set()
        self._world = world
        self._options = ClientOptions(cbor=cbor)
        self._scope = trio.CancelScope()
        self._client: Client
        self._asked: trio.Nursery

    async def live(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen, until `leave`."""
        with self._scope:
            async with (
                self._world.open_client(token=self.name, topics=["town"], options=self._options) as client,
                open_tasks() as self._asked,
            ):
                self._client, self.weather = client, client.weather
                task_status.started()
                while True:
                    await self.attentive.wait()
                    try:
                        event = await client.receive()
                        self.diary.append(Heard(event.data["n"]))
                    except Gap as gap:
                        self.diary.append(Missed(gap.reason))

    def leave(self) -> None:
        self._scope.cancel()

    def ask(self, n: int, seconds: float, deadline: float | None) -> None:
        """Ask something that takes so long; what comes of it is noted in `answers`."""
        self.asked.append(n)
        self._asked.start_soon(self._ask, n, seconds, deadline)

    async def _ask(self, n: int, seconds: float, deadline: float | None) -> None:
        try:
            outcome = await self._client.request("count", {"n": n, "seconds": seconds}, deadline=deadline)
        except OutcomeUnknown:
            outcome = "unknown"
        except RequestFailed as failure:
            outcome = failure.id
        self.answers.append(Answered(n, outcome))


class CompatPerson:
    """Does as Mattermost's client does: checks numbers, resumes with the next one, and starts again after a hello."""

    acknowledges = False

    def __init__(self, world: World, name: str, *, cbor: bool = False) -> None:
        self.name = name
        self.diary: list[Heard | Missed] = []
        self.asked: list[int] = []  # what will be answered, in whatever way
        self.answers: list[Answered] = []
        self.weather = Weather(world.reach)
        self.attentive = trio.Event()
        self.attentive.set()
        self._scope = trio.CancelScope()
        self._id = ""
        self._next = 0
        self._link: Any = None
        self._seq = 0
        self._asked: dict[int, int] = {}
        self._heart = Heart(_OPTIONS)

    async def live(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen, until `leave`; dial again a second after each loss."""
        self._greeted = task_status
        with self._scope:
            async with open_tasks() as tasks:
                tasks.start_soon(self._heart.run)
                while True:
                    try:
                        await self._live_on_one_link()
                    except HubError:
                        await trio.sleep(1)

    async def _live_on_one_link(self) -> None:
        wish = {"connection_id": self._id, "sequence_number": str(self._next)}
        address = Address.parse("ws://memory/ws?topics=town")
        link = await dial(
            address.with_query(wish),
            subprotocols=[],
            headers={"Authorization": f"Bearer {self.name}"},
            open_stream=self.weather.open_stream,
            options=_OPTIONS,
            opening=OpeningOptions(),
        )
        async with link.running():
            self._link, self._seq, self._asked = link, 0, {}
            self._heart.watch(link)
            try:
                while True:
                    await self.attentive.wait()
                    for message in await link.receive():
                        for said in COMPAT.from_server(message):
                            self._heed(said)
            finally:
                self._link = None
                self._heart.forget(link)

    def _heed(self, said: Any) -> None:
        if isinstance(said, Reply):
            n = self._asked.pop(said.seq_reply)
            self.answers.append(Answered(n, said.error[1] if said.error else said.data))
        elif said.name == HELLO:
            self._greet(said)
        else:
            assert said.number == self._next, f"event {said.number}, where {self._next} was expected"
            self._next += 1
            self.diary.append(Heard(said.data["n"]))

    def _greet(self, hello: Event) -> None:
        assert hello.number == 0
        id, gap = hello.data["connection_id"], hello.data.get("gap")
        assert gap is not None or not self._id, "a new id, and no word of what is lost"
        assert id != self._id
        if gap is not None and self._id:
            self.diary.append(Missed(gap["reason"]))
        if not self._id:
            self._greeted.started()
        self._id, self._next = id, 1

    def leave(self) -> None:
        self._scope.cancel()

    def ask(self, n: int, seconds: float, deadline: float | None) -> None:
        """Ask something that takes so long, if there is a link; what comes of it on that link is noted."""
        if self._link is not None and self._link.closed is None:
            self._seq += 1
            self._asked[self._seq] = n
            self._link.post(COMPAT.encode(Request(self._seq, "count", {"n": n, "seconds": seconds}, deadline)))
            self._link.writer.flush()
