"""Whatever the weather, in every dialect: messages come whole and in order, or it is told that no more will."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.effort import examples
from tests.link.test_dialects import MIXES, options_for
from trio_hub.errors import LinkLost, StreamReset
from trio_hub.link.heads import read_head
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.opening import accept_link, request_link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Kind
from trio_hub.options import LinkOptions, OpeningOptions
from trio_hub.testing import Cable
from trio_hub.testing.cable import Direction


@attrs.frozen
class Message:
    """What is said: in parts where it is sent piece by piece, whose source may fail at its end."""

    kind: int
    parts: list[str | bytes]
    fails: bool

    @property
    def whole(self) -> str | bytes:
        return ("" if self.kind == Kind.TEXT else b"").join(self.parts)  # type: ignore[arg-type]

    async def source(self) -> AsyncIterator[str | bytes]:
        for part in self.parts:
            yield part
        if self.fails:
            raise Failure


class Failure(Exception):
    """A source has failed."""


BYTES = bytes(range(256)) * 12
seldom = st.sampled_from([False, False, False, False, False, True])
words = st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace").decode())
parts = st.integers(0, len(BYTES)).map(lambda size: BYTES[:size])
texts = st.builds(Message, st.just(Kind.TEXT), st.lists(words, max_size=4), seldom)
binaries = st.builds(Message, st.just(Kind.BINARY), st.lists(parts, max_size=4), seldom)
directions = st.sampled_from([Direction.UP, Direction.DOWN, Direction.BOTH])
weathers = st.one_of(
    st.builds(lambda most, way: partial(Cable.split, most=most, direction=way), st.integers(1, 50), directions),
    st.builds(lambda rate, way: partial(Cable.slow, rate=rate, direction=way), st.integers(2000, 10**6), directions),
)
ends_of_links = st.one_of(
    st.none(),
    st.builds(
        lambda size, way: partial(Cable.cut_after, size=size, direction=way),
        st.integers(1, 6000),
        st.sampled_from([Direction.UP, Direction.DOWN]),
    ),
    st.builds(lambda way: partial(Cable.stall, direction=way), directions),
    st.builds(lambda way: partial(Cable.abandon, direction=way), directions),
)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("name", MIXES)
def test_what_comes_is_what_was_said(name, compressed):
    options = options_for(
        MIXES[name], compressed, ping_interval=5.0, pong_timeout=5.0, write_timeout=20.0, close_timeout=300.0
    )

    @settings(max_examples=examples(15), deadline=None)
    @given(st.lists(st.one_of(texts, binaries), max_size=6), st.lists(weathers, max_size=2), ends_of_links)
    def tell(said: list[Message], weather: list[Callable[[Cable], None]], end: Callable[[Cable], None] | None) -> None:
        trio.run(_tell, options, said, weather, end, clock=MockClock(autojump_threshold=0))

    tell()


async def _tell(
    options: LinkOptions,
    said: list[Message],
    weather: list[Callable[[Cable], None]],
    end: Callable[[Cable], None] | None,
) -> None:
    cable = Cable(capacity=1000)
    heard: list[tuple[int, str | bytes]] = []
    with trio.fail_after(600):
        async with open_tasks() as tasks:
            for change in weather:
                change(cable)
            tasks.start_soon(_serve, cable, options, heard)
            await _call(cable, options, said, end)
    fails = [number % 2 == 1 and message.fails for number, message in enumerate(said)]
    ends = [failed and bool(message.whole) for message, failed in zip(said, fails, strict=True)]
    if True in ends and not options.dialect.streams:  # the link ends with it, unless nothing of it was said
        said = said[: ends.index(True)]
    sent = [(message.kind, message.whole) for message, failed in zip(said, fails, strict=False) if not failed]
    assert heard == sent[: len(heard)]
    assert end is not None or len(heard) == len(sent)


async def _call(cable: Cable, options: LinkOptions, said: list[Message], end: Callable[[Cable], None] | None) -> None:
    """Say it all, in turns, as whole messages and piece by piece; then leave. The end may come at any moment."""
    opening = OpeningOptions(deadline=60.0)
    try:
        with trio.fail_after(opening.deadline):
            link = await request_link(cable.near, host="there", resource="/", options=options, opening=opening)
    except (LinkLost, trio.TooSlowError):
        await trio.aclose_forcefully(cable.near)
        return
    async with watched(link, options):
        if end is not None:
            end(cable)
        try:
            for number, message in enumerate(said):
                if number % 2:
                    with suppress(Failure):
                        await link.send_stream(message.kind, message.source())
                else:
                    await link.send(message.whole, message.kind)
        except LinkLost:
            assert link.closed is not None


async def _serve(cable: Cable, options: LinkOptions, heard: list[tuple[int, str | bytes]]) -> None:
    """Note every message that came whole."""
    with trio.move_on_after(60.0) as opening:
        try:
            link = accept_link(cable.far, await read_head(cable.far, OpeningOptions()), options=options)
            async with watched(link, options):
                link.writer.flush()
                await link.settle()
                opening.deadline = math.inf
                async for message in link.messages():
                    try:
                        heard.append((message.kind, await message.read()))
                    except StreamReset:
                        assert options.dialect.streams
                    except LinkLost:
                        assert link.closed is not None
        except LinkLost:
            await trio.aclose_forcefully(cable.far)


@asynccontextmanager
async def watched(link: Link, options: LinkOptions) -> AsyncIterator[None]:
    """Run a link with a heart of its own."""
    heart = Heart(options)
    heart.watch(link)
    async with open_tasks() as tasks:
        tasks.start_soon(heart.run)
        async with link.running():
            yield
        tasks.cancel_scope.cancel()
