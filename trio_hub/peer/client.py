"""The caller's side of a connection: what a program holds while links come and go beneath it.

`lifeline` sees to the links, `conversation` to what is said on them; here is what the program says and hears.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from trio_hub.delivery import MUST, Delivery
from trio_hub.errors import Closed, HubError, Misuse, OutcomeUnknown, RequestFailed, again
from trio_hub.link.dialing import Address, OpenStream, connect, way_to
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import Event
from trio_hub.options import ClientOptions
from trio_hub.peer.conversation import Conversation
from trio_hub.peer.items import Items
from trio_hub.peer.lifeline import Connected, Lifeline, Lost
from trio_hub.peer.mailbox import Position
from trio_hub.peer.questions import Question
from trio_hub.wire.codecs import V1_CBOR, V1_JSON

__all__ = ["Client", "open_client"]

log = logging.getLogger("trio_hub.client")

_SUBSCRIBED_WITHIN = 30.0  # s, for which a gap is held at first: where a hub does not answer, the rest is heard

Token = str | Callable[[], Awaitable[str]]
"""What is shown at every dial, or how to come by it."""
URL = str | Callable[[], str | Awaitable[str]]
"""Where to dial, or what says so each time."""


class Client:
    """A connection to a hub, for as long as the block of `open_client` lasts.

    ``async for event in client`` yields events in order, each once, however many links it takes. Where events were
    lost for good, the iteration raises `Gap`; begin another one, and it goes on behind the gap. It raises `Closed`
    (or `Refused`) when the server wants no more of us. For one reading task at a time.
    """

    def __init__(
        self,
        address: Address | Callable[[], str | Awaitable[str]],
        *,
        token: Token | None,
        position: Position | None,
        options: ClientOptions,
        open_stream: OpenStream,
        on_status: Callable[[Connected | Lost], None],
    ) -> None:
        codec = V1_CBOR if options.cbor else V1_JSON
        self._conversation = Conversation(position, codec, options)
        self._lifeline = Lifeline(
            self._conversation,
            self._where,
            self._headers,
            codec,
            open_stream=open_stream,
            on_status=self._heed_status,
            options=options,
        )
        self._address = address
        self._on_status = on_status
        self._token = token
        self._topics: dict[str, None] = {}
        self._greeted = trio.Event()
        self._end: HubError | None = None
        self._tasks: trio.Nursery  # of `running`

    @property
    def position(self) -> Position | None:
        """Where the program stands: hand it to another `open_client`, in this process or the next, to go on there."""
        return self._conversation.mailbox.position

    async def connected(self) -> None:
        """Wait until the hub has greeted us for the first time. Raises `Closed` or `Refused` when it never will."""
        await self._greeted.wait()
        if self._end is not None:
            raise again(self._end)

    async def authenticate(self, token: str) -> None:
        """Have the session renewed: show a newer token of the same user on the link there is, and on those that follow.

        Raises as `request` does: `RequestFailed` where the token is not known; then the session is what it was.
        """
        await self.request("authentication_challenge", {"token": token})
        self._token = token

    async def _where(self) -> Address:
        if isinstance(self._address, Address):
            return self._address
        url = self._address()
        return _address_of(url if isinstance(url, str) else await url)

    async def _headers(self) -> dict[str, str]:
        token = self._token if self._token is None or isinstance(self._token, str) else await self._token()
        if token is None:
            return {}
        if not (token.isascii() and token.isprintable()):
            raise Misuse("a token is printable ASCII")  # and is not shown, as it would be by whoever found out later
        return {"Authorization": f"Bearer {token}"}

    # -- hearing

    async def receive(self) -> Event:
        """Return the next event; that also says that those before it are handled. Nothing is lost when cancelled.

        Raises `Gap` where events were lost, and `Closed` or `Refused` when there will be no more.
        """
        event = await self._conversation.mailbox.take()
        self._conversation.acknowledge_if_due()
        return event

    async def receive_all(self) -> list[Event]:
        """Return every event that is there, at least one, up to the next gap. Otherwise as `receive`."""
        events = await self._conversation.mailbox.take_all()
        self._conversation.acknowledge_if_due()
        return events

    def settle(self) -> None:
        """Count the events that were taken last as handled now, not when the next are asked for.

        They are acknowledged some time after that: a `position` that is stored right away is never behind.
        """
        self._conversation.mailbox.settle()

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
        await self._wait_to_ask()
        question = self._conversation.ask(action, data, deadline)
        await trio.lowlevel.cancel_shielded_checkpoint()  # it is asked: too late to be cancelled
        return question

    async def _wait_to_ask(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._greeted.wait()  # the hub may know numbers of requests that an earlier process has used
        if self._conversation.link is not None:
            await self._conversation.link.writer.wait_for_room()
        await self._conversation.questions.wait_for_room()

    async def request(self, action: str, data: Any = None, *, deadline: float | None = None) -> Any:
        """Ask, and return the reply's data. It is carried out once, however many links that takes.

        Raises `RequestFailed` for FAIL, `OutcomeUnknown` where the server forgot us before it answered, and as `ask`
        does. If cancelled, the server's handler is cancelled too, if it still runs.
        """
        question = await self.ask(action, data, deadline=deadline)
        return await question.reply()

    @asynccontextmanager
    async def stream(self, action: str, data: Any = None, *, deadline: float | None = None) -> AsyncIterator[Items]:
        """Ask for a reply that is streamed, within the block::

            async with client.stream("complete", {"prompt": "..."}) as items:
                async for item in items:
                    print(item)

        The items come in order and each once, however many links that takes. Entering waits, and raises, as `ask` does.
        The iteration raises what the reply's failure is (`Items`); besides, after the items that came before, `Gap`
        where some were lost, `OutcomeUnknown` where the server forgot us, `Closed` or `Refused` when there will be no
        connection any more. Until the last item came, the stream counts as one of the requests `in_flight`.

        `deadline` is the seconds after which the server gives it up, whatever it has sent by then. Leaving the block,
        also when cancelled, cancels what the server still does for it; that is said again until it is known to be done.

        What is taken slowly is made slowly: at most ``ClientOptions.items`` wait to be taken, and nothing else is held
        up by them. An item needs no acknowledgement of its program, since its stream goes on in no other process. An
        event that is handled while a quarter of what the hub keeps came behind it as items is acknowledged with those:
        another process could not resume before it any more, and would be told of a gap.
        """
        await self._wait_to_ask()
        items = self._conversation.ask_for_items(action, data, deadline)
        try:
            await trio.lowlevel.cancel_shielded_checkpoint()
            yield items
        finally:
            self._conversation.questions.leave(items)
            items.leave()

    async def subscribe(self, topic: str) -> None:
        """Hear this topic from now on, also after the server has forgotten us. Raises as `request` does."""
        await self.connected()  # or the first greeting would subscribe to it as well
        self._topics[topic] = None
        try:
            await self.request("subscribe", {"topic": topic})
        except OutcomeUnknown:
            return  # the new connection subscribes to everything in `_topics`
        except BaseException:
            self._topics.pop(topic, None)
            raise

    async def unsubscribe(self, topic: str) -> None:
        """Hear this topic no more. Raises as `request` does."""
        self._topics.pop(topic, None)
        await self.request("unsubscribe", {"topic": topic})

    async def publish(
        self, topic: str, event: str, data: Any = None, *, delivery: Delivery = MUST, echo: bool = True
    ) -> None:
        """Say something to everybody who hears this topic; returns when the hub has accepted it.

        Without `echo` everybody but this client. Raises as `request` does.
        """
        said: dict[str, Any] = {"topic": topic, "event": event, "data": {} if data is None else data}
        if delivery is not MUST:
            said["delivery"] = delivery.spelled()
        if not echo:
            said["echo"] = False
        await self.request("publish", said)

    # -- living

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Be connected within the block. Leaving it says goodbye; leaving it by an exception cuts the link."""
        async with open_tasks() as self._tasks:
            self._tasks.start_soon(self._run)
            try:
                yield self
                self._conversation.mailbox.settle()  # after an exception, what was taken is not handled
            finally:
                self._conversation.acknowledge()
                self._over(Closed("this client has ended"))
            await self._lifeline.leave()
            self._tasks.cancel_scope.cancel()

    async def _run(self) -> None:
        self._over(await self._lifeline.run())

    def _over(self, error: HubError) -> None:
        """Have everybody who waits, or will, get this error."""
        self._end = self._end or error
        self._conversation.mailbox.end(error)
        self._conversation.questions.end(error)
        self._greeted.set()

    def _heed_status(self, status: Connected | Lost) -> None:
        if isinstance(status, Connected):
            self._greeted.set()
            if not status.resumed:
                self._subscribe_again()
        self._on_status(status)

    def _subscribe_again(self) -> None:
        """Ask for all subscriptions anew, here and now: before anything that the program may ask, and have it told of
        the gap when they are in effect.
        """
        ask = self._conversation.ask
        asked = {topic: ask("subscribe", {"topic": topic}, None) for topic in self._topics}
        holding = ExitStack()
        if asked:
            holding.enter_context(self._conversation.mailbox.holding_gaps())
            self._tasks.start_soon(self._wait_subscribed, list(asked.values()), holding)
        for topic, question in asked.items():
            self._tasks.start_soon(self._see_to_subscription, topic, question)

    async def _wait_subscribed(self, questions: list[Question], holding: ExitStack) -> None:
        """Hold gaps until these have an answer; not for longer than is good for whatever else is heard."""
        with holding:
            with trio.move_on_after(_SUBSCRIBED_WITHIN):
                await self._all_answered(questions)
                return
            self._conversation.mailbox.hold_no_longer()
            await self._all_answered(questions)

    @staticmethod
    async def _all_answered(questions: list[Question]) -> None:
        for question in questions:
            await question.wait_answered()

    async def _see_to_subscription(self, topic: str, question: Question) -> None:
        """Wait for a subscription made anew after the hub has forgotten us; the right to it may be gone by now."""
        try:
            await question.reply()
        except OutcomeUnknown:
            return  # forgotten once more: the next greeting subscribes again
        except RequestFailed as failure:
            log.warning("no longer subscribed to %r: %s", topic, failure)
            self._topics.pop(topic, None)
        except HubError as error:
            log.debug("not subscribed to %r again: %s", topic, error)


@asynccontextmanager
async def open_client(
    url: URL,
    *,
    token: Token | None = None,
    resume: Position | None = None,
    ssl_context: ssl.SSLContext | None = None,
    open_stream: OpenStream | None = None,
    on_status: Callable[[Connected | Lost], None] = lambda status: None,
    options: ClientOptions | None = None,
) -> AsyncIterator[Client]:
    """Be connected to the hub at `url` for the length of the block, however often the link is lost meanwhile.

    `url` begins with ``ws://`` or ``wss://``; without a path, ``/ws`` is meant. One that is good once, as with a ticket
    in it, is a function instead, plain or async, that returns another for each dial. `token` goes into the
    ``Authorization`` header; one that does not last is fetched for each dial, by an async function. What these
    functions raise ends the client, except `OSError`, after which they are asked again later. `resume` is an earlier
    client's `position`, to go on there. `on_status` is called, and must not wait, whenever a link came or was lost.
    `open_stream` replaces TCP and TLS; where no stream comes about it raises `LinkLost` or `OSError`, and is asked
    again later.

    Does not wait for the connection: what needs it does. Raises `Misuse` for a URL that is none; leaving the block
    says goodbye, and the hub keeps what comes for as long as its window.
    """
    address = _address_of(url) if isinstance(url, str) else url
    if isinstance(address, Address):
        open_stream = way_to(address, ssl_context, open_stream)
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


def _address_of(url: str) -> Address:
    """Return where a URL leads. Raises `Misuse` for one that is none."""
    address = Address.parse(url)
    if address.resource.partition("?")[0] == "/":
        return attrs.evolve(address, resource=f"/ws{address.resource[1:]}")
    return address
