"""One message to many links.

What makes it quick. A message is framed once for each way of framing: once for all plain links of a server. Whoever is
owed nothing, and whose socket waits for nothing, is written to there and then, in one loop without a turn for others.
So every message is said to all in the same order, and nobody waits for anybody. Only then come those who are behind:
it is queued for them, up to their bound, and what happens beyond that is the sender's to say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import attrs
import trio

from trio_hub.errors import LinkLost
from trio_hub.link.link import Link
from trio_hub.link.members import Member
from trio_hub.link.tasks import open_tasks
from trio_hub.messages import CloseCode, CloseReason
from trio_hub.options import WhenFull
from trio_hub.wire.framing import opcode_and_payload

__all__ = ["Sent", "Spread"]

_TOO_SLOW = CloseReason(CloseCode.TOO_SLOW, "too much waits to be sent")


@attrs.frozen
class Sent:
    """How far messages got: the number of links that took them, and the names of those that did not.

    Taken means written, or queued behind what the link was owed; not that it arrived. Too much waited for the others:
    for the `dropped` it is left at that, the links of the `ended` are ended. The `absent` have no link at the moment,
    or there is nobody of that name.
    """

    taken: int = 0
    dropped: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


class Spread:
    """Messages on their way to many: first `reach` all who can be, then `wait` for the others. `sent` is the outcome.

    Raises `Misuse` for what cannot be sent to anybody.
    """

    def __init__(self, messages: Sequence[str | bytes], kind: int | None, when_full: WhenFull) -> None:
        self._framed = _Framed(messages, kind)
        self._when_full = when_full
        self.taken = 0
        self.dropped: list[str] = []
        self.ended: list[str] = []
        self.absent: list[str] = []
        self._full: list[tuple[Member, Link]] = []

    @property
    def sent(self) -> Sent:
        """How far it got, so far."""
        return Sent(self.taken, tuple(self.dropped), tuple(self.ended), tuple(self.absent))

    def reach(self, members: Sequence[Member]) -> None:
        """Have them taken by every one of these who is not owed too much. Never waits.

        Raises `Misuse` where one of them cannot be sent this, and then nobody is.
        """
        self._framed.check(members)
        for member in self._write_through(members):
            link = member.link
            if link is None or link.closed is not None:
                self.absent.append(member.name)
            elif not link.is_full:
                self._framed.post_to(link)
                self.taken += 1
            else:
                self._meet_full(member, link)

    def _write_through(self, members: Sequence[Member]) -> list[Member]:
        """Write them to everybody who keeps up; return the others."""
        behind: list[Member] = []
        framed, way, frame, taken = self._framed, None, None, 0  # the way of whoever may have the same frame
        for member in members:
            link = member.link
            if link is None or not link.writer.is_idle or link.framer.is_occupied:
                behind.append(member)
                continue
            if way is None or member.way != way:
                frames = framed.frames_for(link)
                way, frame = member.way, frames[0] if len(frames) == 1 else None
            if frame is None:  # several, that must be written by themselves
                behind.append(member)
            elif link.writer.write_through(frame) or link.closed is None:
                taken += 1
            else:
                behind.append(member)
        self.taken += taken
        return behind

    def _meet_full(self, member: Member, link: Link) -> None:
        match self._when_full:
            case WhenFull.DROP:
                member.dropped += 1
                self.dropped.append(member.name)
            case WhenFull.END:
                link.end(_TOO_SLOW)
                self.ended.append(member.name)
            case WhenFull.WAIT:
                self._full.append((member, link))

    async def wait(self) -> None:
        """Wait for those who are owed too much, for all of them at once; no checkpoint where there are none.

        If cancelled, those for whom it still waited get nothing.
        """
        if self._full:
            async with open_tasks() as tasks:
                for member, link in self._full:
                    tasks.start_soon(self._wait_for, member, link)

    async def _wait_for(self, member: Member, link: Link) -> None:
        while member.link is link and link.is_full:
            await _wait_for_turn(member, link)
        if member.link is link and link.closed is None:
            self._framed.post_to(link)
            self.taken += 1
        else:
            self.absent.append(member.name)


async def _wait_for_turn(member: Member, link: Link) -> None:
    """Wait until more can be said on the link, or it is the member's no longer."""
    async with open_tasks() as tasks:
        tasks.start_soon(_wait_lost, member, tasks.cancel_scope)
        try:
            await link.wait_for_turn()
        except LinkLost:
            pass  # the loop around this sees it
        tasks.cancel_scope.cancel()


async def _wait_lost(member: Member, waiting: trio.CancelScope) -> None:
    await member.wait_lost()
    waiting.cancel()


class _Framed:
    """Messages in the frames of whoever is to have them. Raises `Misuse` for what cannot be sent.

    All that is known of ways of framing stands here.
    """

    def __init__(self, messages: Sequence[str | bytes], kind: int | None) -> None:
        self._messages = messages
        self._kind = kind
        self._payloads = [opcode_and_payload(message, kind) for message in messages]
        self._frames: dict[Hashable, list[bytes]] = {}
        self._contents: dict[Hashable, list[tuple[int, bytes]]] = {}

    def check(self, members: Iterable[Member]) -> None:
        """Raise `Misuse` where one of these links knows no messages of this kind."""
        if self._kind is not None:
            for member in members:
                if member.link is not None:
                    for message in self._messages:
                        member.link.framer.check(self._kind, message)

    def frames_for(self, link: Link) -> list[bytes]:
        """Return the frames. Each item is to be written by itself, in order, before others are made for the link."""
        framer = link.framer
        if (way := framer.way) is not None:
            if way not in self._frames:
                self._frames[way] = framer.messages(self._messages, self._kind)
            return self._frames[way]
        if (way := framer.contents_way) is None or self._kind is not None:
            return framer.messages(self._messages, self._kind)
        if way not in self._contents:
            self._contents[way] = [framer.contents(opcode, payload) for opcode, payload in self._payloads]
        return [b"".join([framer.frame(first, payload) for first, payload in self._contents[way]])]

    def post_to(self, link: Link) -> None:
        """Put them into the link's queue, or write them, if that is empty."""
        if link.framer.is_occupied:
            for message in self._messages:
                link.post(message, self._kind)
            return
        for frame in self.frames_for(link):
            link.writer.post(frame)
        link.writer.flush()
