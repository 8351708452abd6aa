"""The requests of one connection: bounded, each in a scope of its own, and (v1) each carried out once.

What a number means. A client numbers its requests upwards for the life of its connection id, and repeats after a
lost link whatever was not answered. So a number above the highest seen is new; any other is a repetition of one that
is running (its reply will come), or done (the reply is kept until the client acknowledges it), or forgotten. In
compat, numbers restart with each link and are never compared; replies go to the link that asked or to nobody.

How one is carried out. The handler is a plain call. If what it returns needs no waiting, that is the reply, with no
task at all; if it returns a coroutine, that runs in a task of the connection. Actions that are `ordered` wait for
the ordered ones before them, in one lane; but not for what is left of those `Aside`.

An async iterator, returned at once or by the coroutine, is a streamed reply: its items, and in the end one `End`, go
where events go, and are not repeated here. It is begun only for who asked for items.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable, Mapping
from typing import Any, Protocol

import attrs
import trio

from trio_hub.errors import HubError, Misuse, RequestFailed
from trio_hub.link.tasks import failures_in
from trio_hub.messages import End, Reply, Request
from trio_hub.options import HubOptions
from trio_hub.peer.items import PLAIN, Allowance, Outlet, closing, is_stream, send_items
from trio_hub.peer.replies import Replies
from trio_hub.wire.codecs import Codec

__all__ = ["Aside", "Handler", "Requests"]

log = logging.getLogger("trio_hub.peer")

_MOVED = RequestFailed(503, "moved", "the connection went on at another node, and left this request unfinished")
_STREAMED = "the reply is a stream: ask for its items, in trio-hub.v1"


class Handler(Protocol):
    """What carries out requests: an application's router."""

    def ordered(self, action: str) -> bool:
        """Whether requests of this action wait for earlier ordered ones of the same connection."""
        ...

    def __call__(self, connection: Any, request: Request) -> Any:
        """Return the reply's data, or a coroutine that will (perhaps `Aside`), or either way an async iterator of a
        streamed reply.

        Raises `RequestFailed` to answer FAIL.
        """
        ...


@attrs.frozen
class Aside:
    """What is still waited for before an ordered request is answered, though those behind it may be carried out."""

    work: Coroutine[Any, Any, Any]


Work = Coroutine[Any, Any, Any] | AsyncIterator[Any] | Aside
"""What a handler returned that is not all there yet."""


Send = Callable[[str | bytes, Any], None]
"""Send an encoded reply; the second argument is what `carry_out` was given as `asked_on`."""


@attrs.define(eq=False)
class _Job:
    request: Request
    asked_on: Any
    key: Hashable
    scope: trio.CancelScope
    watch: trio.CancelScope | None = None  # around the watch on its deadline, while it waits in the lane
    allowance: Allowance | None = None  # of a streamed reply that has begun
    ending: trio.CancelScope | None = None  # around the wait for room for its end


class Requests:
    """Carries out the requests of `connection`. Where there is an `outlet` (v1) their numbers count, and replies may be
    streamed, into that.

    `send` gets every reply, encoded, and `answered` its status, once for each request.
    """

    def __init__(
        self,
        connection: Any,
        handler: Handler,
        codec: Codec,
        options: HubOptions,
        send: Send,
        answered: Callable[[int], None],
        outlet: Outlet | None,
    ) -> None:
        self._connection = connection
        self._handler = handler
        self._codec = codec
        self._options = options
        self._send = send
        self._answered = answered
        self._tasks: trio.Nursery
        self._outlet = outlet
        self._once = outlet is not None
        self._running: dict[Hashable, _Job] = {}
        self._lane: list[_Job] = []
        self._lane_is_busy = False
        self._replies = Replies(options)
        self._rest = trio.lowlevel.ParkingLot()  # where those wait who want nothing to run
        self._is_leaving = False
        self.highest = 0

    def run_in(self, tasks: trio.Nursery) -> None:
        """Have the tasks of requests in there. To be called once, before anything is carried out."""
        self._tasks = tasks

    @property
    def running(self) -> int:
        """How many requests run or wait for their turn."""
        return len(self._running)

    def carry_out(self, request: Request, asked_on: Any) -> None:
        """Begin to carry out a request, or repeat what came of it. Never waits, never raises."""
        if self._once and request.seq <= self.highest:
            self._repeat(request, asked_on)
            return
        self.highest = max(self.highest, request.seq)
        if len(self._running) >= self._options.running_requests:
            busy = f"{self._options.running_requests} requests are running already"
            self._answer(request, asked_on, error=RequestFailed(503, "busy", busy))
        elif self._lane_is_busy and self._handler.ordered(request.action):
            self._wait_in_lane(self._job(request, asked_on))
        else:
            work = self._begin(request, asked_on)
            if work is not None:
                self._work(self._job(request, asked_on), work)

    def cancel(self, seq: int) -> None:
        """Cancel request `seq` if it runs or waits; it is answered with FAIL `cancelled`."""
        job = self._running.get(seq)
        if job is not None:
            job.scope.cancel()
            self._leave_lane(job)

    def extend(self, seq: int, items: int) -> None:
        """The asker takes so many items of the reply to request `seq` in all."""
        job = self._running.get(seq)
        if job is not None and job.allowance is not None:
            job.allowance.extend(items)

    def cancel_streams(self) -> None:
        """Cancel what is to be streamed: items of it were lost."""
        for job in list(self._running.values()):
            if job.request.items is not None:
                self.cancel(job.request.seq)

    def cancel_all(self) -> None:
        """Cancel everything that runs or waits; nobody is there for the answers."""
        for job in self._lane:  # the others leave as their tasks end
            del self._running[job.key]
            _end_watch(job)
        self._lane.clear()
        for job in self._running.values():
            job.scope.cancel()
            if job.ending is not None:
                job.ending.cancel()

    async def leave(self, patience: float) -> None:
        """Have everything come to an end that runs or waits, since its connection goes on elsewhere.

        What has not ended after so many seconds is cancelled, streamed replies at once; as long again is waited for
        that. It is all answered then, and the answers are kept.
        """
        self._is_leaving = True
        self.cancel_streams()
        with trio.move_on_after(patience):
            await self._wait_rest()
        if not self._is_leaving:
            return
        for job in list(self._running.values()):
            job.scope.cancel()
            self._leave_lane(job)
        with trio.move_on_after(patience):
            await self._wait_rest()
        for job in list(self._running.values()):
            if self._once and job.allowance is None:
                failure = _failure(_MOVED, job.request)
                self._replies.keep(job.request.seq, self._codec.encode(Reply(job.request.seq, None, failure)))

    def stay(self) -> None:
        """Leave no more: its connection has a link here."""
        self._is_leaving = False

    async def _wait_rest(self) -> None:
        while self._running:
            await self._rest.park()

    def packed(self) -> tuple[int, dict[int, str | bytes], list[int]]:
        """Return the highest request, the replies that are kept, and the requests whose replies were streamed."""
        return self.highest, *self._replies.packed()

    def unpack(self, highest: int, replies: Mapping[int, str | bytes], streamed: Iterable[int]) -> None:
        """Go on with what was packed elsewhere. To be called before anything is carried out."""
        self.highest = highest
        self._replies.unpack(replies, streamed)

    def forget_replies(self, number: int) -> None:
        """Forget the replies up to request `number`: the client has them."""
        self._replies.forget(number)

    def refuse(self, seq: int, failure: RequestFailed, asked_on: Any) -> None:
        """Answer a request that cannot even be begun."""
        if self._once and seq <= self.highest:
            self._repeat(Request(seq, ""), asked_on)
            return
        self.highest = max(self.highest, seq)
        self._answer(Request(seq, ""), asked_on, error=failure)

    # -- carrying out

    def _begin(self, request: Request, asked_on: Any) -> Work | None:
        """Call the handler; answer, or return the work that is left."""
        try:
            result = self._handler(self._connection, request)
        except Exception as error:
            self._answer(request, asked_on, error=error)
            return None
        if type(result) not in PLAIN and (isinstance(result, Coroutine | Aside) or is_stream(result)):
            return result  # type: ignore[no-any-return]
        self._answer(request, asked_on, result)
        return None

    def _job(self, request: Request, asked_on: Any) -> _Job:
        """Note a request that runs, or waits for its turn."""
        scope = trio.CancelScope()
        if request.deadline is not None:
            scope.deadline = trio.current_time() + request.deadline
        job = _Job(request, asked_on, request.seq if self._once else object(), scope)
        self._running[job.key] = job
        return job

    def _wait_in_lane(self, job: _Job) -> None:
        self._lane.append(job)
        if job.request.deadline is not None:
            job.watch = trio.CancelScope()
            self._tasks.start_soon(self._watch_deadline, job, job.watch)

    def _work(self, job: _Job, work: Work) -> None:
        if isinstance(work, Aside):
            self._tasks.start_soon(self._finish, job, work.work)
        elif self._handler.ordered(job.request.action):
            self._lane_is_busy = True
            self._tasks.start_soon(self._work_off_lane, job, work)
        else:
            self._tasks.start_soon(self._finish, job, work)

    async def _finish(self, job: _Job, work: Work) -> None:
        """Do the work within the job's scope and answer. Work that is cancelled by now is not even begun."""
        data: Any = work
        error = None
        try:
            with job.scope:
                if isinstance(work, Coroutine):
                    data = await _outcome(work)
                if is_stream(data):
                    await self._stream(job, data)
        except Exception as raised:
            error = raised
        if job.scope.cancelled_caught:
            error = self._why_cancelled(job)
        if job.allowance is None:
            self._answer_job(job, data, error=error)
        else:
            await self._end_stream(job, error)

    async def _stream(self, job: _Job, items: AsyncIterator[Any]) -> None:
        """Send the items of a streamed reply. Raises what they raise."""
        if self._outlet is None or job.request.items is None:
            async with closing(items):
                raise RequestFailed(406, "streamed", _STREAMED)
        job.allowance = Allowance(job.request.items)
        await send_items(items, job.request.seq, job.allowance, self._outlet)

    async def _end_stream(self, job: _Job, error: Exception | None) -> None:
        """Say that there are no more items, and why, as soon as there is room for that."""
        assert self._outlet is not None
        seq, failure = job.request.seq, None if error is None else _failure(error, job.request)
        with trio.CancelScope() as job.ending:
            await self._outlet.wait_for_room()
            self._outlet.put(End(seq, failure))
        self._strike(job)
        self._replies.note_streamed(seq)
        self._answered(200 if failure is None else failure[0])

    async def _work_off_lane(self, job: _Job, work: Work) -> None:
        """Finish this ordered job, then those that came meanwhile, one after the other."""
        await self._finish(job, work)
        while self._lane:
            job = self._lane.pop(0)
            _end_watch(job)
            next_work = self._begin(job.request, job.asked_on)
            if next_work is not None and not isinstance(next_work, Aside):
                await self._finish(job, next_work)
                continue
            if next_work is None:
                self._strike(job)
            else:
                self._work(job, next_work)
            await trio.lowlevel.checkpoint()
        self._lane_is_busy = False

    async def _watch_deadline(self, job: _Job, watch: trio.CancelScope) -> None:
        """Answer a job that still waits in the lane when its deadline has come."""
        with watch:
            await trio.sleep_until(job.scope.deadline)
            self._leave_lane(job)

    def _leave_lane(self, job: _Job) -> None:
        """Answer a job at once if it still waits in the lane."""
        if job in self._lane:
            self._lane.remove(job)
            _end_watch(job)
            self._answer_job(job, error=self._why_cancelled(job))

    def _why_cancelled(self, job: _Job) -> RequestFailed:
        if trio.current_time() >= job.scope.deadline:
            return RequestFailed(504, "deadline", "the request was not carried out in time")
        if self._is_leaving:
            return _MOVED
        return RequestFailed(499, "cancelled", "the client cancelled this request")

    # -- replies

    def _strike(self, job: _Job) -> None:
        del self._running[job.key]
        if not self._running:
            self._rest.unpark_all()

    def _answer_job(self, job: _Job, data: Any = None, *, error: Exception | None = None) -> None:
        self._strike(job)
        self._answer(job.request, job.asked_on, data, error=error)

    def _answer(self, request: Request, asked_on: Any, data: Any = None, *, error: Exception | None = None) -> None:
        message = self._fail(request, error) if error is not None else self._succeed(request, data)
        if self._once:
            self._replies.keep(request.seq, message)
        self._send(message, asked_on)

    def _succeed(self, request: Request, data: Any) -> str | bytes:
        try:
            message = self._codec.encode_reply(request.seq, data)
        except Misuse as unencodable:
            return self._fail(request, unencodable)
        self._answered(200)
        return message

    def _fail(self, request: Request, error: Exception) -> str | bytes:
        failure = _failure(error, request)
        self._answered(failure[0])
        return self._codec.encode(Reply(request.seq, None, failure))

    def _repeat(self, request: Request, asked_on: Any) -> None:
        if request.seq in self._running or self._replies.was_streamed(request.seq):
            return
        message = self._replies.get(request.seq)
        if message is None:
            gone = (410, "reply_gone", "this request was answered before, and the reply is no longer kept")
            message = self._codec.encode(Reply(request.seq, None, gone))
        self._send(message, asked_on)


async def _outcome(work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine does. One that is cancelled by now is not even begun."""
    try:
        await trio.lowlevel.checkpoint_if_cancelled()
        return await work
    finally:
        work.close()


def _end_watch(job: _Job) -> None:
    if job.watch is not None:
        job.watch.cancel()


def _sayable(text: object) -> str:
    """Return text that can be encoded, whatever a handler gave for it (a file name may have surrogates)."""
    return str(text).encode(errors="replace").decode()


def _failure(error: Exception, request: Request) -> tuple[int, str, str]:
    """Return what the asker may know of a failure. What is our own fault goes to the log, under an id."""
    failures = failures_in(error)
    if len(failures) == 1:
        (error,) = failures
    if isinstance(error, RequestFailed):
        return error.status, _sayable(error.id), _sayable(error.message)
    id = secrets.token_hex(4)
    log.error("request %r failed [%s]", request.action, id, exc_info=error)
    kind = "cannot answer" if isinstance(error, HubError) else "failed"
    return 500, "internal", f"the handler {kind}; look for {id} in the server's log"
