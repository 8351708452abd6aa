"""The clients of a load: those who listen and those who publish, each with a link of its own."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Final

import attrs
import trio

from trio_hub import (
    Client,
    ClientOptions,
    Closed,
    Connected,
    Event,
    Gap,
    HubError,
    LinkLost,
    Lost,
    Misuse,
    Question,
    RequestFailed,
    open_client,
)
from trio_hub.cli.bench.measures import Histogram, Ledger, Series

__all__ = ["SMALLEST", "Counts", "Listener", "Member", "Plan", "Publisher"]

SMALLEST: Final = 64
"""Bytes of the smallest event: who published it, its number and the time have to fit in."""

_IN_FLIGHT: Final = 64  # requests of one publisher without an answer
_MOST_FAILURES: Final = 1000  # of one publisher: more say nothing new, and each has to be remembered
_HOPELESS: Final = frozenset({400, 401, 403, 404})
_MEMBERS: Final = len('{"by":,"n":,"at":,"pad":""}')


@attrs.frozen(kw_only=True)
class Plan:
    """What to do, and to which server. `rate` is that of all publishers together, 0 for all that the hub accepts."""

    url: str
    token: str | None
    connections: int
    topics: int
    publishers: int
    rate: float
    size: int
    seconds: float
    cbor: bool
    patience: float
    name: str = attrs.field(factory=lambda: f"bench-{secrets.token_hex(4)}")
    """Of the events, so that nothing else that is said to everybody is taken for one; their topics begin with it."""

    def topic(self, number: int) -> str:
        """Return the name of a topic."""
        return f"{self.name}-{number}"


@attrs.define
class Counts:
    """What has happened so far, to all clients together. Moments are `time.perf_counter_ns`, latencies ns."""

    links: int = 0
    links_lost: int = 0
    dials_failed: int = 0
    resumes: int = 0
    gaps: int = 0
    ended: int = 0
    published: int = 0
    accepted: int = 0
    accepted_at: int = 0
    delivered: int = 0
    delivered_at: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    last_failure: HubError | None = None
    last_end: HubError | None = None
    last_loss: str = "no answer"
    latencies: Histogram = attrs.field(factory=Histogram)
    recent: Histogram = attrs.field(factory=Histogram)  # not yet among `latencies`

    @property
    def came(self) -> int:
        """How many answers and events."""
        return self.accepted + self.failures.total() + self.delivered

    def take_recent(self) -> Histogram:
        """Return the latencies since the last call."""
        recent, self.recent = self.recent, Histogram()
        self.latencies.add_all(recent)
        return recent


class Member:
    """One client, from its first dial to its goodbye."""

    def __init__(self, plan: Plan, number: int, counts: Counts) -> None:
        self.plan = plan
        self.number = number
        self.counts = counts
        self.has_link = False
        self.has_ended = False
        self.client: Client
        self._staying = trio.CancelScope()

    async def live(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Be connected until told to `leave`; started when `begin` is done, and raises what that raised."""
        options = ClientOptions(cbor=self.plan.cbor)
        async with open_client(self.plan.url, token=self.plan.token, on_status=self._heed, options=options) as client:
            self.client = client
            await client.connected()
            await self.begin()
            task_status.started()
            with self._staying:
                await self.stay()

    async def begin(self) -> None:
        """Ask for what is needed before the load."""

    async def stay(self) -> None:
        """Do what is to be done while connected."""

    def leave(self) -> None:
        """Have `live` say goodbye and return."""
        self._staying.cancel()

    def _heed(self, status: Connected | Lost) -> None:
        match status:
            case Connected(resumed=resumed):
                self.has_link = True
                self.counts.links += 1
                self.counts.resumes += resumed
            case Lost(close):
                self.counts.last_loss = close.reason or str(close)
                if self.has_link:
                    self._lose_link()
                else:
                    self.counts.dials_failed += 1

    def _lose_link(self) -> None:
        self.has_link = False
        self.counts.links -= 1
        self.counts.links_lost += 1

    def _end(self, why: HubError) -> None:
        """The hub wants no more of us."""
        self.counts.last_end = why
        if not self.has_ended:
            self.has_ended = True
            self.counts.ended += 1
            if self.has_link:
                self._lose_link()


class Listener(Member):
    """Hears one topic, and keeps a ledger of it."""

    def __init__(self, plan: Plan, number: int, counts: Counts) -> None:
        super().__init__(plan, number, counts)
        self.topic = number % plan.topics
        self.ledger = Ledger(plan.publishers)
        self._news = trio.Event()

    async def begin(self) -> None:
        await self.client.subscribe(self.plan.topic(self.topic))

    async def stay(self) -> None:
        """Hear what comes, each batch as of the moment at which the program has it."""
        while not self.has_ended:
            try:
                self._note(await self.client.receive_all())
            except Gap:
                self.counts.gaps += 1
                self.ledger.note_gap()
            except (Closed, LinkLost) as error:
                self._end(error)
            self._news.set()

    def _note(self, events: Sequence[Event]) -> None:
        now = time.perf_counter_ns()
        for event in events:
            if event.name == self.plan.name:
                self.ledger.note(event.data["by"], event.data["n"])
                self.counts.recent.add(now - event.data["at"])
                self.counts.delivered += 1
                self.counts.delivered_at = now

    async def wait_until_up_to(self, said: Sequence[Series]) -> None:
        """Wait until the last that was accepted has come, or nothing will come any more."""
        while not (self.has_ended or self.ledger.is_up_to(said)):
            self._news = trio.Event()
            await self._news.wait()


class Publisher(Member):
    """Publishes to one topic after the other, and keeps count of what the hub has taken."""

    def __init__(self, plan: Plan, number: int, counts: Counts) -> None:
        super().__init__(plan, number, counts)
        self.said = [Series() for _ in range(plan.topics)]
        self._interval = plan.publishers / plan.rate if plan.rate else 0.0
        self._room = trio.Semaphore(_IN_FLIGHT)
        self._asked, self._answers = trio.open_memory_channel[tuple[Series, Question]](_IN_FLIGHT)
        self._publishing = trio.CancelScope()
        self._failures = 0
        self._answered = trio.Event()

    async def publish(self) -> None:
        """Publish until cancelled, or until there is no sense in it.

        Latencies at a rate count from when a publish was due: what had to wait because the hub stood still is late.
        """
        wait = self._interval * self.number / self.plan.publishers
        begun, begun_ns = trio.current_time() + wait, time.perf_counter_ns() + round(wait * 1e9)
        with self._asked, self._publishing:
            for turn in count():
                due = None
                if self._interval:
                    due = begun_ns + round(turn * self._interval * 1e9)
                    await trio.sleep_until(begun + turn * self._interval)
                await self._room.acquire()
                try:
                    await self._publish_to((self.number + turn) % self.plan.topics, due)
                except (Closed, LinkLost) as error:
                    self._end(error)
                    return
                except Misuse as error:  # it is larger than the hub takes
                    self._heed_failure("too_large", error)

    async def _publish_to(self, topic: int, due: int | None) -> None:
        """Ask for one publish, which was due at that moment, or is now. If cancelled, it was not asked."""
        series = self.said[topic]
        data = self._data(series.asked + 1, time.perf_counter_ns() if due is None else due)
        publication = {"topic": self.plan.topic(topic), "event": self.plan.name, "data": data}
        question = await self.client.ask("publish", publication)
        series.asked += 1
        self.counts.published += 1
        self._asked.send_nowait((series, question))

    def _data(self, number: int, at: int) -> dict[str, int | str]:
        """Return data that takes as many bytes in JSON as were planned."""
        by = self.number
        size = _MEMBERS + len(f"{by}{number}{at}")
        return {"by": by, "n": number, "at": at, "pad": "x" * (self.plan.size - size)}

    async def stay(self) -> None:
        """See what comes of each publish, until the last was answered."""
        try:
            await self._check()
        finally:
            self._answered.set()

    async def wait_until_answered(self) -> None:
        """Wait until each publish was answered, or will not be any more."""
        await self._answered.wait()

    async def _check(self) -> None:
        async for series, question in self._answers:
            try:
                await question.reply()
            except RequestFailed as failure:
                series.doubt()
                self._heed_failure(failure.id, failure)
            except (Closed, LinkLost) as error:
                self._end(error)
                self._publishing.cancel()
                return
            else:
                series.accept()
                self.counts.accepted += 1
                self.counts.accepted_at = time.perf_counter_ns()
            self._room.release()

    def _heed_failure(self, id: str, failure: HubError) -> None:
        self.counts.failures[id] += 1
        self.counts.last_failure = failure
        self._failures += 1
        is_hopeless = not isinstance(failure, RequestFailed) or failure.status in _HOPELESS
        if is_hopeless or self._failures == _MOST_FAILURES:
            self._publishing.cancel()

    def give_up(self) -> None:
        """Count what was not answered as failed. For when `live` is over."""
        for series in self.said:
            if unanswered := series.give_up():
                self.counts.failures["no_answer"] += unanswered
