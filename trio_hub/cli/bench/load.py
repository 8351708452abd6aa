"""A load from beginning to end. All its tasks: one for each member, and in each stage those that move it on.

First all members come, some at once and each within our patience. Then the publishers publish. Then everybody waits for
answers and events that are still on their way, for as long as any come. Then all say goodbye.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from trio_hub import HubError, Misuse
from trio_hub.cli.bench.findings import Findings, Reading
from trio_hub.cli.bench.measures import Series, Verdict
from trio_hub.cli.bench.members import Counts, Listener, Member, Plan, Publisher
from trio_hub.link.tasks import open_tasks

__all__ = ["Load", "NoLoad"]

_DIALS: Final = 32  # at once; common backlogs of listeners hold 128


class NoLoad(HubError):
    """There is nothing to measure: nobody is there, or we may not."""


class _Idleness(trio.abc.Instrument):
    """Counts the seconds in which this program had nothing to do.

    That it had no CPU, since others had it, is no idleness, and no CPU time either.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def before_io_wait(self, timeout: float) -> None:
        """There is nothing to do, if we may wait."""
        self._since = time.perf_counter()

    def after_io_wait(self, timeout: float) -> None:
        """There is something to do again."""
        if timeout > 0:
            self.seconds += time.perf_counter() - self._since


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counts = Counts()
        self._publishers = [Publisher(plan, number, self._counts) for number in range(plan.publishers)]
        self._listeners = [Listener(plan, number, self._counts) for number in range(plan.connections)]
        self._members: list[Member] = [*self._publishers, *self._listeners]
        self._stage_name = "connecting"
        self._stage = trio.CancelScope()
        self._life = trio.CancelScope()
        self._is_stopped = False
        self._fault: NoLoad | None = None
        self._come = 0
        self._coming_seconds = 0.0
        self._begun = 0  # ns
        self._cpu_share = 0.0
        self._busy_share = 0.0
        self._last = (time.perf_counter(), 0, 0)  # of `reading`

    async def run(self) -> None:
        """Carry out the plan. Raises `NoLoad` where that is not possible."""
        with self._life:
            async with open_tasks() as tasks:
                await self._have_all_come(tasks)
                if not self._is_stopped:
                    await self._publish()
                    await self._wait_for_the_rest()
                self._stage_name = "leaving"
                for member in self._members:
                    member.leave()
        for publisher in self._publishers:
            publisher.give_up()
        if self._counts.last_failure is not None and not self._counts.accepted:
            raise NoLoad(f"the hub has accepted nothing: {self._counts.last_failure}")

    def stop(self) -> None:
        """Have it publish no more, and come to its end; the second time, without waiting for anybody."""
        if self._is_stopped:
            self._life.cancel()
        self._is_stopped = True
        self._stage.cancel()

    # -- its stages

    async def _have_all_come(self, tasks: trio.Nursery) -> None:
        """Have the first member come alone, since it may not be welcome; then many at once."""
        begun = time.perf_counter()
        coming = iter(self._members)
        with trio.CancelScope() as self._stage:
            await self._have_come(next(coming), tasks)
            if self._fault is None:
                async with open_tasks() as dialing:
                    for _ in range(_DIALS):
                        dialing.start_soon(self._have_some_come, coming, tasks)
        self._coming_seconds = time.perf_counter() - begun
        if self._fault is not None:
            raise self._fault

    async def _have_some_come(self, coming: Iterator[Member], tasks: trio.Nursery) -> None:
        for member in coming:
            await self._have_come(member, tasks)

    async def _have_come(self, member: Member, tasks: trio.Nursery) -> None:
        """Have one more come. When it cannot, the stage is over; several may fail at once, and one is enough."""
        patience = self._plan.patience
        try:
            with trio.fail_after(patience):
                await tasks.start(member.live)
            self._come += 1
            return
        except trio.TooSlowError:
            come = f"{self._come} of {len(self._members)} connections came about"
            fault = NoLoad(f"{come}, and no other within {patience:g} s: {self._counts.last_loss}")
        except Misuse as error:
            fault = NoLoad(str(error))
        except HubError as error:
            fault = NoLoad(f"the hub refuses us: {error}")
        self._fault = self._fault or fault
        self._stage.cancel()

    async def _publish(self) -> None:
        self._stage_name = "publishing"
        idleness = _Idleness()
        trio.lowlevel.add_instrument(idleness)
        self._begun, cpu = time.perf_counter_ns(), time.process_time()
        try:
            with trio.move_on_after(self._plan.seconds) as self._stage:
                async with open_tasks() as publishing:
                    for publisher in self._publishers:
                        publishing.start_soon(publisher.publish)
        finally:
            seconds = (time.perf_counter_ns() - self._begun) / 1e9
            self._cpu_share = (time.process_time() - cpu) / seconds
            self._busy_share = 1 - idleness.seconds / seconds
            trio.lowlevel.remove_instrument(idleness)

    async def _wait_for_the_rest(self) -> None:
        self._stage_name = "waiting for the rest"
        async with self._while_some_come():
            for publisher in self._publishers:
                await publisher.wait_until_answered()
        for publisher in self._publishers:
            publisher.leave()
            await publisher.wait_until_answered()  # from here on nothing is accepted any more
        async with self._while_some_come():
            for listener in self._listeners:
                await listener.wait_until_up_to(self._said_to(listener))

    @asynccontextmanager
    async def _while_some_come(self) -> AsyncIterator[None]:
        """Cancel the block when neither answers nor events have come for as long as our patience lasts, or twice that.

        There is an end to it: so many requests were made, and no more, and each is delivered so often, and no more.
        """
        async with open_tasks() as tasks:
            tasks.start_soon(self._lose_patience, tasks.cancel_scope)
            yield
            tasks.cancel_scope.cancel()

    async def _lose_patience(self, waiting: trio.CancelScope) -> None:
        came, before = self._counts.came, -1
        while came != before:
            await trio.sleep(self._plan.patience)
            came, before = self._counts.came, came
        waiting.cancel()

    def _said_to(self, listener: Listener) -> Sequence[Series]:
        return [publisher.said[listener.topic] for publisher in self._publishers]

    # -- what is known of it

    def reading(self) -> Reading:
        """Return what has happened since the last reading."""
        counts, now = self._counts, time.perf_counter()
        before, published, delivered = self._last
        self._last = now, counts.published, counts.delivered
        recent = counts.take_recent()
        return Reading(
            stage=self._stage_name,
            links=counts.links,
            wanted=len(self._members),
            published_per_second=(counts.published - published) / (now - before),
            delivered_per_second=(counts.delivered - delivered) / (now - before),
            p50=recent.quantile(0.5) / 1e6 if recent.count else None,
            p99=recent.quantile(0.99) / 1e6 if recent.count else None,
            links_lost=counts.links_lost,
            resumes=counts.resumes,
            gaps=counts.gaps,
        )

    def findings(self) -> Findings:
        """Return what came of it. For when `run` is over."""
        counts = self._counts
        counts.take_recent()
        verdict = sum((self._verdict(listener) for listener in self._listeners), Verdict())
        return Findings(
            plan=self._plan,
            interrupted=self._is_stopped,
            waited=not self._life.cancelled_caught,
            connections=self._come,
            coming_seconds=self._coming_seconds,
            published=counts.published,
            accepted=counts.accepted,
            accepted_seconds=max(0, counts.accepted_at - self._begun) / 1e9,
            delivered_seconds=max(0, counts.delivered_at - self._begun) / 1e9,
            verdict=verdict,
            latencies=counts.latencies,
            links_lost=counts.links_lost,
            dials_failed=counts.dials_failed,
            resumes=counts.resumes,
            gaps=counts.gaps,
            ended=counts.ended,
            failures=dict(counts.failures),
            reasons=[str(reason) for reason in (counts.last_end, counts.last_failure) if reason is not None],
            cpu_share=self._cpu_share,
            busy_share=self._busy_share,
        )

    def _verdict(self, listener: Listener) -> Verdict:
        away = not listener.has_link or self._life.cancelled_caught
        return listener.ledger.verdict(self._said_to(listener), away=away)
