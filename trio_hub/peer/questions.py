"""The requests a client has asked and not been answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trio_hub.errors import Misuse, OutcomeUnknown, RequestFailed
from trio_hub.messages import Cancel, Reply, Request
from trio_hub.wire.codecs import Codec

__all__ = ["Question", "Questions"]


_FORGOTTEN = "the server forgot this connection before it answered the request"


class Question:
    """A request under way. `reply` waits for what comes of it."""

    def __init__(self, questions: Questions, request: Request, message: str | bytes) -> None:
        self._questions = questions
        self._request = request
        self._answered = trio.Event()
        self._outcome: Any = None
        self._failure: Exception | None = None
        self.message = message
        self.sent = False

    @property
    def seq(self) -> int:
        """The request's number."""
        return self._request.seq

    async def reply(self) -> Any:
        """Return the reply's data. Raises `RequestFailed` for FAIL, and `OutcomeUnknown` where nobody can say.

        If cancelled, the request is cancelled at the server as well, as far as that is still possible.
        """
        try:
            await self._answered.wait()
        finally:
            self._questions.leave(self)
        if self._failure is not None:
            raise self._failure
        return self._outcome

    @property
    def is_answered(self) -> bool:
        """Whether `reply` returns, or raises, at once."""
        return self._answered.is_set()

    def settle(self, outcome: Any, failure: Exception | None = None) -> None:
        """Note the outcome, and wake whoever waits for it."""
        self._outcome, self._failure = outcome, failure
        self._answered.set()


class Questions:
    """Numbers requests, keeps those without an answer for repetition, and matches replies to them.

    `say` takes words for the server that matter now or never.
    """

    def __init__(self, codec: Codec, limit: int, say: Callable[[str | bytes], None]) -> None:
        self._codec = codec
        self._say = say
        self._limit = limit
        self._open: dict[int, Question] = {}
        self._room = trio.lowlevel.ParkingLot()
        self._highest = 0
        self._end: Exception | None = None

    @property
    def open(self) -> list[Question]:
        """The questions without an answer, in the order of their numbers."""
        return list(self._open.values())

    @property
    def answered_up_to(self) -> int:
        """The highest number below which every request was answered, or given up."""
        return next(iter(self._open), self._highest + 1) - 1

    def begin_after(self, number: int) -> None:
        """Number requests above `number`, which the server has seen already."""
        self._highest = max(self._highest, number)

    async def wait_for_room(self) -> None:
        """Wait until fewer requests are open than the limit. Raises what `end` was given."""
        while len(self._open) >= self._limit and self._end is None:
            await self._room.park()
        if self._end is not None:
            raise self._end

    def ask(self, action: str, data: Any, deadline: float | None, largest: int) -> Question:
        """Number and encode a request. Raises `Misuse` where that is not possible in `largest` bytes."""
        request = Request(self._highest + 1, action, data, deadline)
        message = self._codec.encode(request)
        size = len(message.encode() if isinstance(message, str) else message)
        if size > largest:
            raise Misuse(f"a request of {size} bytes; the hub takes {largest}")
        question = Question(self, request, message)
        self._highest += 1
        self._open[question.seq] = question
        return question

    def answer(self, reply: Reply) -> None:
        """Settle the question that this replies to; a reply to none (it was cancelled) is of no interest."""
        question = self._open.pop(reply.seq_reply, None)
        if question is not None:
            question.settle(reply.data, None if reply.error is None else RequestFailed(*reply.error))
            self._room.unpark()

    def leave(self, question: Question) -> None:
        """Nobody waits for this question any more: have it cancelled if it is open."""
        if self._open.pop(question.seq, None) is not None:
            self._say(self._codec.encode(Cancel(question.seq)))
            self._room.unpark()

    def doubt(self) -> None:
        """The server has forgotten us: nobody can say what became of the questions that were sent."""
        for question in self.open:
            if question.sent:
                del self._open[question.seq]
                question.settle(None, OutcomeUnknown(0, "outcome_unknown", _FORGOTTEN))
        self._room.unpark_all()

    def end(self, error: Exception) -> None:
        """No answer will ever come."""
        self._end = error
        for question in self.open:
            question.settle(None, error)
        self._open.clear()
        self._room.unpark_all()
