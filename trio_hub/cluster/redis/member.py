"""One node's part in a backplane over Redis: its tasks, and what they are asked for.

Two connections, each with one task that owns it: one on which everything is asked (`asking`), one on which everything
is heard (`listening`). Beside them, one task fetches what reliable channels have missed, and one beats.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import trio

from trio_hub.cluster.backplane import (
    GONE,
    Arrival,
    BackplaneHealth,
    BackplaneStatistics,
    Interrupted,
    Outbound,
)
from trio_hub.cluster.inbox import Inbox
from trio_hub.cluster.redis.address import RedisAddress
from trio_hub.cluster.redis.asking import Asking
from trio_hub.cluster.redis.listening import Listening
from trio_hub.cluster.redis.words import Command, Words
from trio_hub.errors import Closed, Unreachable
from trio_hub.options import BackplaneOptions

__all__ = ["Member"]


class Member:
    """A `Membership`."""

    def __init__(self, address: RedisAddress, prefix: str, node: str, options: BackplaneOptions) -> None:
        self._options = options
        member = secrets.token_hex(8)
        self._words = Words(prefix, node, member, kept=options.kept, kept_for=options.kept_for)
        self._inbox = Inbox(options.waiting, options.waiting_bytes)
        self._sent = 0
        self._unreachable = 0
        self._closed = False
        self._asking = Asking(address, options)
        self._listening = Listening(address, options, self._words, self._inbox, self._asking)

    def start(self, tasks: trio.Nursery) -> None:
        """Have these tasks do what is to be done until they are cancelled."""
        tasks.start_soon(self._asking.run)
        tasks.start_soon(self._listening.run)
        tasks.start_soon(self._listening.mend)
        tasks.start_soon(self._beat)
        tasks.start_soon(self._watch)

    def close(self) -> None:
        """Note that the block has ended."""
        self._closed = True
        self._inbox.close()

    async def send(self, messages: Sequence[Outbound]) -> None:
        await self._ask([self._words.send(message) for message in messages])
        self._sent += len(messages)

    async def listen(self, channels: Iterable[str], *, reliable: bool = False) -> None:
        self._check()
        await trio.lowlevel.checkpoint()
        ears = self._listening.want(channels, reliable=reliable)
        with trio.move_on_after(self._options.patience):
            for ear in ears:
                await ear.hears.wait()
        self._listening.promise(ears)

    async def ignore(self, channels: Iterable[str], *, reliable: bool = False) -> None:
        self._check()
        await trio.lowlevel.checkpoint()
        self._listening.want_no_more(channels, reliable=reliable)

    async def receive(self) -> list[Arrival | Interrupted]:
        return await self._inbox.receive()

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        await self._ask([self._words.put(key, value, lasts)])

    async def take(self, key: str) -> bytes | None:
        (value,) = await self._ask([self._words.take(key)])
        assert value is None or isinstance(value, bytes)
        return value

    def health(self) -> BackplaneHealth:
        heard_at = self._listening.heard_at
        silence = math.inf if heard_at is None else trio.current_time() - heard_at
        is_deaf = silence > self._options.deaf_after
        trouble = self._listening.lifeline.trouble or self._asking.lifeline.trouble
        return BackplaneHealth(is_deaf, silence, trouble or ("nothing is heard" if is_deaf else ""))

    def statistics(self) -> BackplaneStatistics:
        inbox, lifelines = self._inbox, (self._asking.lifeline, self._listening.lifeline)
        reconnects = sum(lifeline.reconnects for lifeline in lifelines)
        return BackplaneStatistics(
            self._sent, inbox.received, inbox.interrupted, self._unreachable, inbox.overflowed, reconnects
        )

    async def _beat(self) -> NoReturn:
        """Tell ourselves something every now and then."""
        while True:
            try:
                await self._asking.ask([self._words.beat()])
            except Unreachable:  # health says so
                pass
            await trio.sleep(self._options.beat_every)

    async def _watch(self) -> NoReturn:
        """Listen anew when nothing is heard."""
        while True:
            left = self._options.deaf_after - self._listening.silence
            if left <= 0:
                self._listening.give_up()
                left = self._options.beat_every
            await trio.sleep(left)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        self._check()
        try:
            return await self._asking.ask(commands)
        except Unreachable:
            self._unreachable += 1
            raise

    def _check(self) -> None:
        if self._closed:
            raise Closed(GONE)
