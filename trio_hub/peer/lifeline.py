"""Link after link to the same hub: dial, live, back off, dial again."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from trio_hub.errors import Closed, HubError, LinkLost, PeerFault, Refused
from trio_hub.link.backoff import Backoff, comes_back
from trio_hub.link.dialing import Address, OpenStream, dial
from trio_hub.link.heart import Heart
from trio_hub.link.link import Link
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import ClientOptions
from trio_hub.peer.conversation import Conversation
from trio_hub.wire.codecs import Codec

__all__ = ["Connected", "Lifeline", "Lost"]

_GOOD_WHILE = 10.0  # s, after which a link was good though nothing was said on it: here failures only make waits longer
_STRAYS = 60.0  # s, within which a dial that was given up may still be answered by a server that was frozen


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


class Lifeline:
    """Keeps a conversation supplied with links. `on_status` is told of each that came or was lost; it never waits."""

    def __init__(
        self,
        conversation: Conversation,
        address: Callable[[], Awaitable[Address]],
        headers: Callable[[], Awaitable[Mapping[str, str]]],
        codec: Codec,
        *,
        open_stream: OpenStream,
        on_status: Callable[[Connected | Lost], None],
        options: ClientOptions,
    ) -> None:
        self._conversation = conversation
        self._address = address
        self._headers = headers
        self._codec = codec
        self._open_stream = open_stream
        self._on_status = on_status
        self._options = options
        self._heart = Heart(options.link)
        self._backoff = Backoff(options.first_retry, options.longest_retry, options.longest_advice)
        self._leaving = False
        self._away_since = -math.inf
        self._last_in_vain = -math.inf  # when we gave up a dial, or a link that was never greeted
        self._ended = trio.Event()

    async def run(self) -> HubError:
        """Live on link after link; return why there is no sense in another."""
        async with open_tasks() as tasks:
            tasks.start_soon(self._heart.run)
            while True:
                lost = await self._live_on_one_link()
                if self._leaving or not (comes_back(lost) or self._was_taken_over_by_ourselves(lost)):
                    break
                wait = self._backoff.after(lost, most=self._longest_wait())
                self._on_status(Lost(lost.close, wait))
                await trio.sleep(wait)
            tasks.cancel_scope.cancel()
        self._ended.set()
        return lost if isinstance(lost, Refused) else Closed(f"the server closed: {lost}", lost.close)

    def _was_taken_over_by_ourselves(self, lost: LinkLost) -> bool:
        """Whether the newer link may be one of ours: a dial that was given up, and that the server came to later."""
        strays = trio.current_time() < self._last_in_vain + _STRAYS
        return strays and lost.close.code == CloseCode.TAKEN_OVER

    def _longest_wait(self) -> float:
        """A quarter of the window while that is open: so a dial in good time follows whatever comes before it."""
        window = self._conversation.window
        return window / 4 if trio.current_time() < self._away_since + window else math.inf

    async def leave(self) -> None:
        """Say goodbye on the link there is, and wait until it is closed, at most its `close_timeout`."""
        self._leaving = True
        if self._conversation.link is not None:
            self._conversation.link.end(CloseReason(CloseCode.NORMAL))
            await self._ended.wait()

    async def _live_on_one_link(self) -> LinkLost:
        """Dial, and live until that link has ended; return how it did."""
        try:
            address, headers = await self._shown()
            link = await dial(
                address.with_query(self._conversation.wish()),
                subprotocols=[self._codec.subprotocol or ""],
                headers=headers,
                open_stream=self._open_stream,
                options=self._options.link,
                opening=self._options.opening,
            )
        except LinkLost as lost:
            self._last_in_vain = trio.current_time()
            return lost
        self._heart.watch(link)
        begun = trio.current_time()
        async with open_tasks() as tasks:
            link.writer.run_in(tasks)
            tasks.start_soon(self._acknowledge_now_and_then)
            try:
                await self._listen(link)
            finally:
                if self._conversation.link is link:
                    self._away_since = trio.current_time()
                else:
                    self._last_in_vain = trio.current_time()
                self._conversation.link = None
                self._heart.forget(link)
                await link.close()  # noqa: ASYNC102 - bounded by itself; when cancelled it cuts
            tasks.cancel_scope.cancel()
        if trio.current_time() - begun > _GOOD_WHILE:
            self._backoff.reset()
        assert link.closed is not None
        return LinkLost(link.closed)

    async def _shown(self) -> tuple[Address, Mapping[str, str]]:
        """Return address and headers of the next dial, which may have to be fetched first."""
        with trio.move_on_after(self._options.opening.deadline):
            try:
                return await self._address(), await self._headers()
            except OSError as error:
                raise LinkLost(CloseReason(CloseCode.ABNORMAL, f"no token or URL: {error}")) from error
        raise LinkLost(CloseReason(CloseCode.ABNORMAL, "no token or URL came in time"))

    async def _listen(self, link: Link) -> None:
        """Hear what comes on this link, until it has ended."""
        conversation = self._conversation
        try:
            if link.subprotocol != self._codec.subprotocol:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, f"the server does not speak {self._codec.subprotocol}")
            while True:
                for message in await link.receive():
                    all_said = self._codec.from_server(message)
                    for said in all_said:
                        if conversation.link is link:
                            conversation.hear(said, len(message) // len(all_said))
                            self._backoff.reset()  # a link that only says hello, and ends, is no good link
                        else:
                            resumed = conversation.begin_on(link, said)
                            self._on_status(Connected(conversation.id or "", resumed))
                await conversation.mailbox.wait_for_room()
        except PeerFault as fault:
            link.end(CloseReason(fault.code, fault.reason))
        except LinkLost:
            return

    async def _acknowledge_now_and_then(self) -> None:
        while True:
            await trio.sleep(self._options.ack_after)
            self._conversation.acknowledge()
