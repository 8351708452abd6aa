"""What one connection's client says, heeded; and how it is answered: with replies, and with items of streamed ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from trio_hub.errors import LinkLost, Misuse, PeerFault, RequestFailed
from trio_hub.link.link import Link
from trio_hub.messages import (
    Ack,
    AckReplies,
    Cancel,
    CloseReason,
    End,
    Event,
    Item,
    MalformedRequest,
    More,
    Request,
)
from trio_hub.options import HubOptions, OutboxOptions
from trio_hub.peer.hooks import Hooks
from trio_hub.peer.requests import Handler, Requests
from trio_hub.wire.bodies import Body, Tally
from trio_hub.wire.codecs import FromClient
from trio_hub.wire.spelling import END, ITEM, error_object

if TYPE_CHECKING:
    from trio_hub.peer.connection import Connection

__all__ = ["Hearing"]

_TOO_FAST = RequestFailed(429, "too_fast", "more was asked than is allowed at once")


class Hearing:
    """Heeds what the client of `connection` says, and has its requests carried out by `handler`.

    `allow` says whether one more request of about so many bytes may be carried out, `answered` is called with the
    status of each reply; items are counted in `tally`. `asked` counts requests.
    """

    __slots__ = ("_allow", "_connection", "_hooks", "_in_batch", "_outlet", "asked", "requests")

    def __init__(
        self,
        connection: Connection,
        handler: Handler,
        options: HubOptions,
        *,
        hooks: Hooks | None,
        allow: Callable[[float], bool] | None,
        answered: Callable[[int], None],
        tally: Tally,
    ) -> None:
        self._connection = connection
        self._hooks = hooks
        self._allow = allow
        self._in_batch = False
        self._outlet = _Outlet(connection, options.outbox, tally) if connection.codec.acknowledges else None
        self.asked = 0
        self.requests = Requests(connection, handler, connection.codec, options, self._reply, answered, self._outlet)

    async def read(self, link: Link) -> None:
        """Heed everything that comes on this link, a read at a time; then answer it all in one write.

        Until the link ends, or the connection does.
        """
        codec = self._connection.codec
        try:
            while True:
                messages = await link.receive()
                self._in_batch = True
                for message in messages:
                    all_said = codec.from_client(message)
                    size = 0.0 if self._allow is None else _size(message) / max(len(all_said), 1)
                    for said in all_said:
                        if self._connection.has_ended:  # by what it asked: then nothing behind that is carried out
                            return
                        self._heed(said, size, link)
                        if link.writer.is_full:  # who does not read our replies gets to ask no more
                            link.writer.flush()
                            await link.writer.wait_for_room()
                self._in_batch = False
                link.writer.flush()
        except PeerFault as fault:
            link.end(CloseReason(fault.code, fault.reason))
        except LinkLost:
            return
        finally:
            self._in_batch = False

    def _heed(self, said: FromClient, size: float, link: Link) -> None:
        """Heed one thing that was said, in about so many bytes, where that matters."""
        if type(said) is Request or type(said) is MalformedRequest:
            self.asked += 1
            if self._allow is not None and not self._allow(size):
                self.requests.refuse(said.seq, _TOO_FAST, link)
                return
        if type(said) is Request:
            if self._hooks is not None:
                self._hooks.copy("request", said)
            self.requests.carry_out(said, link)
        elif type(said) is Ack:
            if said.connection_id in (None, self._connection.id):
                self._connection.outbox.acknowledge(said.number)
                self._note_room()
        elif type(said) is AckReplies:
            self.requests.forget_replies(said.number)
        elif type(said) is More:
            self.requests.extend(said.seq, said.items)
        elif type(said) is Cancel:
            self.requests.cancel(said.seq)
        elif type(said) is MalformedRequest:
            self.requests.refuse(said.seq, RequestFailed(400, "bad_request", said.fault), link)

    def _reply(self, message: str | bytes, asked_on: Link) -> None:
        """Send a reply to the link that asked (compat), or to whatever link there is by now (v1)."""
        connection = self._connection
        link = connection.link if connection.codec.acknowledges else asked_on
        if link is not None and link is connection.link:
            link.post(message)
            if not self._in_batch:
                link.writer.flush()

    def begin_anew(self) -> None:
        """Events were lost: cancel the streamed replies that they were parts of."""
        self.requests.cancel_streams()
        self._note_room()

    def give_up(self) -> None:
        """Cancel everything that was asked: nobody comes back for the answers."""
        self.requests.cancel_all()
        self._note_room()

    async def leave(self, patience: float) -> None:
        """Have everything come to an end that was asked: see `Requests.leave`."""
        if self._outlet is not None:
            self._outlet.is_leaving = True  # whatever room there is: the ends of streams must come along
            self._outlet.note_room()
        await self.requests.leave(patience)

    def stay(self) -> None:
        """Go on here, whoever has asked us to leave."""
        if self._outlet is not None:
            self._outlet.is_leaving = False
        self.requests.stay()

    def let_go(self) -> None:
        """Ask `allow` no more: this may be the last to hold what the user may ask."""
        self._allow = None

    def _note_room(self) -> None:
        if self._outlet is not None:
            self._outlet.note_room()


class _Outlet:
    """Has the items of streamed replies owed to a connection, as events are, as long as half of what may be is not."""

    __slots__ = ("_connection", "_options", "_room", "_tally", "is_leaving")

    def __init__(self, connection: Connection, options: OutboxOptions, tally: Tally) -> None:
        self._connection = connection
        self._options = options
        self._tally = tally
        self._room: trio.lowlevel.ParkingLot | None = None  # most connections never need it
        self.is_leaving = False

    async def wait_for_room(self) -> None:
        while not (self._has_room or self._connection.has_ended or self.is_leaving):
            self._room = self._room or trio.lowlevel.ParkingLot()
            await self._room.park()

    @property
    def _has_room(self) -> bool:
        outbox = self._connection.outbox
        count = len(outbox.owed) + outbox.next_number - outbox.first_kept
        return 2 * count < self._options.count and 2 * outbox.size < self._options.size

    def note_room(self) -> None:
        """Let those look who wait for room."""
        if self._room is not None:
            self._room.unpark_all()

    def put(self, said: Item | End) -> None:
        if self._connection.has_ended:
            return
        event = Event(ITEM, said.data) if isinstance(said, Item) else Event(END, error_object(said.error))
        body = Body(event, reply_to=said.reply_to)
        if body.size > self._options.size // 2:
            raise Misuse(f"an item of {body.size} bytes; a connection may be owed {self._options.size} in all")
        body.count_in(self._tally)
        self._connection.outbox.offer_all([body], body.size)
        self._connection.flush()


def _size(message: str | bytes) -> int:
    """Return the bytes of a message."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
