"""What a member hears: one task reads it, connection after connection, and puts it into the inbox.

A channel is an ear. It hears once Redis has acknowledged its subscription, and for a reliable channel once all that was
sent before is here, too. After a lost connection every ear is deaf, and subscribes anew. What plain ones have missed is
told when all of them hear again; what reliable ones have missed is fetched, by the second task, `mend`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import trio
from coredis import exceptions

from trio_hub.cluster.backplane import Arrival
from trio_hub.cluster.following import Entry, Fetch, Follower
from trio_hub.cluster.inbox import Inbox
from trio_hub.cluster.redis.address import RedisAddress
from trio_hub.cluster.redis.asking import Asking
from trio_hub.cluster.redis.connection import RedisConnection, reason_of
from trio_hub.cluster.redis.lifeline import Lifeline
from trio_hub.cluster.redis.words import PAGE, Words, read_entries, read_message, read_published
from trio_hub.errors import Unreachable
from trio_hub.options import BackplaneOptions

__all__ = ["Ear", "Listening"]

log = logging.getLogger("trio_hub.cluster")

_AT_ONCE = 500  # channels in one command


class Ear:
    """One channel that is listened to. `promised`: whoever asked for it was told that it is, or will be."""

    def __init__(self, channel: str, follower: Follower | None) -> None:
        self.channel = channel
        self.follower = follower
        self.promised = False
        self.hears = trio.Event()

    def deafen(self) -> None:
        """Note that the connection is lost."""
        if self.hears.is_set():
            self.hears = trio.Event()
        if self.follower is not None:
            self.follower.part()


class Listening:
    """The ears of one member. `heard_at` is when anything was heard last, by trio's clock; None for never."""

    def __init__(
        self, address: RedisAddress, options: BackplaneOptions, words: Words, inbox: Inbox, asking: Asking
    ) -> None:
        self._words = words
        self._inbox = inbox
        self._asking = asking
        self._patience = options.patience
        self._pause = options.longest_retry
        self._run: bytes | None = None  # which run of which Redis it was
        self._ears: dict[bytes, Ear] = {}
        self._unanswered: dict[bytes, int] = {}  # subscriptions, and their ends, that Redis has not acknowledged
        self._missing: set[bytes] = set()  # plain ears that were promised, and hear less than was sent
        self._to_mend: dict[bytes, Ear] = {}
        self._torn = trio.Event()
        self._connection: RedisConnection | None = None
        self.lifeline = Lifeline(address, options, "listening")
        self.heard_at: float | None = None
        self._connected_at = 0.0

    @property
    def silence(self) -> float:
        """Seconds for which nothing was heard on the connection; 0 where there is none."""
        if self._connection is None:
            return 0.0
        return trio.current_time() - max(self._connected_at, self.heard_at or 0.0)

    # -- what a member wants to hear

    def want(self, channels: Iterable[str], *, reliable: bool) -> list[Ear]:
        """Return an ear for each of these. It `hears` some time later."""
        ears, new = [], []
        for channel in channels:
            name = self._words.channel(channel, reliable=reliable)
            if name not in self._ears:
                self._ears[name] = Ear(channel, Follower() if reliable else None)
                new.append(name)
            ears.append(self._ears[name])
        self._say(b"SUBSCRIBE", new)
        return ears

    def promise(self, ears: Iterable[Ear]) -> None:
        """Note that somebody relies on these. Those that do not hear yet are told of when they do."""
        for ear in ears:
            ear.promised = True
            if ear.follower is None and not ear.hears.is_set() and self._connection is not None:
                self._missing.add(self._words.channel(ear.channel, reliable=False))

    def want_no_more(self, channels: Iterable[str], *, reliable: bool) -> None:
        """Hear nothing more of these."""
        names = [self._words.channel(channel, reliable=reliable) for channel in channels]
        known = [name for name in dict.fromkeys(names) if self._ears.pop(name, None) is not None]
        for name in known:
            self._to_mend.pop(name, None)
            self._hears_again(name)
        self._say(b"UNSUBSCRIBE", known)

    def give_up(self) -> None:
        """Make the connection anew."""
        if self._connection is not None:
            self._connection.invalidate()

    # -- connection after connection

    async def run(self) -> NoReturn:
        """Listen, until cancelled."""
        await self.lifeline.run(self._live)

    async def _live(self, connection: RedisConnection) -> None:
        """Raises `Unreachable` when the connection is lost."""
        await self._meet(connection)
        self._connection = connection
        self._connected_at = trio.current_time()
        self._missing = {name for name, ear in self._ears.items() if ear.promised and ear.follower is None}
        try:
            self._say(b"SUBSCRIBE", [self._words.beat_channel, *self._ears])
            while True:
                for push in await connection.receive_pushes():
                    self._hear(push)
        except exceptions.ConnectionError as error:
            raise Unreachable(reason_of(error)) from error
        finally:
            self._connection = None
            self._unanswered.clear()
            self._to_mend.clear()
            for ear in self._ears.values():
                ear.deafen()

    async def _meet(self, connection: RedisConnection) -> None:
        """Have every follower doubt a Redis that is not the one it was. Raises `Unreachable`."""
        try:
            info = await connection.create_request(b"INFO", b"server", timeout=self._patience)
        except (exceptions.ConnectionError, TimeoutError) as error:
            raise Unreachable(reason_of(error)) from error
        except exceptions.RedisError:  # we may not ask
            return
        assert isinstance(info, bytes)
        run = next((line for line in info.splitlines() if line.startswith(b"run_id:")), None)
        if self._run not in (None, run):
            for ear in self._ears.values():
                if ear.follower is not None:
                    ear.follower.doubt()
        self._run = run

    def _say(self, command: bytes, names: Sequence[bytes]) -> None:
        if self._connection is None:
            return
        for some in _portions(names):
            try:
                self._connection.send_command(command, *some)
            except exceptions.ConnectionError:  # whoever reads is told, too
                return
            for name in some:
                self._unanswered[name] = self._unanswered.get(name, 0) + 1

    # -- what is heard

    def _hear(self, push: Any) -> None:
        self.heard_at = trio.current_time()
        kind, name, said = push
        if kind == b"message":
            ear = self._ears.get(name)
            if ear is not None:
                self._hear_message(name, ear, said)
        elif kind in (b"subscribe", b"unsubscribe"):
            self._hear_acknowledgement(name)

    def _hear_acknowledgement(self, name: bytes) -> None:
        self.lifeline.is_good()
        self._unanswered[name] -= 1
        if self._unanswered[name]:
            return
        del self._unanswered[name]
        ear = self._ears.get(name)
        if ear is None:
            return
        if ear.follower is None:
            ear.hears.set()
            self._hears_again(name)
        else:
            self._tear(name, ear)

    def _hears_again(self, name: bytes) -> None:
        """When this is the last of the plain ears that were deaf, tell what that means."""
        if name in self._missing:
            self._missing.remove(name)
            if not self._missing:
                self._inbox.interrupt(None)

    def _hear_message(self, name: bytes, ear: Ear, said: bytes) -> None:
        if ear.follower is None:
            self._arrive(ear, said)
            return
        try:
            entry = read_published(said)
        except ValueError as error:
            log.warning("something on %r is no message of a backplane: %s", ear.channel, error)
            return
        if ear.follower.hear(entry, has_room=self._inbox.has_room):
            self._arrive(ear, entry.body)
        elif not ear.follower.live and name not in self._unanswered:
            self._tear(name, ear)

    def _arrive(self, ear: Ear, said: bytes) -> None:
        try:
            origin, payload = read_message(said)
            node = origin.decode()
        except ValueError as error:
            log.warning("something on %r is no message of a backplane: %s", ear.channel, error)
            return
        if not self._words.is_our_node(origin):
            self._inbox.add(Arrival(ear.channel, node, payload, ear.follower is not None))

    # -- what was not heard, and is fetched

    def _tear(self, name: bytes, ear: Ear) -> None:
        self._to_mend[name] = ear
        self._torn.set()

    async def mend(self) -> NoReturn:
        """Fetch what reliable ears have missed, until cancelled."""
        while True:
            while not self._to_mend:
                self._torn = trio.Event()
                await self._torn.wait()
            await self._inbox.wait_for_room()
            try:
                await self._mend(list(self._to_mend.items())[:_AT_ONCE])
            except Unreachable as error:
                log.debug("what was missed cannot be fetched yet: %s", error.reason)
                await trio.sleep(self._pause)

    async def _mend(self, ears: Sequence[tuple[bytes, Ear]]) -> None:
        followed = [(name, ear, ear.follower, ear.follower.fetch()) for name, ear in ears if ear.follower is not None]
        replies = await self._asking.ask(
            [command for _, ear, _, fetch in followed for command in self._words.fetch(ear.channel, fetch)]
        )
        for at, (name, ear, follower, fetch) in enumerate(followed):
            if self._to_mend.get(name) is not ear:  # ignored, or deaf again
                continue
            self._take_fetched(ear, follower, fetch, replies[2 * at], replies[2 * at + 1])
            if follower.live:
                del self._to_mend[name]
                ear.hears.set()

    def _take_fetched(self, ear: Ear, follower: Follower, fetch: Fetch, page: Any, end: Any) -> None:
        entries, last = read_entries(page), next(iter(read_entries(end)), None)
        if follower.begin(fetch, last):
            if ear.promised:  # when there was nothing to begin with
                self._inbox.interrupt(ear.channel)
            return
        new, lost = follower.fetched(entries, last)
        if lost:
            self._inbox.interrupt(ear.channel)
        complete = len(page or ()) < PAGE
        for entry in new:
            if not self._inbox.has_room:
                complete = False
                break
            self._take_entry(ear, follower, entry)
        follower.finish(fetch, complete=complete)

    def _take_entry(self, ear: Ear, follower: Follower, entry: Entry) -> None:
        follower.have(entry)
        self._arrive(ear, entry.body)


def _portions(names: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut what is to be said at once into commands of a reasonable size."""
    return (names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE))
