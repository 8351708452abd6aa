"""A hub among others: its events go to other nodes after they were accepted here, and theirs are delivered here.

Everything that is carried has a number (`numbering`), so what is lost between two nodes is noticed, and those whom it
may have been for are told of a gap. What is carried reliably goes by one channel to all nodes; it has its numbers from
the backplane, and those of ours only tell what is sent twice from what is new.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio

from trio_hub.cluster.asking import Asking
from trio_hub.cluster.backplane import Arrival, Backplane, BackplaneHealth, Interrupted, Membership, Outbound, life_of
from trio_hub.cluster.beats import Beats
from trio_hub.cluster.caps import Caps
from trio_hub.cluster.certainty import Certainty
from trio_hub.cluster.changes import Changes
from trio_hub.cluster.channels import EVERYBODY, channel_of, channels_of, says_all
from trio_hub.cluster.departures import Departures
from trio_hub.cluster.envelopes import Carried, Envelope, Sealing, Unreadable, envelopes_from, spelled_edits
from trio_hub.cluster.hearing import NONSENSE, Hearing
from trio_hub.cluster.interest import Interest
from trio_hub.cluster.moving import Moving
from trio_hub.cluster.nodes import Node, Nodes
from trio_hub.cluster.numbering import Said
from trio_hub.cluster.reliably import Reliably
from trio_hub.cluster.users import USER, Users
from trio_hub.cluster.words import QUESTION, Words
from trio_hub.errors import Misuse, Unreachable
from trio_hub.hub.carrying import GONE
from trio_hub.hub.editors import Edit
from trio_hub.hub.hub import Hub
from trio_hub.hub.inbox import Publication
from trio_hub.link.tasks import open_tasks
from trio_hub.options import ClusterOptions
from trio_hub.session import Session
from trio_hub.targets import Target
from trio_hub.wire.codecs import Codec

__all__ = ["Relay", "RelayStatistics"]

log = logging.getLogger("trio_hub.cluster")

_NODES: Final = "nodes"
_RELIABLY: Final = "reliably"
_CHANGES: Final = "changes"
_BEAT: Final = 0.5  # s
_TO_HEAR: Final = 3.0  # s, in which a node that has just joined hears something
_COMPLAIN_EVERY: Final = 10.0  # s
_AGAIN: Final = 0.5  # s, until what could not be carried reliably is tried again


@attrs.frozen
class RelayStatistics:
    """What has crossed between this node and the others.

    Events that were `carried` fast or `reliably` from here, that were `not_carried`, and that were `heard` here; those
    that came `twice`; `holes`, each of which was told to those concerned; `unreadable` payloads; `nodes` here now,
    beside this one.
    """

    carried: int
    reliably: int
    not_carried: int
    heard: int
    twice: int
    holes: int
    unreadable: int
    nodes: int


class Relay:
    """Makes a hub one of several: a companion of it, and its carrier.

    `node` is its name, made up where none is given; it joins as that and what tells this life of it from others, so
    that one that is restarted under its name is not taken for the one before. Raises `Misuse` for a backplane that is
    none.
    """

    def __init__(
        self, hub: Hub, backplane: Backplane, *, node: str | None = None, options: ClusterOptions | None = None
    ) -> None:
        if not hasattr(backplane, "join"):
            raise Misuse(f"{backplane!r:.100} is no backplane")
        self.node = life_of(node or f"{socket.gethostname()}-{secrets.token_hex(4)}", hub.roster.origin)
        self.options = options = options or ClusterOptions()
        self._hub = hub
        self._backplane = backplane
        self._membership: Membership | None = None
        self._joined_at = 0.0
        self._sealing = Sealing(self.node, options.key)
        self._said = Said()
        self._departures = Departures(self._sealing, options.waiting, options.waiting_bytes, self._said.note_lost)
        self.nodes = Nodes()
        self._had = Reliably()
        self._hearing = Hearing(hub, self._had)
        tell_hole = self._hearing.tell_hole
        self._interest = Interest(hub.roster.origin, self.nodes.listens_to, tell_hole, lambda: self._is_deaf)
        self._asking = asking = Asking(self._say, self._answer)
        self._beats = Beats(
            hub.roster,
            self._said,
            self._interest,
            age=lambda: self._age,
            say=self._say,
            tell_hole=tell_hole,
        )
        self._certainty = Certainty(self.nodes, self._beats.ask, options.answer_within)
        self._moving = Moving(
            hub, self.nodes, self._interest, asking, self._certainty, self._had, self._own_number, options
        )
        self._changes = Changes(self._send_change)
        self._words = words = Words(self.nodes, asking, self._say_word)
        self._users = Users(hub.roster, self._say_on, self._say_to_node)
        self._caps = Caps(hub.roster, self._users, hub.options)
        self._lost_words = 0  # as far as that was made good
        words.hear(USER, self._users.heed)
        words.hear(GONE, lambda node, _: self._users.lose(node))
        self.hear, self.say, self.answer = words.hear, words.say, words.answer
        self.share, self.shared, self.hear_shared = self._users.share, self._users.shared, self._users.hear
        self._reliably = self._unreadable = 0
        self._complained_at = -math.inf
        self._is_held_up = False  # what is to be carried reliably
        for channel in (_NODES, EVERYBODY, self._direct(self.node), channel_of("origin", hub.roster.origin)):
            self._interest.want(channel)
        hub.roster.heed(self._interest.heed)
        hub.carrier = self
        hub.companions.append(self.run)

    @staticmethod
    def _direct(node: str) -> str:
        return f"n:{node}"

    def statistics(self) -> RelayStatistics:
        """Return what has crossed so far."""
        departures = self._departures
        return RelayStatistics(
            carried=departures.carried,
            reliably=self._reliably,
            not_carried=departures.lost,
            heard=self._hearing.heard,
            twice=self._hearing.twice,
            holes=self._hearing.holes,
            unreadable=self._unreadable,
            nodes=len(list(self.nodes)),
        )

    def health(self) -> BackplaneHealth:
        """Return how this node hears the others."""
        if self._membership is None:
            return BackplaneHealth(True, math.inf, "the hub does not run")
        return self._membership.health()

    @property
    def has_others(self) -> bool:
        """Whether other nodes are here. See `Carrier`."""
        return any(True for _ in self.nodes)

    async def leave(self) -> None:
        """Tell the others that this node is about to be gone, so that they ask it nothing more; for a bounded time."""
        with trio.move_on_after(self.options.answer_within):
            self._departures.say(_NODES, self._sealing.sealed(_NODES, ["left"]))
            await self._departures.wait_left()

    # -- out

    def carry(self, publication: Publication, edits: Sequence[Edit]) -> None:
        """Have an event on its way to the other nodes that have somebody for it. See `Carrier`."""
        channels = channels_of(publication.target)
        said = self._carried(publication, edits).spelled(whole=not says_all(publication.target))
        number = self._said.next_number()
        publication.body.mark = self.node, number
        is_copy = len(channels) > 1
        envelopes = [(channel, Envelope(number, self._said.note(channel), is_copy, said)) for channel in channels]
        self._departures.put(envelopes)

    async def wait_left(self) -> None:
        """Wait until what was carried so far has left. See `Carrier`."""
        await self._departures.wait_left()

    async def carry_reliably(self, publication: Publication, edits: Sequence[Edit]) -> None:
        """Wait until the backplane has an event for all other nodes. See `Carrier`."""
        number = self._said.next_number()
        mark = publication.body.mark = self.node, -number
        envelope = Envelope(number, 0, True, self._carried(publication, edits).spelled(whole=True))
        self._had.begin(mark)
        try:
            await self.wait_left()  # what was carried fast before it is heard before it
            payload = self._sealing.sealed_envelopes(_RELIABLY, [envelope])
            await self._send_reliably(Outbound(_RELIABLY, payload, reliable=True))
        finally:
            self._had.end(mark)
        self._reliably += 1

    @staticmethod
    def _carried(publication: Publication, edits: Sequence[Edit]) -> Carried:
        body = publication.body
        left = math.inf if body.expires_at == math.inf else body.expires_at - trio.current_time()
        return Carried(publication.name, body.open_json, publication.target, body.delivery, left, edits)

    def check(self, edits: Sequence[Edit]) -> None:
        """Raise `Misuse` for edits that cannot be said elsewhere. See `Carrier`."""
        spelled_edits(edits)

    def tell(self, change: str, of: Target, *details: Any) -> None:
        """Have all other nodes make a change. See `Carrier`."""
        self._changes.tell(change, self._said.next_number(), of, *details)

    def heed(self, change: str, make: Callable[..., object]) -> None:
        """Have `make` called when another node tells of such a change. See `Carrier`."""
        self._changes.heed(change, make)

    async def _send_change(self, said: list[Any]) -> None:
        await self._send_reliably(Outbound(_CHANGES, self._sealing.sealed(_CHANGES, said), reliable=True))

    async def _send_reliably(self, outbound: Outbound) -> None:
        while True:
            try:
                if self._membership is not None:
                    await self._membership.send([outbound])
                    self._is_held_up = False
                    return
            except Unreachable as error:
                if not self._is_held_up:
                    log.warning("other nodes have to wait for what they should know: %s", error)
                self._is_held_up = True
            await trio.sleep(_AGAIN)

    # -- words

    @property
    def others(self) -> list[str]:
        """The other nodes. See `Carrier`."""
        return self._words.others

    async def ask(self, question: str, data: Any) -> dict[str, Any]:
        """Return what the other nodes answer. See `Carrier`."""
        return await self._words.ask(question, data, self.options.answer_within) if self._can_ask else {}

    def _say(self, node: str | None, said: list[Any]) -> None:
        """Say something to a node, or to all."""
        channel = _NODES if node is None else self._direct(node)
        self._departures.say(channel, self._sealing.sealed(channel, said))

    def _say_word(self, node: str | None, said: list[Any]) -> None:
        if self.has_others:
            self._say(node, said)

    def _say_on(self, channel: str, said: list[Any]) -> None:
        if self.has_others:
            self._departures.say(channel, self._sealing.sealed(channel, said))

    def _say_to_node(self, node: str, said: list[Any]) -> None:
        self._words.say(USER, said, node)

    # -- tickets

    async def put(self, key: str, value: bytes, lasts: float) -> None:
        """Keep a ticket for all nodes. See `TicketStore`. Raises `Unreachable`."""
        await self._joined().put(key, value, lasts)

    async def take(self, key: str) -> bytes | None:
        """Return what a node has kept, once. See `TicketStore`. Raises `Unreachable`."""
        return await self._joined().take(key)

    def _joined(self) -> Membership:
        if self._membership is None:
            raise Unreachable("the hub does not run")
        return self._membership

    # -- what comes here

    async def wait_listening(self, topic: str) -> None:
        """Wait until what others say in a topic comes here. See `Carrier`."""
        await self._interest.wait_listening([channel_of("topic", topic)])

    @asynccontextmanager
    async def expecting(
        self, session: Session, topics: Iterable[str], codec: Codec, resume: str | None
    ) -> AsyncIterator[None]:
        """Have what others say to a user and in topics come here within the block, and who resumes. See `Carrier`."""
        channels = [channel_of("user", session.user), *[channel_of("topic", each) for each in topics]]
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._interest.expecting(channels))
            if resume is not None:
                await stack.enter_async_context(self._moving.fetching(resume, session, codec, self._can_ask))
            yield

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be one of the nodes, until cancelled; where that fails, anew. A companion of the hub."""
        async with open_tasks() as tasks:
            ready = trio.Event()
            tasks.start_soon(self._take_part_for_ever, ready)
            await ready.wait()
            task_status.started()

    async def _take_part_for_ever(self, ready: trio.Event) -> None:
        while True:
            try:
                await self._take_part(ready)
            except Exception:
                if not ready.is_set():
                    raise
                log.exception("this node's part in its cluster has failed; it begins anew")
            self.nodes.doubt()
            self._words.doubt(missed_changes=True)
            self._hearing.tell_hole(EVERYBODY)
            await trio.sleep(_AGAIN)

    async def _take_part(self, ready: trio.Event) -> None:
        async with self._backplane.join(self.node) as membership, open_tasks() as tasks:
            self._membership, self._joined_at = membership, trio.current_time()
            try:
                await membership.listen([_RELIABLY, _CHANGES], reliable=True)
                tasks.start_soon(self._changes.run)
                tasks.start_soon(self._interest.run, membership)
                tasks.start_soon(self._departures.run, membership)
                tasks.start_soon(self._beat)
                tasks.start_soon(self._certainty.run)
                tasks.start_soon(self._users.run)
                tasks.start_soon(self._caps.run)
                tasks.start_soon(self._receive, membership, tasks)
                await self._interest.wait_listening([_NODES, EVERYBODY])
                if not ready.is_set():
                    await trio.sleep(1.2 * _BEAT)  # until the others have said that they are here, who may be asked
                    ready.set()
                await trio.sleep_forever()
            finally:
                self._membership = None

    async def _receive(self, membership: Membership, tasks: trio.Nursery) -> None:
        while True:
            for item in await membership.receive():
                await self._take(item, tasks)

    async def _take(self, item: Arrival | Interrupted, tasks: trio.Nursery) -> None:
        if isinstance(item, Interrupted):
            if item.channel == _CHANGES:
                log.error("other nodes may have revoked or invalidated sessions, which is not known here")
                self._words.doubt(missed_changes=True)
            elif item.channel is not None:
                self._hearing.tell_hole(EVERYBODY)
            else:  # the next beats tell what is missing
                self.nodes.doubt()
                self._words.doubt()
            return
        try:
            said = self._sealing.opened(item.channel, item.origin, item.payload)
            node = self.nodes.get(item.origin)
            if item.channel == _NODES or item.channel.startswith("n:"):
                self._heed(node, said, tasks)
            elif item.channel == _CHANGES:
                self._changes.make(said, partial(self._hearing.is_known, node))
            elif isinstance(said, list) and said[:1] == [USER]:
                self._words.heed(node, USER, said)
            else:
                await self._hearing.hear(node, item, envelopes_from(said))
        except NONSENSE as error:  # another version, perhaps, or anybody: see `Sealing`
            self._note_unreadable(item.origin, error)

    def _note_unreadable(self, node: str, error: Exception) -> None:
        """Count what nobody can read, and say so now and then."""
        self._unreadable += 1
        if trio.current_time() - self._complained_at >= _COMPLAIN_EVERY:
            self._complained_at = trio.current_time()
            log.error("node %r said what nobody can read (as others, %d in all): %s", node, self._unreadable, error)

    # -- beats

    async def _beat(self) -> None:
        while True:
            self._beats.say_to_all()
            if not self.health().is_deaf and self.nodes.note_gone():
                self._hearing.tell_hole(EVERYBODY)
            if self._departures.lost_words > self._lost_words and not self._departures.is_away:
                self._lost_words = self._departures.lost_words
                self._words.doubt()
            if self._words.look():
                self._users.meet()
            await trio.sleep(_BEAT)

    def _own_number(self) -> dict[str, int]:
        return {self.node: self._said.number}

    @property
    def _age(self) -> float:
        """For how long this node has been one, in seconds."""
        return trio.current_time() - self._joined_at

    @property
    def _can_ask(self) -> bool:
        """Whether other nodes may answer: as far as is known, they can be told something, and can be heard."""
        return not (self._is_deaf or self._departures.is_away)

    @property
    def _is_deaf(self) -> bool:
        """Whether this node hears nothing, and has had the time to hear something."""
        return self._membership is None or (self._age > _TO_HEAR and self._membership.health().is_deaf)

    async def _answer(self, node: str, what: str, details: list[Any]) -> Any:
        if what == QUESTION and len(details) == 2:
            return self._words.find_answer(*details)
        return await self._moving.answer(node, what, details)

    def _heed(self, node: Node, said: Any, tasks: trio.Nursery) -> None:
        """Take what a node says as itself."""
        match said:
            case ["beat", *facts]:
                answered = self._beats.heed(node, facts)
                if self._words.meet(node) and node.connections:  # who comes there later is asked about by that node
                    self._users.meet()
                self._certainty.note(node, answered)
            case ["ask", int(since), int(number)]:
                self._beats.answer(node, since, number)
            case ["left"]:
                node.has_left = True
            case ["word", str(word), data]:
                self._words.heed(node, word, data)
            case [*words]:
                self._asking.heed(node.name, words, tasks)
            case _:
                raise Unreadable(f"no word of a node: {said!r:.100}")
