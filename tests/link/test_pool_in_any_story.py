"""A pool in any story: links come, go, are cast out and cut; names stay unique, counts right, and who is here hears."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.effort import examples
from trio_hub.errors import LinkLost, Misuse, NoPlace
from trio_hub.link.link import Link
from trio_hub.link.pool import Pool, open_pool
from trio_hub.link.serving import serve_links
from trio_hub.messages import CloseReason, LinkStatus
from trio_hub.options import LinkOptions, PoolOptions
from trio_hub.testing import Cable, CableListener, Weather

NAMES, GROUPS = "abc", "xy"
SIZE = 2
OPTIONS = PoolOptions(size=SIZE, link=LinkOptions(close_timeout=0.1))


@pytest.fixture(autouse=True)
def _without_a_log() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@attrs.define(eq=False)
class Guest:
    """What must be true of a member. `cable` is None for one that was dialled; `heard` is for one that was not."""

    groups: set[str]
    client: bool
    cable: Cable | None = None
    weather: Weather | None = None
    peer: Link | None = None
    heard: list[str] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)

    @property
    def is_linked(self) -> bool:
        return self.cable is not None or not self.weather.is_bad


class FairWeather(Weather):
    is_bad = False

    def cut(self) -> None:
        self.is_bad = True
        super().cut()

    def mend(self) -> None:
        self.is_bad = False
        super().mend()


class Story:
    """A pool, and what must be true of it after every move."""

    def __init__(self, pool: Pool, tasks: trio.Nursery, listener: CableListener) -> None:
        self.pool = pool
        self._tasks = tasks
        self._listener = listener
        self.guests: dict[str, Guest] = {}
        self._outcasts: list[Guest] = []
        self._statuses: dict[Link, list[LinkStatus]] = {}
        self._said = 0
        pool.on_status(lambda previous, new, link: self._statuses.setdefault(link, [previous]).append(new))

    def _may_come(self, name: str) -> bool:
        return len(self.guests) < SIZE and name not in self.guests

    async def add(self, name: str, groups: set[str], client: bool) -> None:
        cable = Cable()
        link = Link(cable.near, client=client, options=OPTIONS.link)
        if not self._may_come(name):
            with pytest.raises(NoPlace) as caught:
                self.pool.add(link, name=name, groups=groups)
            assert caught.value.reason == ("full" if len(self.guests) >= SIZE else "taken")
            assert link.status is LinkStatus.CONNECTING
            return
        self.pool.add(link, name=name, groups=groups)
        guest = self.guests[name] = Guest(set(groups), client, cable)
        guest.peer = Link(cable.far, client=not client, options=OPTIONS.link)
        self._tasks.start_soon(self._listen, guest)

    async def _listen(self, guest: Guest) -> None:
        async with guest.peer.running():
            async for message in guest.peer:
                guest.heard.append(message)

    async def dial(self, name: str, groups: set[str]) -> None:
        weather = FairWeather(self._listener.reach)
        dial = partial(self.pool.dial, "ws://memory/", name=name, groups=groups, open_stream=weather.open_stream)
        if not self._may_come(name):
            with pytest.raises(NoPlace):
                dial()
            return
        dial()
        self.guests[name] = Guest(set(groups), True, weather=weather)

    async def cast_out(self, name: str, closing: bool) -> None:
        here = self.guests.pop(name, None)
        if here is not None and here.cable is not None:
            self._outcasts.append(here)
        assert self.pool.cast_out(name, CloseReason(4000) if closing else None) is (here is not None)

    async def part(self) -> None:
        """Have those who were cast out go for good: whoever has their names by now is not touched."""
        while self._outcasts:
            self._outcasts.pop().cable.cut()

    async def cut(self, name: str) -> None:
        guest = self.guests.get(name)
        if guest is not None and guest.cable is not None:
            guest.cable.cut()
            del self.guests[name]
        elif guest is not None:
            guest.weather.cut()

    async def mend(self, name: str) -> None:
        guest = self.guests.get(name)
        if guest is not None and guest.weather is not None:
            guest.weather.mend()
            await trio.sleep(100)

    async def leave(self, name: str) -> None:
        guest = self.guests.get(name)
        if guest is not None and guest.cable is not None:
            guest.peer.end(CloseReason(1000))
            del self.guests[name]

    async def regroup(self, name: str, group: str, joining: bool) -> None:
        change = self.pool.join if joining else self.pool.leave
        if name not in self.guests:
            with pytest.raises(Misuse):
                change(name, group)
            return
        change(name, group)
        (set.add if joining else set.discard)(self.guests[name].groups, group)

    async def say(self, to: str) -> None:
        message = f"{self._said}"
        self._said += 1
        sending, meant = {
            "all": (self.pool.to_all, lambda name, guest: True),
            "clients": (self.pool.to_clients, lambda name, guest: guest.client),
            "servers": (self.pool.to_servers, lambda name, guest: not guest.client),
            "x": (partial(self.pool.to_group, "x"), lambda name, guest: "x" in guest.groups),
            "a": (partial(self.pool.to_one, "a"), lambda name, guest: name == "a"),
            "but a": (partial(self.pool.all_but, "a"), lambda name, guest: name != "a"),
        }[to]
        sent = await sending(message)
        to_them = {name: guest for name, guest in self.guests.items() if meant(name, guest)}
        absent = {name for name, guest in to_them.items() if not guest.is_linked}
        if to == "a" and "a" not in self.guests:
            absent = {"a"}
        assert (set(sent.absent), sent.dropped, sent.ended) == (absent, (), ())
        assert sent.taken == sum(guest.is_linked for guest in to_them.values())
        for guest in to_them.values():
            if guest.cable is not None:
                guest.told.append(message)

    def check(self) -> None:
        assert {member.name for member in self.pool.members} == set(self.guests)
        for group in GROUPS:
            named = {name for name, guest in self.guests.items() if group in guest.groups}
            assert {member.name for member in self.pool.group(group)} == named
        for name, guest in self.guests.items():
            member = self.pool.member(name)
            assert (member.groups, member.is_client, member.left) == (guest.groups, guest.client, None)
            assert (member.link is not None) is guest.is_linked
            assert guest.heard == guest.told
        statistics = self.pool.statistics()
        assert statistics.members == len(self.guests)
        assert statistics.clients == sum(guest.client for guest in self.guests.values())
        assert statistics.linked == sum(guest.is_linked for guest in self.guests.values())
        assert statistics.groups == len(set().union(*(guest.groups for guest in self.guests.values())))

    def check_the_end(self) -> None:
        """Every link that was ready was closed, once, and nothing came after that."""
        for told in self._statuses.values():
            assert told == [LinkStatus.CONNECTING, LinkStatus.READY, LinkStatus.CLOSED]


async def play(moves: list[tuple[str, tuple[Any, ...]]]) -> None:
    listener = CableListener()

    async def listen(link: Link) -> None:
        try:
            while True:
                await link.receive()
        except LinkLost:
            return

    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, listen, listeners=[listener]))
        async with open_pool(OPTIONS) as pool:
            story = Story(pool, tasks, listener)
            for move, details in moves:
                await getattr(story, move)(*details)
                await trio.sleep(0.01)
                await wait_all_tasks_blocked()
                story.check()
        assert pool.members == []
        story.check_the_end()
        tasks.cancel_scope.cancel()


name, groups, yes = st.sampled_from(NAMES), st.sets(st.sampled_from(GROUPS)), st.booleans()
MOVES = st.one_of(
    st.tuples(st.just("add"), st.tuples(name, groups, yes)),
    st.tuples(st.just("dial"), st.tuples(name, groups)),
    st.tuples(st.just("cast_out"), st.tuples(name, yes)),
    st.tuples(st.sampled_from(["cut", "mend", "leave"]), st.tuples(name)),
    st.tuples(st.just("part"), st.just(())),
    st.tuples(st.just("regroup"), st.tuples(name, st.sampled_from(GROUPS), yes)),
    st.tuples(st.just("say"), st.tuples(st.sampled_from(["all", "clients", "servers", "x", "a", "but a"]))),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(MOVES, min_size=10, max_size=40))
def test_any_story_of_a_pool(moves: list[tuple[str, tuple[Any, ...]]]) -> None:
    trio.run(play, moves, clock=MockClock(autojump_threshold=0))
