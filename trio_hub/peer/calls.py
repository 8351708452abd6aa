"""Requests over one plain link, in both directions at once: either end may ask, and answer, without a hub.

The words are those of a hub and its clients (v1), but for what a resume needs: there is none. What has no answer when
the link ends is not repeated, since nobody could say whether it was carried out; whoever waits for it gets `LinkLost`.

Why nobody waits for ever. Both ends read whatever comes, also while they have too much to write: replies and items go
to those who wait for them, and only what the other end *asks* waits, in its order, until it has read what it asked for
before. Two ends that ask each other for more than fits into the road between them so get their answers, one by one.
What waits so is bounded, by number and by bytes: of what is too much only the number is kept, and refused in its turn.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_hub.errors import Closed, HubError, LinkLost, PeerFault, RequestFailed
from trio_hub.link.dialing import OpenStream, open_link
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Cancel, CloseCode, CloseReason, End, Item, MalformedRequest, More, Reply, Request
from trio_hub.options import CallOptions, HubOptions, LinkOptions, OpeningOptions
from trio_hub.peer.items import Items
from trio_hub.peer.questions import Question, Questions
from trio_hub.peer.requests import Handler, Requests
from trio_hub.wire.codecs import V1_CBOR, V1_JSON, Codec, FromClient, FromServer

__all__ = ["Calls", "open_calls"]

_UNLIMITED: Final = 2**53
_REFUSED_AT_ONCE: Final = 16
"""Times as many as may wait are refused while no reply is read, then the link is ended. No option: each is a number
here, however few or many may wait, and nobody honest asks so much without reading that it was too much."""


@attrs.frozen
class _Refused:
    """A request that will not be carried out, which there is no room yet to say."""

    seq: int
    failure: RequestFailed


_Asked = Request | MalformedRequest | _Refused


class Calls:
    """Asking and answering over `link`, within ``async with calls.running()``; the other end does the same::

        async def serve(link: Link) -> None:                # for `serve_links`
            async with Calls(link, router).running() as calls:
                await calls.wait_ended()

    `handler` answers what the other end asks: a `Router`, whose handlers get this object first, so that they may ask
    back. Without one every request of the other end is answered with FAIL 404. Nothing else may be said or received on
    the link meanwhile; an end that says anything else is told so, and the link ends.

    Either end may have `running_requests` of the other's at once; one more is answered with FAIL 503.
    """

    def __init__(self, link: Link, handler: Handler | None = None, *, options: CallOptions | None = None) -> None:
        self.link = link
        self._options = options = options or CallOptions()
        self._codec: Codec = V1_CBOR if options.cbor else V1_JSON
        self._questions = Questions(self._codec, options.in_flight, self._say)
        self._requests = Requests(
            self,
            handler or _Nobody(),
            self._codec,
            HubOptions(running_requests=options.running_requests, kept_replies=1, kept_replies_size=1),
            lambda reply, asked_on: self._say(reply),
            lambda status: None,
            _Outlet(link, self._codec, self._say),
        )
        self._asked: dict[int, _Asked] = {}  # what waits until there is room for more replies
        self._sizes: dict[int, int] = {}  # of the requests among them, as they came
        self._size = 0
        self._moved = trio.lowlevel.ParkingLot()  # for whoever waits for a change of that
        self._in_batch = False
        self._ended = trio.Event()

    # -- asking

    async def ask(self, action: str, data: Any = None, *, deadline: float | None = None) -> Question:
        """Send a request and return it; ``await question.reply()`` for what comes of it.

        Requests of one task arrive in order. Waits while too many are open, or too much is to be written. If cancelled,
        it was not asked. `deadline` is the seconds after which the other end gives it up. Raises `Misuse` for data that
        cannot be encoded, and `LinkLost` or `Closed` when the link or the block of `running` has ended.
        """
        await self._wait_to_ask()
        question = self._questions.ask(action, data, deadline, _UNLIMITED)
        self._send(question)
        await trio.lowlevel.cancel_shielded_checkpoint()  # it is asked: too late to be cancelled
        return question

    async def request(self, action: str, data: Any = None, *, deadline: float | None = None) -> Any:
        """Ask, and return the reply's data.

        Raises `RequestFailed` for FAIL, `LinkLost` when the link ends before the reply (it may have been carried out,
        or not), and as `ask` does. If cancelled, the other end's handler is cancelled too, if it still runs.
        """
        question = await self.ask(action, data, deadline=deadline)
        return await question.reply()

    @asynccontextmanager
    async def stream(self, action: str, data: Any = None, *, deadline: float | None = None) -> AsyncIterator[Items]:
        """Ask for a reply that is streamed, within the block: ``async with calls.stream(...) as items``.

        Entering waits, and raises, as `ask` does. The iteration raises what the reply's failure is (`Items`), and
        `LinkLost` when the link ends, behind the items that came. At most ``CallOptions.items`` wait to be taken: then
        the other end's handler waits. Leaving the block, also when cancelled, cancels that.
        """
        await self._wait_to_ask()
        items = self._questions.ask_for_items(action, data, deadline, _UNLIMITED, self._options.items)
        try:
            self._send(items)
            await trio.lowlevel.cancel_shielded_checkpoint()
            yield items
        finally:
            self._questions.leave(items)
            items.leave()

    async def _wait_to_ask(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self.link.writer.wait_for_room()
        await self._questions.wait_for_room()

    def _send(self, question: Question | Items) -> None:
        question.sent = True
        self._say(question.message)

    def _say(self, message: str | bytes) -> None:
        if self.link.closed is None:
            self.link.post(message)
            if not self._in_batch:
                self.link.writer.flush()

    # -- living

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Calls]:
        """Ask and answer within the block, once. The link is left open, for whoever has opened it.

        Leaving the block cancels what the other end has asked, which learns of it by the link's end; nothing is
        cancelled when that comes first, but whoever asks is told.
        """
        async with open_tasks() as tasks:
            self._requests.run_in(tasks)
            tasks.start_soon(self._listen)
            tasks.start_soon(self._begin_what_waits)
            try:
                yield self
            finally:
                self._over(Closed("these calls have ended"))
                tasks.cancel_scope.cancel()

    async def wait_ended(self) -> None:
        """Wait until the link has ended, or the block of `running` has; ``calls.link.closed`` says how."""
        await self._ended.wait()

    def _over(self, error: HubError) -> None:
        """Nobody waits for our answers any more, and whoever waits for theirs gets this error."""
        if not self._ended.is_set():
            self._ended.set()
            self._asked.clear()
            self._sizes.clear()
            self._size = 0
            self._requests.cancel_all()
            self._questions.end(error)

    async def _listen(self) -> None:
        """Heed everything that comes, a read at a time; then answer it all in one write."""
        link = self.link
        try:
            while True:
                messages = await link.receive()
                self._in_batch = True
                for message in messages:
                    for said in self._codec.from_peer(message):
                        self._heed(said, len(message))
                self._in_batch = False
                link.writer.flush()
        except PeerFault as fault:
            link.end(CloseReason(fault.code, fault.reason))
            self._over(LinkLost(CloseReason(fault.code, fault.reason)))
        except LinkLost as lost:
            self._over(lost)

    def _heed(self, said: FromClient | FromServer, size: int) -> None:
        """Do what was said, in a message of this size; all of that counts for each of several, which is rare."""
        match said:
            case Request() | MalformedRequest():
                if self._asked or self.link.writer.is_full:  # who does not read our replies waits for further ones
                    self._put_off(said, size)
                else:
                    self._carry_out(said)
            case Cancel(seq):
                if seq in self._asked:
                    self._let_go(seq)
                    self._asked[seq] = _Refused(seq, RequestFailed(499, "cancelled", "cancelled before it began"))
                else:
                    self._requests.cancel(seq)
            case More(seq, items):
                waiting = self._asked.get(seq)
                if isinstance(waiting, Request):
                    self._asked[seq] = msgspec.structs.replace(waiting, items=items)
                else:
                    self._requests.extend(seq, items)
            case Reply():
                self._questions.answer(said)
            case Item():
                self._questions.hear_item(said, may_be_of_another=False)
            case End():
                self._questions.hear_end(said)
            case _:
                raise PeerFault(
                    CloseCode.UNSUPPORTED, f"{type(said).__name__} is nothing to say to a peer without a hub"
                )

    def _put_off(self, said: Request | MalformedRequest, size: int) -> None:
        """Have a request wait until there is room for its reply; of what is too much, only the number is kept."""
        most, most_size = self._options.running_requests, self.link.options.owed_size
        if len(self._asked) >= most * _REFUSED_AT_ONCE:
            raise PeerFault(CloseCode.POLICY, "requests without end, and no reply is read")
        self._let_go(said.seq)
        if len(self._asked) >= most:
            self._asked[said.seq] = _Refused(said.seq, RequestFailed(503, "busy", f"{most} requests wait already"))
        elif self._size and self._size + size > most_size:
            self._asked[said.seq] = _Refused(said.seq, RequestFailed(503, "busy", "too much of requests waits already"))
        else:
            self._asked[said.seq] = said
            self._sizes[said.seq] = size
            self._size += size
        self._moved.unpark_all()

    def _let_go(self, seq: int) -> None:
        """Count a request no more that is no longer kept."""
        self._size -= self._sizes.pop(seq, 0)

    def _carry_out(self, said: _Asked) -> None:
        match said:
            case Request():
                self._requests.carry_out(said, None)
            case MalformedRequest(seq, fault):
                self._requests.refuse(seq, RequestFailed(400, "bad_request", fault), None)
            case _Refused(seq, failure):
                self._requests.refuse(seq, failure, None)

    async def _begin_what_waits(self) -> None:
        """Carry out what was asked while there was too much to write, one after the other as there is room."""
        while True:
            while not self._asked:
                await self._moved.park()
            await trio.lowlevel.checkpoint()
            await self.link.writer.wait_for_room()
            if self._asked:
                seq = next(iter(self._asked))
                self._let_go(seq)
                self._carry_out(self._asked.pop(seq))


class _Nobody:
    """Answers nothing."""

    def ordered(self, action: str) -> bool:
        return False

    def __call__(self, connection: Any, request: Request) -> Any:
        raise RequestFailed(404, "unknown_action", "this end answers no requests")


class _Outlet:
    """Puts items into the link's queue as long as that has room."""

    def __init__(self, link: Link, codec: Codec, say: Any) -> None:
        self._link = link
        self._codec = codec
        self._say = say

    async def wait_for_room(self) -> None:
        await self._link.writer.wait_for_room()

    def put(self, said: Item | End) -> None:
        self._say(self._codec.encode(said))


@asynccontextmanager
async def open_calls(
    url: str,
    handler: Handler | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_stream: OpenStream | None = None,
    options: CallOptions | None = None,
    link_options: LinkOptions | None = None,
    opening: OpeningOptions | None = None,
) -> AsyncIterator[Calls]:
    """Open a link to `url`, and ask and answer over it (`Calls`) for the length of the block.

    `handler` answers what the server asks: a `Router`. `open_stream` is as in `open_link`. Leaving the block closes the
    link: 1000, or 1011 after an exception. Raises `Refused` where the server says no, and `LinkLost` where it cannot be
    reached. A link that is lost is not dialled again.
    """
    opened = open_link(
        url,
        headers=headers,
        ssl_context=ssl_context,
        open_stream=open_stream,
        options=link_options,
        opening=opening,
    )
    async with (
        opened as link,
        Calls(link, handler, options=options).running() as calls,
    ):
        yield calls
