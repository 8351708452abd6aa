"""Numbers by which a node notices that it has not heard all that another one said. Pure.

Whoever says something counts it, across all channels, and says with it the number of what was said before on the same
channel. Twice a second it says in a beat what the latest number is on each channel that was used since the beat before.
So who listens to a channel knows with the next message there, or with the next beat, that one is missing; and keeps
nothing for a channel on which nothing is said. A beat that is missing itself is noticed by the next one, which names
where that one ended; then everything since is asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Mapping
from typing import Final

import attrs

__all__ = ["Beat", "Heard", "Said"]

_MOST_CHANNELS: Final = 100_000


@attrs.frozen
class Beat:
    """What a node has said: its latest `number`, and of each channel that was used after `since` the latest there.

    `latest` is None where nobody knows any more: that is too long ago. `is_sound` says that all of it has left.
    """

    since: int
    number: int
    latest: Mapping[str, int] | None
    is_sound: bool = True


class Said:
    """What one node, ours, has said on which channel."""

    def __init__(self, most: int = _MOST_CHANNELS) -> None:
        self._most = most
        self._latest: OrderedDict[str, int] = OrderedDict()  # by number, the latest last
        self._forgotten = 0  # everything later is known
        self._beaten = 0
        self._is_sound = True
        self.number = 0

    def next_number(self) -> int:
        """Return the number of what is said next."""
        self.number += 1
        return self.number

    def note(self, channel: str) -> int:
        """Note that the latest number was said on this channel, and return that of what was said there before, or 0."""
        previous = self._latest.get(channel, 0)
        self._latest[channel] = self.number
        self._latest.move_to_end(channel)
        while len(self._latest) > self._most:
            self._forgotten = self._latest.popitem(last=False)[1]
        return previous

    def note_lost(self) -> None:
        """Note that something that was said has not left."""
        self._is_sound = False

    def beat(self) -> Beat:
        """Return what was said since this was asked last."""
        beat = self.since(self._beaten)
        self._beaten, self._is_sound = self.number, True
        return beat

    def since(self, number: int) -> Beat:
        """Return what was said after this number. It is not sound for somebody who has missed a beat."""
        is_sound = self._is_sound and number >= self._beaten
        if number < self._forgotten:
            return Beat(number, self.number, None, is_sound)
        latest = {}
        for channel in reversed(self._latest):
            if self._latest[channel] <= number:
                break
            latest[channel] = self._latest[channel]
        return Beat(number, self.number, latest, is_sound)


class Heard:
    """What was heard of one other node.

    Everything up to `known` was heard on all channels that were listened to, or is told of as missing.
    """

    def __init__(self) -> None:
        self.known: int | None = None  # until it has said where it is
        self._latest: dict[str, int] = {}  # after that
        self._new: set[str] = set()  # channels that are listened to since; what was said on them before is no loss
        self.highest = 0  # number that was heard, or heard of
        self._excused: set[str] = set()  # those of them on which something was said before what was heard first
        self._is_sound = True

    def heard_from_the_first(self) -> None:
        """Note that all should have been heard that it ever said, and may not have been: it began after us."""
        if self.known is None:
            self.known, self._is_sound = 0, False

    def listens_to(self, channels: Iterable[str]) -> None:
        """Note that these are listened to from now on."""
        for channel in channels:
            self._new.add(channel)
            self._latest.pop(channel, None)  # of when it was listened to before
            self._excused.discard(channel)

    def note(self, channel: str, previous: int, number: int) -> tuple[bool, bool]:
        """Note what was heard on a channel; return whether it is new, and whether something before it is missing."""
        latest = self._latest.get(channel, 0)
        self.highest = max(self.highest, number)
        if number <= max(latest, self.known or 0):
            return False, False
        is_first = self.known is None or channel in self._new
        is_missing = previous > max(latest, self.known or 0)
        self._latest[channel] = number
        self._new.discard(channel)
        if is_first and is_missing:
            self._excused.add(channel)
        return True, is_missing and not is_first

    def misses(self, beat: Beat) -> bool:
        """Whether nothing can be told from this beat, since what was said before it is not known."""
        return self.known is not None and beat.since > self.known

    def doubt(self) -> None:
        """Note that something may have been lost on the way: on new channels, too."""
        self._is_sound = False

    def check(self, beat: Beat, listened: Container[str]) -> list[str] | None:
        """Return on which of the channels listened to something is missing, and know all of it from now on; None where
        nobody can say: on any of them. For a beat that does not `misses`.

        What was said on a new channel may have been said before it was listened to, and is not missing; but where the
        beat is not sound, since something is.
        """
        missing = [] if self.known is None else self._missing(beat, listened)
        self._advance(beat.number)
        return missing

    def _missing(self, beat: Beat, listened: Container[str]) -> list[str] | None:
        if beat.latest is None:
            return None
        known = self.known or 0
        new, excused = (self._new, set[str]()) if beat.is_sound and self._is_sound else (set[str](), self._excused)
        return [
            channel
            for channel, number in beat.latest.items()
            if channel in listened
            and channel not in new
            and (channel in excused or number > max(self._latest.get(channel, 0), known))
        ]

    def _advance(self, number: int) -> None:
        self.known = max(number, self.known or 0)
        self.highest = max(self.highest, number)
        self._new.clear()
        self._excused.clear()
        self._is_sound = True
        self._latest = {channel: latest for channel, latest in self._latest.items() if latest > number}
