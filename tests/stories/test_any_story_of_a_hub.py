"""A whole hub in every story: people come and go, are told things and ask, in any weather; and the promise holds.

The machine drives a server and its clients in memory, in virtual time. What everybody must hear is worked out from what
was published and to whom; what they heard is in their diaries. Between two things heard with no gap between them,
nothing that must be delivered may be missing.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import wait_all_tasks_blocked

from tests.effort import examples
from tests.stories.people import CompatPerson, Heard, Missed, Person
from tests.stories.stage import Stage
from trio_hub import Event, HubOptions, OutboxOptions, Router, Server, everyone, known_tokens, topic, user
from trio_hub.app.topics import anybody
from trio_hub.delivery import MUST, Delivery, expires, latest, volatile
from trio_hub.link.tasks import open_tasks
from trio_hub.targets import Target
from trio_hub.testing import Direction, World

NAMES = ("ann", "bob", "cem", "dee")
WINDOW = 20.0
OUTBOX = OutboxOptions(count=60, size=300_000, kept_count=20, kept_size=60_000, age=100, acknowledge_within=80)
OPTIONS = HubOptions(window=WINDOW, outbox=OUTBOX, budget=600_000, inbox=30, hook_queue=1000)


@pytest.fixture(autouse=True)
def _without_a_log() -> Iterator[None]:
    """Failures on purpose are of no interest, and a kept log record keeps everything that its traceback reaches."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@attrs.frozen
class Count:
    n: int
    seconds: float = 0.0


class Diary:
    """A plugin that writes down the moments of every connection."""

    def __init__(self) -> None:
        self.lives: dict[Any, list[str]] = {}

    def __getattr__(self, moment: str) -> Any:
        if moment not in ("connected", "resumed", "gap", "taken_over", "disconnected", "expired"):
            raise AttributeError(moment)

        async def write(connection: Any, *details: Any) -> None:
            self.lives.setdefault(connection, []).append(moment)

        return write


# What may follow on what, for a connection that is attached, is away, or was just told of a gap while it was away.
MOMENTS = {
    ("new", "connected"): "attached",
    ("attached", "gap"): "attached",
    ("attached", "taken_over"): "away",
    ("attached", "disconnected"): "away",
    ("away", "gap"): "away",
    ("away", "resumed"): "attached",
    ("away", "expired"): "gone",
}


class AnyStory(RuleBasedStateMachine):
    """What was published is in `said`: for each number the delivery and the users it was for."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.stage = Stage(seed)
        self.said: list[tuple[Delivery, set[str]]] = []
        self.asked = 0
        self.carried_out: dict[int, int] = {}
        self.people: dict[str, Person | CompatPerson] = {}
        self.gone: list[Person | CompatPerson] = []
        self.may_lose = False
        self.plugin = Diary()
        self.stage.do(self._open)

    async def _open(self) -> None:
        self.world = await self.stage.nursery.start(self._run_world)
        self.tasks = trio.lowlevel.current_statistics().tasks_living

    async def _run_world(self, *, task_status: trio.TaskStatus[World]) -> None:
        async with open_tasks() as tasks:
            world = World(self._server(), tasks)
            await tasks.start(self._run_hub, world.server)
            task_status.started(world)
            await trio.sleep_forever()

    async def _run_hub(self, server: Server, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.CancelScope() as self.hub_scope:
            await server.hub.run(task_status=task_status)

    def _server(self) -> Server:
        router = Router()

        @router.action("count")
        async def count(connection: Any, data: Count) -> int:
            self.carried_out[data.n] = self.carried_out.get(data.n, 0) + 1
            await trio.sleep(data.seconds)
            return data.n

        return Server(
            router,
            authenticate=known_tokens({name: name for name in NAMES}),
            may_publish=anybody,
            plugins=[self.plugin],
            options=OPTIONS,
        )

    # Who is there.

    @precondition(lambda self: len(self.people) < len(NAMES))
    @rule(kind=st.sampled_from([CompatPerson, Person, partial(Person, cbor=True)]))
    def somebody_comes(self, kind: Callable[[World, str], Person | CompatPerson]) -> None:
        name = next(name for name in NAMES if name not in self.people)
        person = kind(self.world, name)
        self.people[name] = person
        self.stage.do(self._start, person.live)

    async def _start(self, live: Any) -> None:
        with trio.fail_after(100):
            await self.stage.nursery.start(live)

    def one_of(self, data: st.DataObject) -> Person | CompatPerson:
        return self.people[data.draw(st.sampled_from(list(self.people)))]

    # What they go through.

    @rule(
        to=st.sampled_from([everyone(), everyone(), topic("town"), user("ann"), user("bob")]),
        delivery=st.sampled_from([MUST, MUST, MUST, volatile(), latest("k"), expires(3)]),
        count=st.sampled_from([1, 1, 2, 5, 15, 40]),
        size=st.sampled_from([0, 0, 100, 20_000]),
    )
    def publish(self, to: Target, delivery: Delivery, count: int, size: int) -> None:
        self.stage.do(self._publish, to, delivery, count, size)

    async def _publish(self, target: Target, delivery: Delivery, count: int, size: int) -> None:
        with trio.fail_after(10):
            for _ in range(count):
                recipients = {connection.user for connection in self.world.server.hub.roster.select(target)}
                event = Event("e", {"n": len(self.said), "filling": "x" * size})
                self.said.append((delivery, recipients))
                await self.world.server.publish(event, to=target, delivery=delivery)

    @precondition(lambda self: self.people)
    @rule(
        data=st.data(),
        weather=st.sampled_from(["cut", "cut_once", "stall", "mend", "mend"]),
        direction=st.sampled_from(Direction),
    )
    def weather_changes(self, data: st.DataObject, weather: str, direction: Direction) -> None:
        arguments = (direction,) if weather == "stall" else ()
        self.stage.do(self._plain, getattr(self.one_of(data).weather, weather), *arguments)

    @precondition(lambda self: self.people)
    @rule(data=st.data(), noticed=st.booleans())
    def a_link_goes_half_open(self, data: st.DataObject, noticed: bool) -> None:
        weather = self.one_of(data).weather
        self.stage.do(self._plain, partial(weather.abandon, noticed=noticed))

    @precondition(lambda self: self.people)
    @rule(data=st.data(), size=st.integers(0, 3000), direction=st.sampled_from([Direction.UP, Direction.DOWN]))
    def a_link_breaks_in_the_midst(self, data: st.DataObject, size: int, direction: Direction) -> None:
        self.stage.do(self._plain, self.one_of(data).weather.cut_after, size, direction)

    @precondition(lambda self: self.people)
    @rule(data=st.data(), rate=st.sampled_from([100.0, 5_000.0]), direction=st.sampled_from(Direction))
    def a_link_is_slow(self, data: st.DataObject, rate: float, direction: Direction) -> None:
        self.stage.do(self._plain, self.one_of(data).weather.slow, rate, direction)

    @precondition(lambda self: self.people)
    @rule(data=st.data(), most=st.integers(1, 20))
    def reads_are_split(self, data: st.DataObject, most: int) -> None:
        self.stage.do(self._plain, self.one_of(data).weather.split, most)

    @precondition(lambda self: self.people)
    @rule(
        data=st.data(),
        seconds=st.sampled_from([0, 0.5, 4]),
        deadline=st.sampled_from([None, None, 1.0]),
        trouble=st.sampled_from(["none", "cut", "cut_once", "abandon", "the reply is torn"]),
        then=st.sampled_from([0, 5]),
    )
    def somebody_asks(
        self, data: st.DataObject, seconds: float, deadline: float | None, trouble: str, then: float
    ) -> None:
        self.stage.do(self._ask, self.one_of(data), seconds, deadline, trouble)
        self.stage.do(trio.sleep, then)

    async def _ask(self, person: Person | CompatPerson, seconds: float, deadline: float | None, trouble: str) -> None:
        if trouble == "the reply is torn":
            person.weather.cut_after(1, Direction.DOWN)
        person.ask(self.asked, seconds, deadline)
        self.asked += 1
        await wait_all_tasks_blocked()
        if trouble in ("cut", "cut_once", "abandon"):
            getattr(person.weather, trouble)()

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def somebody_is_busy_or_no_longer(self, data: st.DataObject) -> None:
        person = self.one_of(data)
        if person.attentive.is_set():
            person.attentive = trio.Event()
        else:
            self.stage.do(self._plain, person.attentive.set)

    @precondition(lambda self: self.people)
    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        person = self.one_of(data)
        self.stage.do(self._plain, person.leave)
        self.gone.append(self.people.pop(person.name))
        self.stage.do(trio.sleep, WINDOW + 10)  # nobody else of this name comes before that

    @rule(seconds=st.sampled_from([0.1, 1, 5, WINDOW + 5]))
    def time_goes_by(self, seconds: float) -> None:
        self.stage.do(trio.sleep, seconds)

    @rule()
    def the_hub_fails(self) -> None:
        self.may_lose = True
        self.stage.do(self._fail)

    async def _fail(self) -> None:
        offering = self.world.server.hub._offering
        offering_of = offering._offering_of

        def fail(*arguments: Any, **more: Any) -> None:
            raise ZeroDivisionError

        offering._offering_of = fail
        await self._publish(everyone(), MUST, 1, 0)
        await wait_all_tasks_blocked()
        offering._offering_of = offering_of
        await trio.sleep(3)  # it is not restarted more than five times in ten seconds

    @rule()
    def the_server_is_replaced(self) -> None:
        self.may_lose = True
        self.stage.do(self._replace)

    async def _replace(self) -> None:
        with trio.fail_after(30):
            await self.world.server.drain(deadline=6.0)
        assert self.world.server.hub.connections() == []
        self.hub_scope.cancel()
        self.world.server = self._server()
        await self.stage.nursery.start(self._run_hub, self.world.server)

    async def _plain(self, call: Any, *arguments: Any) -> None:
        call(*arguments)

    # What is always so.

    @invariant()
    def bounds_are_kept(self) -> None:
        for connection in self.world.server.hub.connections():
            held = connection.outbox.statistics()
            assert held.owed_count + held.kept_count <= OUTBOX.count
            assert held.owed_size + held.kept_size <= OUTBOX.size
            assert held.kept_count <= OUTBOX.kept_count
        assert self.world.server.hub.statistics().held_size <= OPTIONS.budget

    @invariant()
    def the_roster_agrees_with_itself(self) -> None:
        index = self.world.server.hub.roster._index
        everybody = set(index._by_id.values())
        assert all(index._by_id[connection.id] is connection for connection in everybody)
        assert {each for members in index._by_user.values() for each in members} == everybody
        for name, members in index._by_topic.items():
            assert members, "nobody, and a set for them"
            assert all(name in each.topics and each in everybody for each in members)

    @invariant()
    def what_was_heard_is_in_order_and_only_once(self) -> None:
        for person in [*self.people.values(), *self.gone]:
            heard = [entry.n for entry in person.diary if isinstance(entry, Heard)]
            assert heard == sorted(set(heard))

    @invariant()
    def there_is_no_silent_hole(self) -> None:
        for person in [*self.people.values(), *self.gone]:
            for before, after in zip(person.diary, person.diary[1:], strict=False):
                if isinstance(before, Heard) and isinstance(after, Heard):
                    assert self.must_hear(person.name, range(before.n + 1, after.n)) == []

    def must_hear(self, name: str, numbers: range) -> list[int]:
        return [n for n in numbers if self.said[n][0] == MUST and name in self.said[n][1]]

    @invariant()
    def requests_are_carried_out_once(self) -> None:
        assert all(times == 1 for times in self.carried_out.values())
        for person in [*self.people.values(), *self.gone]:
            for answer in person.answers:
                assert answer.outcome in (answer.n, "unknown", "deadline", "cancelled")
                assert answer.outcome != answer.n or self.carried_out[answer.n] == 1

    @invariant()
    def plugins_hear_of_every_moment_in_order(self) -> None:
        for moments in self.plugin.lives.values():
            state = "new"
            for moment in moments:
                assert (state, moment) in MOMENTS, moments
                state = MOMENTS[state, moment]

    # How it ends.

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            if not self.stage.has_failed:
                self.how_it_ends()
        finally:
            self.stage.close()

    def how_it_ends(self) -> None:
        self.stage.do(self._fair_weather)
        self.there_is_no_silent_hole()
        self.requests_are_carried_out_once()
        self.there_were_gaps_only_where_there_had_to_be()
        self.stage.do(self._everybody_leaves)
        self.plugins_hear_of_every_moment_in_order()
        assert all(moments[-1] == "expired" for moments in self.plugin.lives.values())

    async def _fair_weather(self) -> None:
        """Let everybody hear the last event: so what is missing before it is a hole."""
        for person in self.people.values():
            person.weather.mend()
            person.attentive.set()
        await trio.sleep(200)  # until a silent link is given up, and the longest wait before the next dial is over
        await self._publish(everyone(), MUST, 1, 0)
        last = Heard(len(self.said) - 1)
        await trio.sleep(30)
        for person in self.people.values():
            assert person.diary[-1:] == [last], f"{person.name} is deaf"
            assert {answer.n for answer in person.answers} >= set(person.asked), f"{person.name} waits for answers"

    def there_were_gaps_only_where_there_had_to_be(self) -> None:
        for person in [*self.people.values(), *self.gone]:
            reasons = {entry.reason for entry in person.diary if isinstance(entry, Missed)}
            if not self.may_lose:
                assert reasons <= {"overflow", "expired"}

    async def _everybody_leaves(self) -> None:
        for person in self.people.values():
            person.leave()
        await trio.sleep(WINDOW + 100)
        gc.collect()  # tasks and what they hold are freed by it alone
        hub = self.world.server.hub
        assert hub.connections() == []
        statistics = hub.statistics()
        assert (statistics.index.connections, statistics.index.users, statistics.index.topics) == (0, 0, 0)
        assert statistics.held_size == 0, "bytes of events that nobody is owed"
        assert trio.lowlevel.current_statistics().tasks_living <= self.tasks


TestAnyStoryOfAHub = AnyStory.TestCase
TestAnyStoryOfAHub.settings = settings(deadline=None, max_examples=examples(60), stateful_step_count=40)
