"""What a member asks of Redis: one task writes it all, a batch at a time, over connection after connection.

Only one batch is on its way at a time, and what was lost with its connection and may be repeated is so before anything
newer: thus what one member says keeps its order, and Redis can tell a repeated message by its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import trio
from coredis import exceptions

from trio_hub.cluster.backplane import GONE
from trio_hub.cluster.redis.address import RedisAddress
from trio_hub.cluster.redis.connection import RedisConnection, is_loss, reason_of
from trio_hub.cluster.redis.lifeline import Lifeline
from trio_hub.cluster.redis.words import SCRIPT, Command
from trio_hub.errors import Closed, HubError, Unreachable, again
from trio_hub.options import BackplaneOptions

__all__ = ["Asking"]

_BATCH = 1000  # commands, about: what waits behind them waits some 20 ms


class _Question:
    """Commands of one caller, and what has become of each."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.open: Sequence[int] = range(len(commands))
        self.failure: HubError | None = None
        self.settled = trio.Event()

    def fail(self, failure: HubError) -> None:
        self.failure = self.failure or failure
        self.settled.set()

    def answer(self, replies: Sequence[Any]) -> bool:
        """Take a reply for each open command. Whether the connection is none any more; what may be repeated is open."""
        lost, still_open = False, []
        for at, reply in zip(self.open, replies, strict=True):
            if not isinstance(reply, BaseException):
                self.replies[at] = reply
                continue
            if is_loss(reply):
                lost = True
                if self.commands[at].repeatable:
                    still_open.append(at)
                    continue
            self.fail(Unreachable(reason_of(reply)))
        self.open = still_open
        if not still_open:
            self.settled.set()
        return lost


class Asking:
    """Questions on their way to Redis, each for as long as its caller waits: `patience` seconds at most."""

    def __init__(self, address: RedisAddress, options: BackplaneOptions) -> None:
        self._patience = options.patience
        self._way_in, self._way_out = trio.open_memory_channel[_Question](options.asking)
        self._taken: list[_Question] = []  # from the channel, and not settled
        self.lifeline = Lifeline(address, options, "asking")

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Have these carried out in order, and return their replies. Raises `Unreachable`, and `Closed` at the end.

        If cancelled, they may have been carried out.
        """
        if not commands:
            await trio.lowlevel.checkpoint()
            return []
        question = _Question(commands)
        try:
            with trio.move_on_after(self._patience):
                await self._way_in.send(question)
                await question.settled.wait()
        except trio.BrokenResourceError:
            raise Closed(GONE) from None
        finally:
            abandoned = not question.settled.is_set()
            question.settled.set()
        if question.failure is not None:
            raise again(question.failure)
        if abandoned:
            raise Unreachable(self.lifeline.trouble or f"no answer within {self._patience:g} s")
        return question.replies

    async def run(self) -> NoReturn:
        """Write what is asked, until cancelled."""
        try:
            await self.lifeline.run(self._live)
        finally:
            self._take_waiting(math.inf)
            self._way_out.close()
            for question in self._taken:
                question.fail(Closed(GONE))

    async def _live(self, connection: RedisConnection) -> None:
        """Raises `Unreachable` when the connection is lost, at the latest when something is asked."""
        await self._carry_out(connection, _Question([Command(b"SCRIPT LOAD", (SCRIPT,))]))
        self.lifeline.is_good()
        while True:
            if not self._taken:
                self._taken.append(await self._way_out.receive())
            self._take_waiting(_BATCH)
            self._forget_settled()
            await self._carry_out(connection, *self._taken)
            self._forget_settled()

    def _take_waiting(self, most: float) -> None:
        """Take what waits, until there are so many commands or nothing more."""
        size = sum(len(question.open) for question in self._taken)
        while size < most:
            try:
                question = self._way_out.receive_nowait()
            except trio.WouldBlock:
                return
            size += len(question.open)
            self._taken.append(question)

    def _forget_settled(self) -> None:
        self._taken = [question for question in self._taken if not question.settled.is_set()]

    async def _carry_out(self, connection: RedisConnection, *questions: _Question) -> None:
        """Write what is open of these, and give each its replies. Raises `Unreachable` if the connection is lost."""
        batch = [question.commands[at] for question in questions for at in question.open]
        if not batch:  # everybody has given up; coredis would take the next reply for one to this
            return
        try:
            request = connection.create_request_batch(cast("Any", batch), timeout=self._patience)
        except exceptions.ConnectionError as error:  # nothing of it was written
            raise Unreachable(reason_of(error)) from error
        replies = iter(await request)
        lost = None
        for question in questions:
            of_it = [next(replies) for _ in question.open]
            if question.answer(of_it):
                lost = next(reply for reply in of_it if isinstance(reply, BaseException) and is_loss(reply))
        if lost is not None:
            raise Unreachable(reason_of(lost)) from lost
