"""Many links by name and group, and what is said to them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

import trio

from trio_hub.errors import Misuse, NoPlace
from trio_hub.link.link import Link
from trio_hub.link.members import Member
from trio_hub.link.spreading import Sent, Spread
from trio_hub.messages import CloseReason
from trio_hub.options import WhenFull

__all__ = ["Crowd"]


class Crowd:
    """Members by name and group. Names are unique, and there are `size` members at most."""

    def __init__(self, size: int, when_full: WhenFull) -> None:
        self._size = size
        self._when_full = when_full
        self._members: dict[str, Member] = {}
        self._groups: dict[str, dict[str, Member]] = {}
        self._whose: dict[Link, Member] = {}
        self.taken = 0
        self.dropped = 0
        self.ended = 0

    # -- who

    @property
    def members(self) -> Sequence[Member]:
        """Everybody, in the order in which they came."""
        return list(self._members.values())

    def member(self, name: str) -> Member | None:
        """Return the member of this name, None where there is none."""
        return self._members.get(name)

    def group(self, name: str) -> Sequence[Member]:
        """Return the members of a group, in the order in which they joined it; nobody where there is no such group."""
        return list(self._groups.get(name, {}).values())

    def member_of(self, link: Link) -> Member | None:
        """Return whose link that is, or was, until its handlers are done; None for a link that is not in the pool."""
        return self._whose.get(link)

    def join(self, who: Link | str, *groups: str) -> None:
        """Have a member, by its link or its name, belong to these groups, too. Raises `Misuse` where there is none."""
        member = self._present(who)
        member.groups |= {*groups}
        for group in groups:
            self._groups.setdefault(group, {})[member.name] = member

    def leave(self, who: Link | str, *groups: str) -> None:
        """Have a member belong to these groups no longer. Raises `Misuse` where there is no such member."""
        member = self._present(who)
        member.groups -= {*groups}
        self._forget_in(groups, member.name)

    def _find(self, who: Link | str) -> Member | None:
        member = self._members.get(who) if isinstance(who, str) else self._whose.get(who)
        return member if member is not None and member.left is None else None

    def _present(self, who: Link | str) -> Member:
        member = self._find(who)
        if member is None:
            raise Misuse(f"not in this pool: {who!r}")
        return member

    def admit(self, name: str | None, groups: str | Iterable[str], *, is_client: bool) -> Member:
        """Return a new member; of a random name, if none is said. Raises `NoPlace`. For the pool."""
        if name is None:
            name = secrets.token_urlsafe(12)
        if len(self._members) >= self._size:
            raise NoPlace("full", f"the pool has {self._size} members already")
        if name in self._members:
            raise NoPlace("taken", f"the pool has a member {name!r} already")
        named = frozenset((groups,) if isinstance(groups, str) else groups)
        member = self._members[name] = Member(name, named, is_client=is_client)
        self.join(name, *named)
        return member

    def discard(self, member: Member, why: CloseReason) -> None:
        """Let go a member, and nobody else who has its name by now. For the pool."""
        member.leave(why)
        if self._members.get(member.name) is member:
            del self._members[member.name]
            self._forget_in(member.groups, member.name)

    def _forget_in(self, groups: Iterable[str], name: str) -> None:
        for group in groups:
            members = self._groups.get(group, {})
            members.pop(name, None)
            if not members:
                self._groups.pop(group, None)

    # -- what is said to them

    async def to_all(
        self, message: str | bytes, *more: str | bytes, kind: int | None = None, when_full: WhenFull | None = None
    ) -> Sent:
        """Send a message to everybody, or several in one write for each, and say how far they got.

        Text for `str` and binary for `bytes`, or of a private `kind`, where all links know it. Waits for nobody but
        with `WhenFull.WAIT`, and then for those alone who are owed too much. If cancelled, nobody has it; while it
        waits, everybody but those. What one caller sends arrives in order. Raises `Misuse` for what cannot be sent, and
        nobody has it then. A checkpoint.
        """
        return await self._send(self.members, (message, *more), kind, when_full)

    async def to_clients(
        self, message: str | bytes, *more: str | bytes, kind: int | None = None, when_full: WhenFull | None = None
    ) -> Sent:
        """Send as `to_all` does, on all links of which *this* side is the client: to the servers we have dialled."""
        members = [each for each in self.members if each.is_client]
        return await self._send(members, (message, *more), kind, when_full)

    async def to_servers(
        self, message: str | bytes, *more: str | bytes, kind: int | None = None, when_full: WhenFull | None = None
    ) -> Sent:
        """Send as `to_all` does, on all links of which *this* side is the server: to those who have dialled us."""
        members = [each for each in self.members if not each.is_client]
        return await self._send(members, (message, *more), kind, when_full)

    async def to_group(
        self,
        group: str,
        message: str | bytes,
        *more: str | bytes,
        kind: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Sent:
        """Send as `to_all` does, to the members of a group; to nobody where there is no such group."""
        return await self._send(self.group(group), (message, *more), kind, when_full)

    async def to_one(
        self,
        name: str,
        message: str | bytes,
        *more: str | bytes,
        kind: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Sent:
        """Send as `to_all` does, to the member of this name, who is `absent` where there is none."""
        member = self._members.get(name)
        sent = await self._send([] if member is None else [member], (message, *more), kind, when_full)
        return sent if member is not None else Sent(absent=(name,))

    async def all_but(
        self,
        name: str,
        message: str | bytes,
        *more: str | bytes,
        kind: int | None = None,
        when_full: WhenFull | None = None,
    ) -> Sent:
        """Send as `to_all` does, to everybody but the member of this name: whoever said it, say."""
        members = [each for each in self.members if each.name != name]
        return await self._send(members, (message, *more), kind, when_full)

    async def _send(
        self, members: Sequence[Member], messages: Sequence[str | bytes], kind: int | None, when_full: WhenFull | None
    ) -> Sent:
        spread = Spread(messages, kind, when_full or self._when_full)
        await trio.lowlevel.checkpoint_if_cancelled()
        spread.reach(members)
        try:
            await spread.wait()
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self.taken += spread.taken
            self.dropped += len(spread.dropped)
            self.ended += len(spread.ended)
        return spread.sent
