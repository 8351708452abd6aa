"""How long it took, and whether everything came: what is known of deliveries, in memory that does not grow with them.

Publishers number what they say to each topic from 1 on. A listener hears one topic, so of each publisher it should hear
1, 2, 3 ... A number that is left out is a hole. It was told of if a gap was told since that publisher's last event;
else it is silent. A number that comes late fills its hole. What was left out is missing only if the hub had accepted
it: a publish that failed, or whose outcome nobody knows, is owed to nobody. So for each listener

    due = delivered + told + silent

where `due` is what the hub accepted for its topic. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import attrs

__all__ = ["Histogram", "Ledger", "Series", "Verdict"]

_BITS: Final = 6
_LARGEST: Final = 2**46 - 1  # ns, 19 hours
_MOST_HOLES: Final = 2048


class Histogram:
    """Counts whole numbers, such as nanoseconds, by size: exact below 64, else in 32 buckets for each power of two.

    A quantile is within 1.6 % of what it would be with every number kept. What is above 2**46 counts as that.
    """

    def __init__(self) -> None:
        self._buckets = [0] * (_bucket(_LARGEST) + 1)
        self.count = 0
        self.largest = 0

    def add(self, number: int) -> None:
        """Count one more."""
        number = min(max(number, 0), _LARGEST)
        self._buckets[_bucket(number)] += 1
        self.count += 1
        if number > self.largest:
            self.largest = number

    def add_all(self, other: Histogram) -> None:
        """Count all that the other has counted."""
        self._buckets = [ours + theirs for ours, theirs in zip(self._buckets, other._buckets, strict=True)]
        self.count += other.count
        self.largest = max(self.largest, other.largest)

    def quantile(self, share: float) -> int:
        """Return the number that this share of all are not above, 0 where nothing was counted."""
        wanted = share * self.count
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if count and seen >= wanted:
                return min(_middle(bucket), self.largest)
        return 0


def _bucket(number: int) -> int:
    """Return the bucket of a number: its power of two, and the five bits behind the highest one."""
    shift = max(0, number.bit_length() - _BITS)
    return (shift << (_BITS - 1)) + (number >> shift)


def _middle(bucket: int) -> int:
    """Return the number in the middle of a bucket."""
    if bucket < 1 << _BITS:
        return bucket
    shift = (bucket >> (_BITS - 1)) - 1
    lowest = (bucket - (shift << (_BITS - 1))) << shift
    return lowest + (1 << shift >> 1)


@attrs.define
class Series:
    """What one publisher said to one topic, numbered from 1 to `asked`, and what came of those up to `settled`.

    `doubtful` are the numbers, in order, that the hub refused, or of which nobody can say whether it took them.
    """

    asked: int = 0
    settled: int = 0
    doubtful: list[int] = attrs.field(factory=list)

    def accept(self) -> None:
        """The hub has taken the next number."""
        self.settled += 1

    def doubt(self) -> None:
        """The hub has not taken the next number, as far as anybody knows."""
        self.settled += 1
        self.doubtful.append(self.settled)

    def give_up(self) -> int:
        """Doubt all that were not answered; return how many."""
        unanswered = self.asked - self.settled
        for _ in range(unanswered):
            self.doubt()
        return unanswered

    @property
    def accepted(self) -> int:
        """How many the hub has taken."""
        return self.settled - len(self.doubtful)

    @property
    def last_accepted(self) -> int:
        """The highest number that the hub has taken, 0 for none."""
        number = self.settled
        for doubtful in reversed(self.doubtful):
            if doubtful != number:
                break
            number -= 1
        return number

    def accepted_within(self, first: int, last: int) -> int:
        """Return how many from the first to the last number the hub has taken."""
        last = min(last, self.settled)
        doubtful = bisect_right(self.doubtful, last) - bisect_left(self.doubtful, first)
        return max(0, last - first + 1 - doubtful)


@attrs.frozen
class Verdict:
    """What became of the events that were due to some listeners.

    `told` are those that are missing where a gap was told, or whose listener had no link in the end; `silent` are
    missing as well, and nobody said so. `extra` came though their publish had failed, or its outcome was unknown.
    """

    due: int = 0
    delivered: int = 0
    told: int = 0
    silent: int = 0
    extra: int = 0
    duplicates: int = 0
    out_of_order: int = 0

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(*(ours + theirs for ours, theirs in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


@attrs.frozen
class _Hole:
    """Numbers that were left out, both ends included."""

    first: int
    last: int
    told: bool

    @property
    def size(self) -> int:
        return self.last - self.first + 1


@attrs.define
class _Heard:
    """What one listener heard of one publisher. `forgotten` numbers, silent and told, are of holes not kept."""

    highest: int = 0
    told: bool = False  # whether a gap was told since
    holes: list[_Hole] = attrs.field(factory=list)
    forgotten: list[int] = attrs.field(factory=lambda: [0, 0])

    def leave_out(self, number: int) -> None:
        """Everything between the highest number and this one did not come."""
        if len(self.holes) >= _MOST_HOLES:
            oldest = self.holes.pop(0)
            self.forgotten[oldest.told] += oldest.size
        self.holes.append(_Hole(self.highest + 1, number - 1, self.told))

    def fill(self, number: int) -> bool:
        """Take a late number out of its hole; return whether there was one."""
        for place, hole in enumerate(self.holes):
            if hole.first <= number <= hole.last:
                parts = _Hole(hole.first, number - 1, hole.told), _Hole(number + 1, hole.last, hole.told)
                self.holes[place : place + 1] = [part for part in parts if part.size]
                return True
        return False

    def verdict(self, series: Series, away: bool) -> Verdict:
        missing = self.forgotten.copy()
        for hole in (*self.holes, _Hole(self.highest + 1, series.settled, self.told or away)):
            missing[hole.told] += series.accepted_within(hole.first, hole.last)
        heard = self.highest - sum(self.forgotten) - sum(hole.size for hole in self.holes)
        silent, told = missing
        delivered = series.accepted - told - silent
        return Verdict(due=series.accepted, delivered=delivered, told=told, silent=silent, extra=heard - delivered)


class Ledger:
    """What one listener heard, of each publisher.

    Of each it keeps the latest 2048 holes. Where there were more, a number that comes later still counts as missing,
    and its coming as a duplicate.
    """

    def __init__(self, publishers: int) -> None:
        self._heard = [_Heard() for _ in range(publishers)]
        self._duplicates = 0
        self._out_of_order = 0

    def note(self, publisher: int, number: int) -> None:
        """This number of this publisher came."""
        heard = self._heard[publisher]
        if number > heard.highest:
            if number != heard.highest + 1:
                heard.leave_out(number)
            heard.highest = number
            heard.told = False
        elif heard.fill(number):
            self._out_of_order += 1
        else:
            self._duplicates += 1

    def note_gap(self) -> None:
        """It was told that something is lost, whosever it was."""
        for heard in self._heard:
            heard.told = True

    def is_up_to(self, said: Sequence[Series]) -> bool:
        """Whether the last that each publisher got accepted has come."""
        return all(heard.highest >= series.last_accepted for heard, series in zip(self._heard, said, strict=True))

    def verdict(self, said: Sequence[Series], *, away: bool = False) -> Verdict:
        """Compare with what each publisher said. Who is `away` at the end knows that the rest did not come."""
        each = (heard.verdict(series, away) for heard, series in zip(self._heard, said, strict=True))
        return sum(each, Verdict(duplicates=self._duplicates, out_of_order=self._out_of_order))
