"""The caller's side of a connection: it dials, resumes, backs off and dials again, and its program notices nothing.

One task (`run`) lives through link after link. What comes is sorted: events and gaps go into the mailbox, replies to
their questions. What the program says goes straight to the link there is; what had no answer when a link died is
said again on the next one, and the hub knows it by its number.

A hello tells of a new connection id. On a fresh link that means that the hub knows nothing of us: topics are
subscribed again, requests that were sent are in doubt. In the midst of a link it means only that events were lost.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from trio_hub.errors import Closed, Gap, HubError, LinkLost, OutcomeUnknown, PeerFault, RequestFailed
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.opening import Address, OpenStream, connect, dial
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import HELLO, Ack, AckReplies, CloseCode, CloseReason, Event, Reply, Resumed
from trio_hub.options import ClientOptions
from trio_hub.peer.backoff import Backoff, comes_back
from trio_hub.peer.mailbox import Mailbox, Position
from trio_hub.peer.questions import Question, Questions
from trio_hub.wire.codecs import V1_JSON, FromServer

__all__ = ["Client", "Connected", "Lost", "Position", "open_client"]

log = logging.getLogger("trio_hub.client")


@attrs.frozen
class Connected:
    """There is a link. `resumed` says that it goes on where the last one ended, with nothing lost."""

    connection_id: str
    resumed: bool


@attrs.frozen
class Lost:
    """The link is gone, or none came about; the next dial is in `retry_in` seconds."""

    close: CloseReason
    retry_in: float


class Client:
    """A connection to a hub, for as long as the block of `open_client` lasts.

    ``async for event in client`` yields events in order, each once, however many links it takes. Where events were
    lost for good, the iteration raises `Gap`; begin another one, and it goes on behind the gap. It raises `Closed`
    (or `Refused`) when the server wants no more of us. For one reading task at a time.
    """

    def __init__(
        self,
        address: Address,
        *,
        token: str | None,
        position: Position | None,
        options: ClientOptions,
        open_stream: OpenStream,
        on_status: Callable[[Connected | Lost], None],
    ) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self._options = options
        self._open_stream = open_stream
        self._on_status = on_status
        self._heart = Heart(options.link)
        self._mailbox = Mailbox(options.mailbox, position)
        self._questions = Questions(V1_JSON, options.in_flight, self._say)
        self._topics: dict[str, None] = {}
        self._id = position.connection_id if position else None
        self._next = position.next if position else 0
        self._tasks: trio.Nursery  # that of `run`
        self._link: Link | None = None  # the link, once it was greeted
        self._greeted = trio.Event()
        self._acked = -1  # the highest event number that this connection id was told we have handled
        self._acked_replies = 0
        self._handled_when_acked = 0
        self._end: Exception | None = None

    @property
    def position(self) -> Position | None:
        """Where the program stands: hand it to another `open_client`, in this process or the next, to go on there."""
        return self._mailbox.position

    async def connected(self) -> None:
        """Wait until the hub has greeted us for the first time. Raises `Closed` or `Refused` when it never will."""
        await self._greeted.wait()
        if self._end is not None:
            raise self._end

    # -- hearing

    async def receive(self) -> Event:
        """Return the next event; that also says that those before it are handled. Nothing is lost when cancelled.

        Raises `Gap` where events were lost, and `Closed` or `Refused` when there will be no more.
        """
        event = await self._mailbox.take()
        self._acknowledge_if_due()
        return event

    async def receive_all(self) -> list[Event]:
        """Return every event that is there, at least one, up to the next gap. Otherwise as `receive`."""
        events = await self._mailbox.take_all()
        self._acknowledge_if_due()
        return events

    def settle(self) -> None:
        """Count the events that were taken last as handled now, not when the next are asked for."""
        self._mailbox.settle()
        self._acknowledge_if_due()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self.receive()

    # -- asking

    async def ask(self, action: str, data: Any = None, *, deadline: float | None = None) -> Question:
        """Send a request and return it; ``await question.reply()`` for what comes of it.

        Requests of one task arrive in order. Waits until there is a connection, and while too many requests are
        open. If cancelled, it was not asked. `deadline` is the seconds after which the server gives it up. Raises
        `Misuse` for data that cannot be encoded, and `Closed` or `Refused` when there will be no connection.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._greeted.wait()
        await self._questions.wait_for_room()
        if self._link is not None:
            await self._link.writer.wait_for_room()
        if deadline is not None and not deadline < math.inf:
            deadline = None
        question = self._questions.ask(action, data, deadline)
        self._send(question)
        await trio.lowlevel.cancel_shielded_checkpoint()  # it is asked: too late to be cancelled
        return question

    async def request(self, action: str, data: Any = None, *, deadline: float | None = None) -> Any:
        """Ask, and return the reply's data. It is carried out once, however many links that takes.

        Raises `RequestFailed` for FAIL, `OutcomeUnknown` where the server forgot us before it answered, and as `ask`
        does. If cancelled, the server's handler is cancelled too, if it still runs.
        """
        question = await self.ask(action, data, deadline=deadline)
        return await question.reply()

    async def subscribe(self, topic: str) -> None:
        """Hear this topic from now on, also after the server has forgotten us. Raises as `request` does."""
        self._topics[topic] = None
        try:
            await self.request("subscribe", {"topic": topic})
        except OutcomeUnknown:
            return  # the new connection subscribes to everything in `_topics`
        except RequestFailed:
            self._topics.pop(topic, None)
            raise

    async def unsubscribe(self, topic: str) -> None:
        """Hear this topic no more. Raises as `request` does."""
        self._topics.pop(topic, None)
        await self.request("unsubscribe", {"topic": topic})

    async def publish(self, topic: str, event: str, data: Any = None) -> None:
        """Say something to everybody who hears this topic; returns when the hub has accepted it.

        Raises as `request` does.
        """
        await self.request("publish", {"topic": topic, "event": event, "data": {} if data is None else data})

    def _send(self, question: Question) -> None:
        if self._link is not None:
            question.sent = True
            self._say(question.text)

    def _say(self, text: str) -> None:
        if self._link is not None:
            self._link.post(text)
            self._link.writer.flush()

    def _acknowledge_if_due(self) -> None:
        if self._mailbox.handled - self._handled_when_acked >= self._options.ack_every:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Tell the hub which events are handled and which replies have come, where it does not know."""
        position = self._mailbox.position
        if self._link is None:
            return
        self._handled_when_acked = self._mailbox.handled
        if position is not None and position.connection_id == self._id and position.next - 1 > self._acked:
            self._acked = position.next - 1
            self._say(V1_JSON.encode(Ack(self._acked, self._id)))
        if self._questions.answered_up_to > self._acked_replies:
            self._acked_replies = self._questions.answered_up_to
            self._say(V1_JSON.encode(AckReplies(self._acked_replies)))

    # -- living

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Be connected within the block; leaving it says goodbye."""
        async with open_tasks() as tasks:
            tasks.start_soon(self.run)
            try:
                yield self
            finally:
                self._leave()
            tasks.cancel_scope.cancel()

    async def run(self) -> None:
        """Link after link, until there is no sense in another. Never raises; `receive` and `ask` do."""
        backoff = Backoff(self._options)
        async with open_tasks() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._heart.run)
            while True:
                lost = await self._live_on_one_link(backoff)
                if not comes_back(lost):
                    break
                wait = backoff.after(lost)
                self._on_status(Lost(lost.close, wait))
                await trio.sleep(wait)
            tasks.cancel_scope.cancel()
        self.end(lost if lost.close.code == CloseCode.ABNORMAL else Closed(f"the server closed: {lost}", lost.close))

    def end(self, error: Exception) -> None:
        """Have everybody who waits, or will, get this error."""
        self._end = self._end or error
        self._mailbox.end(error)
        self._questions.end(error)
        self._greeted.set()

    async def _live_on_one_link(self, backoff: Backoff) -> LinkLost:
        """Dial, and live until that link has ended; return how it did."""
        address = self._address
        if self._id is not None:
            address = address.with_query(connection_id=self._id, sequence_number=str(self._next))
        try:
            link = await dial(
                address,
                subprotocols=[V1_JSON.subprotocol or ""],
                headers=self._headers,
                open_stream=self._open_stream,
                options=self._options.link,
                opening=self._options.opening,
            )
        except LinkLost as lost:
            return lost
        self._heart.watch(link)
        async with open_tasks() as tasks:
            tasks.start_soon(link.writer.run)
            tasks.start_soon(self._acknowledge_now_and_then)
            try:
                await self._listen(link, backoff)
            finally:
                self._link = None
                self._heart.forget(link)
                await link.close()  # noqa: ASYNC102 - bounded by itself; when cancelled it cuts
            tasks.cancel_scope.cancel()
        assert link.closed is not None
        return LinkLost(link.closed)

    async def _listen(self, link: Link, backoff: Backoff) -> None:
        """Hear what comes on this link, until it has ended."""
        try:
            if link.subprotocol != V1_JSON.subprotocol:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, f"the server does not speak {V1_JSON.subprotocol}")
            while True:
                for message in await link.receive():
                    for said in V1_JSON.from_server(message):
                        if self._link is not link:
                            self._hear_first(said, link)
                            backoff.reset()
                        else:
                            self._hear(said, link)
                await self._mailbox.wait_for_room()
        except PeerFault as fault:
            link.end(CloseReason(fault.code, fault.reason))
        except LinkLost:
            return

    def _hear_first(self, said: FromServer, link: Link) -> None:
        """Heed a link's first message: it goes on where the last one ended, or begins anew."""
        if isinstance(said, Resumed):
            if said.connection_id != self._id or said.next != self._next:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, "resumed something else than was asked for")
            self._questions.begin_after(said.requests)
            self._link = link
            self._acked, self._acked_replies = -1, 0  # what was said last may have died with the last link
            self._acknowledge()
        elif isinstance(said, Event) and said.name == HELLO:
            self._begin(said)
            self._link = link
            self._questions.doubt()
            for topic in self._topics:
                question = self._questions.ask("subscribe", {"topic": topic})
                self._tasks.start_soon(self._see_to_subscription, topic, question)
        else:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "said something before hello or resumed")
        for question in self._questions.open:  # in the order of their numbers, which is all the server knows them by
            self._send(question)
        self._greeted.set()
        self._on_status(Connected(self._id or "", isinstance(said, Resumed)))

    async def _see_to_subscription(self, topic: str, question: Question) -> None:
        """Subscribe again after the hub has forgotten us; the right to do so may be gone by now."""
        try:
            await question.reply()
        except OutcomeUnknown:
            return  # the next hello subscribes again
        except RequestFailed as failure:
            log.warning("no longer subscribed to %r: %s", topic, failure)
            self._topics.pop(topic, None)
        except HubError as error:
            log.debug("no link to subscribe to %r again: %s", topic, error)

    def _hear(self, said: FromServer, link: Link) -> None:
        if isinstance(said, Reply):
            self._questions.answer(said)
        elif isinstance(said, Resumed):
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "resumed in the midst of a link")
        elif said.name == HELLO:
            self._begin(said)
        else:
            assert self._id is not None
            event = attrs.evolve(said, number=self._next)
            self._next += 1
            self._mailbox.put(event, Position(self._id, self._next))

    def _begin(self, hello: Event) -> None:
        """Go on under the id of this hello, behind a gap if there was another id before."""
        match hello.data:
            case {"connection_id": str(id)}:
                had_one, self._id, self._next, self._acked = self._id is not None, id, 1, -1
            case _:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, "hello without a connection_id")
        match hello.data.get("gap"):
            case {"reason": str(reason), "last": int() | None as last}:
                self._mailbox.put(Gap(reason, last), Position(id, 1))
            case _ if had_one:
                self._mailbox.put(Gap("unknown", None), Position(id, 1))
            case _:
                self._mailbox.position = Position(id, 1)

    async def _acknowledge_now_and_then(self) -> None:
        while True:
            await trio.sleep(self._options.ack_after)
            self._acknowledge()

    def _leave(self) -> None:
        """Count what was taken as handled, and say so: the program has done with it."""
        self.settle()
        self._acknowledge()
        self.end(Closed("this client has ended"))


@asynccontextmanager
async def open_client(
    url: str,
    *,
    token: str | None = None,
    resume: Position | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_stream: OpenStream | None = None,
    on_status: Callable[[Connected | Lost], None] = lambda status: None,
    options: ClientOptions | None = None,
) -> AsyncIterator[Client]:
    """Be connected to the hub at `url` for the length of the block, however often the link is lost meanwhile.

    `url` begins with ``ws://`` or ``wss://``; without a path, ``/ws`` is meant. `token` goes into the
    ``Authorization`` header. `resume` is an earlier client's `position`, to go on there.
    `on_status` is called, and must not wait, whenever a link came or was lost. `open_stream` replaces TCP and TLS.

    Does not wait for the connection: what needs it does. Raises `Misuse` for a URL that is none; leaving the block
    says goodbye, and the hub keeps what comes for as long as its window.
    """
    address = Address.parse(url)
    if address.resource == "/":
        address = attrs.evolve(address, resource="/ws")
    client = Client(
        address,
        token=token,
        position=resume,
        options=options or ClientOptions(),
        open_stream=open_stream or partial(connect, ssl_context=ssl_context),
        on_status=on_status,
    )
    async with client.running():
        yield client
