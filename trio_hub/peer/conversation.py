"""What a client and its hub have said to each other, across links: numbers, acknowledgements, what is still open.

Decisions only; the links come and go elsewhere (`lifeline`). What comes is sorted: events and gaps go into the
mailbox, replies and items to their questions. What the program says goes to the link there is; what had no answer when
a link died is said again on the next one, in the order of its numbers, and the hub knows it by them.

A hello tells of a new connection id. On a fresh link that means that the hub knows nothing of us, and requests that
were sent are in doubt, unless it says how far it knows them. In the midst of a link it means only that events were
lost.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from trio_hub.errors import Gap, PeerFault
from trio_hub.link.link import Link
from trio_hub.messages import HELLO, Ack, AckReplies, CloseCode, End, Event, Item, Reply, Resumed
from trio_hub.options import ClientOptions
from trio_hub.peer.items import Items
from trio_hub.peer.mailbox import Mailbox, Position
from trio_hub.peer.questions import Question, Questions
from trio_hub.wire.codecs import Codec, FromServer

__all__ = ["Conversation"]

_UNLIMITED: Final = 2**53


class Conversation:
    """One client's conversation with its hub. `link` is the link that was greeted, None while there is none.

    `window` is how long the hub keeps what we are owed while we are away; 0 where it did not say.
    """

    def __init__(self, position: Position | None, codec: Codec, options: ClientOptions) -> None:
        self._codec = codec
        self.mailbox = Mailbox(options.mailbox, position)
        self.questions = Questions(codec, options.in_flight, self.say)
        self.link: Link | None = None
        self.id = position.connection_id if position else None
        self.window = 0.0
        self._next = position.next if position else 0
        self._ack_every = options.ack_every
        self._ack_size = options.ack_size
        self._window_of_items = options.items
        self._acked = -1  # the highest event number of which the hub was told that it is handled
        self._acked_replies = 0
        self._handled_when_acked = 0
        self._handled_size_when_acked = 0
        self._passed = self._passed_size = 0  # items, and their bytes, since the last acknowledgement that covered them
        self._max_message = _UNLIMITED  # what the hub takes

    def wish(self) -> dict[str, str]:
        """Return the members of the query that ask to go on where we are."""
        return {} if self.id is None else {"connection_id": self.id, "sequence_number": str(self._next)}

    # -- hearing

    def begin_on(self, link: Link, said: FromServer) -> bool:
        """Heed a fresh link's first message; return whether it goes on where the last link ended.

        Raises `PeerFault` for anything but a hello or what we wished for.
        """
        if isinstance(said, Resumed):
            if said.connection_id != self.id or said.next != self._next:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, "resumed something else than was asked for")
            self.questions.begin_after(said.requests)
            self._max_message = said.max_message or _UNLIMITED
        elif isinstance(said, Event) and said.name == HELLO:
            self._begin_anew(said)
            match said.data:
                case {"requests": int(requests)}:  # it lost events, but knows what we asked
                    self.questions.begin_after(requests)
                case _:
                    self.questions.doubt()
        else:
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "said something before hello or resumed")
        self.link = link
        for question in self.questions.open:
            self.send(question)
        self.questions.repeat_small_words()
        if isinstance(said, Resumed):
            acked, self._acked, self._acked_replies = (
                self._acked,
                -1,
                0,
            )  # what was said may have died with the last link
            self._acknowledge_events(acked)
            self.acknowledge()
            return True
        return False

    def hear(self, said: FromServer, size: int) -> None:
        """Heed any later message, of about so many bytes. Raises `PeerFault` for what cannot come then."""
        if isinstance(said, Reply):
            self.questions.answer(said)
        elif isinstance(said, Resumed):
            raise PeerFault(CloseCode.PROTOCOL_ERROR, "resumed in the midst of a link")
        elif isinstance(said, Event) and said.name == HELLO:
            self._begin_anew(said)
        else:
            self._hear_numbered(said, size)

    def _hear_numbered(self, said: Event | Item | End, size: int) -> None:
        """Heed what takes the next number. An item is safe once it is here: its stream goes on in no other process."""
        assert self.id is not None
        number, self._next = self._next, self._next + 1
        after = Position(self.id, self._next)
        if isinstance(said, Event):
            self.mailbox.put(attrs.evolve(said, number=number), after, size)
            return
        if isinstance(said, Item):
            self.questions.hear_item(said)
        else:
            self.questions.hear_end(said)
        self.mailbox.pass_by(after, size)
        self._passed += 1
        self._passed_size += size
        if self._passed >= self._ack_every or self._passed_size >= self._ack_size:
            # Some event in front of them may still be handled, by the program that takes them. The hub writes no more
            # than it keeps, so to wait for that would be for ever.
            self._acknowledge_all()

    def _begin_anew(self, hello: Event) -> None:
        """Go on under the id of this hello, behind a gap if there was another id before."""
        match hello.data:
            case {"connection_id": str(id)}:
                self._max_message = hello.data.get("max_message") or _UNLIMITED
                window = hello.data.get("window")
                self.window = window if isinstance(window, int | float) else 0.0
                had_one, self.id, self._next, self._acked = self.id is not None, id, 1, -1
                self._passed = self._passed_size = 0
            case _:
                raise PeerFault(CloseCode.PROTOCOL_ERROR, "hello without a connection_id")
        match hello.data.get("gap"):
            case {"reason": str(reason), "last": int() | None as last}:
                self._lose(Gap(reason, last), hello)
            case _ if had_one:
                self._lose(Gap("unknown", None), hello)
            case _:
                self.mailbox.position = Position(id, 1)

    def _lose(self, gap: Gap, hello: Event) -> None:
        """Note a gap in front of this hello. Where the hub still knows what we asked, it says up to which number."""
        assert self.id is not None
        self.mailbox.put(gap, Position(self.id, 1))
        match hello.data:
            case {"requests": int(requests)}:
                self.questions.lose(gap, requests)

    # -- saying

    def say(self, message: str | bytes) -> None:
        """Say something if there is a link."""
        if self.link is not None:
            self.link.post(message)
            self.link.writer.flush()

    def ask(self, action: str, data: Any, deadline: float | None) -> Question:
        """Ask something new, now or on the next link.

        Raises `Misuse` where it cannot be encoded, or is larger than the hub takes.
        """
        question = self.questions.ask(action, data, deadline, self._max_message)
        self.send(question)
        return question

    def ask_for_items(self, action: str, data: Any, deadline: float | None) -> Items:
        """Ask for a streamed reply. Otherwise as `ask`."""
        items = self.questions.ask_for_items(action, data, deadline, self._max_message, self._window_of_items)
        self.send(items)
        return items

    def send(self, question: Question | Items) -> None:
        """Say a question if there is a link."""
        if self.link is not None:
            question.sent = True
            self.say(question.message)

    def acknowledge(self) -> None:
        """Tell the hub which events are handled and which replies have come, where it does not know."""
        if self.link is None:
            return
        position, replies = self.mailbox.position, self.questions.answered_up_to
        self._handled_when_acked, self._handled_size_when_acked = self.mailbox.handled, self.mailbox.handled_size
        if self.id is not None and not self.mailbox.holds_events:  # but perhaps a gap that nobody takes
            self._acknowledge_all()
        elif position is not None and position.connection_id == self.id:
            self._acknowledge_events(position.next - 1)
        if replies > self._acked_replies:
            self._acked_replies = replies
            self.say(self._codec.encode(AckReplies(replies)))

    def _acknowledge_all(self) -> None:
        self._passed = self._passed_size = 0
        self._acknowledge_events(self._next - 1)

    def _acknowledge_events(self, number: int) -> None:
        if self.link is not None and number > self._acked:
            self._acked = number
            self.say(self._codec.encode(Ack(number, self.id)))

    def acknowledge_if_due(self) -> None:
        """Acknowledge when so much was handled that it should not wait: the hub may wait for it before it writes on."""
        mailbox = self.mailbox
        if (
            mailbox.handled - self._handled_when_acked >= self._ack_every
            or mailbox.handled_size - self._handled_size_when_acked >= self._ack_size
        ):
            self.acknowledge()
