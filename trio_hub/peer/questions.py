"""The requests a client has asked and not been answered."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import trio

from trio_hub.errors import Gap, Misuse, OutcomeUnknown, PeerFault, RequestFailed, again
from trio_hub.messages import Cancel, CloseCode, End, Item, More, Reply, Request
from trio_hub.peer.items import Items
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
            raise again(self._failure)
        return self._outcome

    async def wait_answered(self) -> None:
        """Wait until `reply` would return, or raise, at once. If cancelled, nothing is."""
        await self._answered.wait()

    @property
    def is_answered(self) -> bool:
        """Whether `reply` returns, or raises, at once."""
        return self._answered.is_set()

    def settle(self, outcome: Any, failure: Exception | None = None) -> None:
        """Note the outcome, and wake whoever waits for it."""
        self._outcome, self._failure = outcome, failure
        self._answered.set()

    def end(self, failure: Exception | None) -> None:
        """No reply will come."""
        self.settle(None, failure)


class Questions:
    """Numbers requests, keeps those without an answer for repetition, and matches replies and items to them.

    `say` takes words for the server; they are lost where there is no link.
    """

    def __init__(self, codec: Codec, limit: int, say: Callable[[str | bytes], None]) -> None:
        self._codec = codec
        self._say = say
        self._limit = limit
        self._open: dict[int, Question | Items] = {}
        self._left: dict[int, None] = {}  # streams of which nobody wants more, and which have not ended
        self._room = trio.lowlevel.ParkingLot()
        self._highest = 0
        self._end: Exception | None = None

    @property
    def open(self) -> list[Question | Items]:
        """The questions without an answer, or whose items still come, in the order of their numbers."""
        return list(self._open.values())

    @property
    def answered_up_to(self) -> int:
        """The highest number below which every request was answered, or given up."""
        return next(iter(self._open), self._highest + 1) - 1

    def begin_after(self, number: int) -> None:
        """Number requests above `number`, which the server has seen already."""
        self._highest = max(self._highest, number)
        self._left = {seq: None for seq in self._left if seq <= number}  # of the others it has never heard

    def repeat_small_words(self) -> None:
        """Say again what may have died with the last link, beside the questions: `Cancel` and `More` of streams."""
        for seq in self._left:
            self._say(self._codec.encode(Cancel(seq)))
        for question in self.open:
            if isinstance(question, Items) and question.has_more:
                self._say_more(question.seq, question.allowed)

    async def wait_for_room(self) -> None:
        """Wait until fewer requests are open than the limit. Raises what `end` was given.

        To be followed at once by asking: nobody else is woken for the same place.
        """
        while len(self._open) >= self._limit and self._end is None:
            await self._room.park()
        if self._end is not None:
            raise again(self._end)

    def ask(self, action: str, data: Any, deadline: float | None, largest: int) -> Question:
        """Number and encode a request. Raises `Misuse` where that is not possible in `largest` bytes."""
        request, message = self._numbered(action, data, deadline, largest)
        question = Question(self, request, message)
        self._open[question.seq] = question
        return question

    def ask_for_items(self, action: str, data: Any, deadline: float | None, largest: int, window: int) -> Items:
        """Likewise for a streamed reply, of which no more than `window` items may wait to be taken."""
        request, message = self._numbered(action, data, deadline, largest, items=window)
        items = Items(request, message, self._say_more)
        self._open[items.seq] = items
        return items

    def _numbered(
        self, action: str, data: Any, deadline: float | None, largest: int, *, items: int | None = None
    ) -> tuple[Request, str | bytes]:
        try:
            request = Request(self._highest + 1, action, data, _finite(deadline), items=items)
            message = self._encode(request, largest)
        except Exception:
            self._room.unpark()  # whoever asks may have been woken for this place, and does not take it
            raise
        self._highest = request.seq
        return request, message

    def _encode(self, request: Request, largest: int) -> str | bytes:
        message = self._codec.encode(request)
        size = len(message.encode() if isinstance(message, str) else message)
        if size > largest:
            raise Misuse(f"a request of {size} bytes; the hub takes {largest}")
        return message

    def _say_more(self, seq: int, items: int) -> None:
        self._say(self._codec.encode(More(seq, items)))

    def answer(self, reply: Reply) -> None:
        """Settle the question that this replies to; a reply to none (it was cancelled) is of no interest."""
        question = self._close(reply.seq_reply)
        failure = None if reply.error is None else RequestFailed(*reply.error)
        if isinstance(question, Items):
            question.answer(failure)
        elif question is not None:
            question.settle(reply.data, failure)

    def hear_item(self, item: Item, *, may_be_of_another: bool = True) -> None:
        """Give an item to who asked for it. Raises `PeerFault` for one that is too many.

        Where nobody here did, the rest of them is cancelled, if an earlier process may have; or else it is a fault to
        send what was never asked for, and what was left long ago is passed over.
        """
        question = self._open.get(item.reply_to)
        if isinstance(question, Items):
            question.put(item.data)
        elif not may_be_of_another:
            if item.reply_to > self._highest:
                raise PeerFault(CloseCode.POLICY, f"an item for request {item.reply_to}, which was not asked")
        elif item.reply_to not in self._left:
            self._say(self._codec.encode(Cancel(item.reply_to)))

    def hear_end(self, end: End) -> None:
        """There are no more items for a request."""
        question = self._close(end.reply_to)
        if question is not None:
            question.end(None if end.error is None else RequestFailed(*end.error))

    def _close(self, seq: int) -> Question | Items | None:
        self._left.pop(seq, None)
        question = self._open.pop(seq, None)
        if question is not None:
            self._room.unpark()
        return question

    def leave(self, question: Question | Items) -> None:
        """Nobody waits for this question any more: have it cancelled if it is open."""
        if self._close(question.seq) is not None:
            self._say(self._codec.encode(Cancel(question.seq)))
            if isinstance(question, Items) and question.sent:
                self._left[question.seq] = None  # its handler would wait for us: so not only now or never

    def lose(self, gap: Gap, number: int) -> None:
        """Events were lost: streams up to request `number` have a hole, and the server has cancelled them."""
        self._left.clear()
        for question in self.open:
            if isinstance(question, Items) and question.seq <= number:
                self._close(question.seq)
                question.end(Gap(gap.reason, gap.last))

    def doubt(self) -> None:
        """The server has forgotten us: nobody can say what became of the questions that were sent."""
        self._left.clear()
        for question in self.open:
            if question.sent:
                self._close(question.seq)
                question.end(OutcomeUnknown(0, "outcome_unknown", _FORGOTTEN))

    def end(self, error: Exception) -> None:
        """No answer will ever come."""
        self._end = error
        for question in self.open:
            question.end(error)
        self._open.clear()
        self._room.unpark_all()


def _finite(deadline: float | None) -> float | None:
    return None if deadline is None or not deadline < math.inf else deadline
