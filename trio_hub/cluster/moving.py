"""How a connection goes on at another node than the one that has it: whoever it comes back to asks for it.

    newcomer's node                                owner
      find  ------------------------------------>  its link, if any, is taken over; it stays, and is owed what comes
            <------------------------------------  its topics
      listens to its channels; what comes from now on is collected
      give  ------------------------------------>  what was asked comes to an end, what was published is offered;
            <------------------------------------  its luggage. It is gone here
      goes on with the luggage, and what was collected behind it

Whatever is said in between is heard by both, or by the owner before, or by the newcomer's node after: so nothing is
lost, and what both have heard is known by its mark. The owner is whose ids begin as this one does, or whoever that one
says it has gone to; where that node is gone, all are asked. Of two newcomers one has it, and the other asks that one.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from trio_hub.cluster.asking import Asking
from trio_hub.cluster.certainty import Certainty
from trio_hub.cluster.channels import channel_of, origin_of
from trio_hub.cluster.envelopes import delivery_from, spelled_delivery
from trio_hub.cluster.interest import Interest
from trio_hub.cluster.nodes import Nodes
from trio_hub.cluster.reliably import Reliably
from trio_hub.delivery import MUST
from trio_hub.errors import Misuse, Unreachable
from trio_hub.hub.hub import Hub
from trio_hub.link.tasks import open_tasks
from trio_hub.options import ClusterOptions
from trio_hub.peer.connection import Connection
from trio_hub.peer.luggage import Luggage
from trio_hub.session import Session
from trio_hub.wire.bodies import Body
from trio_hub.wire.codecs import Codec

__all__ = ["Moving"]

log = logging.getLogger("trio_hub.cluster")

_HOPS: Final = 4
_LOOKS: Final = 10
_COMING: Final = 0.05  # s, until a node that is fetching it itself is asked again
_REMEMBERED: Final = 100_000


class Moving:
    """Fetches connections from other nodes, and gives them. `certainty` is waited for before one goes: what is missing
    is told of here, where that is known. `own_number` says how far this node, by its name, has come.
    """

    def __init__(
        self,
        hub: Hub,
        nodes: Nodes,
        interest: Interest,
        asking: Asking,
        certainty: Certainty,
        had: Reliably,
        own_number: Callable[[], dict[str, int]],
        options: ClusterOptions,
    ) -> None:
        self._own_number = own_number
        self._certainty = certainty
        self._had = had
        self._hub = hub
        self._nodes = nodes
        self._interest = interest
        self._asking = asking
        self._options = options
        self._gone_to: OrderedDict[str, str] = OrderedDict()  # the nodes to which connections have gone from here
        self._coming: dict[str, trio.Event] = {}

    # -- fetching

    @asynccontextmanager
    async def fetching(self, id: str, session: Session, codec: Codec, can_ask: bool) -> AsyncIterator[None]:
        """Have the connection of this id here within the block, if any node has it, and can be asked. Where it gets no
        link there, it is gone.
        """
        while (others := self._coming.get(id)) is not None:  # the same client came twice
            await others.wait()
        if self._hub.roster.known_by(id) is not None or not can_ask:
            yield
            return
        done = self._coming[id] = trio.Event()
        connection = None
        try:
            with trio.move_on_after(self._options.fetch_within):
                connection = await self._fetch(id, session, codec)
            yield
        finally:
            del self._coming[id]
            done.set()
            if connection is not None and not connection.links:
                self._hub.roster.dismiss(connection, "unknown")

    async def _fetch(self, id: str, session: Session, codec: Codec) -> Connection | None:
        """Return the connection of this id, with its luggage, from whoever has it; None where nobody says so."""
        who = [id, session.user, _spelling(codec)]
        for _ in range(_HOPS):
            found = None
            with trio.move_on_after(self._options.answer_within):
                found = await self._find(who)
            if found is None:
                return None
            owner, topics = found
            connection = await self._take_over(owner, who, topics, session, codec)
            if connection is not None:
                return connection
        return None

    async def _find(self, who: list[Any]) -> tuple[str, list[str]] | None:
        """Return the node that has it, and its topics."""
        id = who[0]
        node = self._gone_to.get(id)
        if node is None:
            made = self._nodes.of_origin(origin_of(id))
            node = None if made is None else made.name
        for _ in range(_HOPS):
            if node is None or not self._nodes.is_answering(node):
                break
            answer = await self._ask(node, "find", *who, within=self._options.answer_within / 2)
            match answer:
                case ["here", [*topics]]:
                    return node, topics
                case ["gone", str(other)]:
                    node = other
                case ["coming"]:
                    await trio.sleep(_COMING)
                case _:
                    break
        return await self._find_anywhere(who)

    async def _find_anywhere(self, who: list[Any]) -> tuple[str, list[str]] | None:
        found: list[tuple[str, list[str]]] = []

        async def ask_one(node: str, scope: trio.CancelScope) -> None:
            match await self._ask(node, "find", *who, within=self._options.answer_within / 2):
                case ["here", [*topics]]:
                    found.append((node, topics))
                    scope.cancel()

        async with open_tasks() as tasks:
            for node in list(self._nodes):
                tasks.start_soon(ask_one, node.name, tasks.cancel_scope)
        return found[0] if found else None

    async def _take_over(
        self, owner: str, who: list[Any], topics: list[str], session: Session, codec: Codec
    ) -> Connection | None:
        roster, id = self._hub.roster, who[0]
        connection = roster.expect(id, session, codec)
        is_here = False
        try:
            await self._hear_topics(connection, topics)
            seen = {**self._nodes.seen(), **{name: (number, True) for name, number in self._own_number().items()}}
            luggage = _unpacked(await self._ask(owner, "give", *who, seen, within=self._options.fetch_within))
            await self._hub.wait_offered()  # what came before the luggage is in it, too: let `unpack` see that
            if luggage is None or connection.has_ended:
                return None
            connection.unpack(luggage)
            self._had.note_had(id, luggage.reliably)
            if await self._hear_topics(connection, luggage.topics):  # it subscribed while it was asked for
                roster.begin_anew(connection, "moved")
            is_here = True
        finally:
            if not is_here:
                roster.dismiss(connection, "unknown")
        self._gone_to.pop(id, None)
        return connection

    async def _hear_topics(self, connection: Connection, topics: Iterable[str]) -> bool:
        """Have a connection hear these topics, and no others, from now on; return whether any is new to it."""
        roster, wanted, had = self._hub.roster, set(topics), connection.topics | connection.topics_beside
        for topic in had - wanted:
            roster.unsubscribe(connection, topic)
        for topic in wanted - had:
            roster.subscribe(connection, topic)
        await self._interest.wait_listening([channel_of("topic", each) for each in wanted - had])
        return bool(wanted - had)

    async def _ask(self, node: str, what: str, *details: Any, within: float) -> Any:
        """Return what a node answers; None where it does not."""
        try:
            return await self._asking.ask(node, what, *details, within=within)
        except Unreachable as error:
            self._nodes.note_silent(node)
            log.warning("a connection cannot be asked for: %s", error)
            return None

    async def _have_seen(self, seen: Mapping[str, tuple[int, bool]]) -> bool:
        """Whether all was heard that is in `seen`; what a node said last that is gone may still be on its way."""
        ours = self._own_number()
        of_others = {name: each for name, each in seen.items() if name not in ours}
        for _ in range(_LOOKS):
            if self._nodes.have_seen(of_others):
                return True
            await trio.sleep(_COMING)
        return False

    # -- giving

    async def answer(self, node: str, what: str, details: list[Any]) -> Any:
        """Answer another node. See `Answer`."""
        match details:
            case [str(id), str(user), str(codec), *more] if what in ("find", "give"):
                if id in self._coming:
                    return ["coming"]
                connection = self._hub.roster.known_by(id)
                if connection is None:
                    return ["gone", self._gone_to[id]] if id in self._gone_to else None
                if (connection.id, connection.user, _spelling(connection.codec)) != (id, user, codec):
                    return None
                if what == "give":
                    return await self._give(connection, node, *more)
                connection.lose_link()
                return ["here", [*connection.topics, *connection.topics_beside]]
        raise Misuse(f"no question of a node: {what!r}")

    async def _give(self, connection: Connection, node: str, seen: Mapping[str, tuple[int, bool]]) -> Any:
        """Return its luggage, and have it gone; None where it has gone elsewhere meanwhile, has come back here, or was
        told of a gap, or may have to be. `seen` is what the other node had heard of each before it laid up what comes:
        as much must have been heard here.
        """
        id = connection.id
        await connection.leave(self._options.leave_within)
        await self._certainty.wait()
        if not await self._have_seen(seen):
            return None
        heard = {**self._nodes.heard_up_to(), **self._own_number()}
        await self._hub.wait_offered()
        if connection.has_ended or connection.attached or connection.id != id or self._nodes.is_any_in_doubt:
            return None
        luggage = _packed(connection.packed(heard, self._had.had_by(id)))
        self._gone_to[connection.id] = node
        while len(self._gone_to) > _REMEMBERED:
            self._gone_to.popitem(last=False)
        self._hub.roster.dismiss(connection, "moved")
        return luggage


def _spelling(codec: Codec) -> str:
    return codec.subprotocol or ""


def _packed(luggage: Luggage) -> list[Any]:
    """Return luggage as data."""
    return [
        luggage.next_number,
        [_packed_body(body) for body in luggage.kept],
        [_packed_body(body) for body in luggage.owed],
        list(luggage.topics),
        luggage.highest,
        list(luggage.replies.items()),
        list(luggage.streamed),
        dict(luggage.heard),
        luggage.since,
        luggage.is_idle,
        [list(mark) for mark in luggage.reliably],
    ]


def _packed_body(body: Body) -> list[Any]:
    mark = None if body.mark is None else list(body.mark)
    if body.delivery is MUST:
        return [body.open_json, mark]
    return [body.open_json, mark, spelled_delivery(body.delivery, body.expires_at - trio.current_time())]


def _unpacked(data: Any) -> Luggage | None:
    """Return luggage that was packed so; None for what is none."""
    match data:
        case [
            int(number),
            [*kept],
            [*owed],
            [*topics],
            int(highest),
            [*replies],
            [*streamed],
            dict(heard),
            float(since),
            bool(idle),
            [*reliably],
        ]:
            return Luggage(
                number,
                [_unpacked_body(each) for each in kept],
                [_unpacked_body(each) for each in owed],
                topics,
                highest,
                dict(replies),
                streamed,
                heard,
                since,
                idle,
                [(node, number) for node, number in reliably],
            )
    return None


def _unpacked_body(data: list[Any]) -> Body:
    json, mark, *rest = data
    delivery, left = delivery_from(rest[0]) if rest else (MUST, math.inf)
    body = Body.of_json(json, delivery=delivery, expires_at=trio.current_time() + left)
    body.mark = None if mark is None else tuple(mark)
    return body
