"""One task that beats for many links: no timer, no task and no cancel scope of its own for any of them.

At each beat every link is looked at once. What a link must do in time is counted in beats, so a limit is met within
one beat (a quarter of the shortest limit), never earlier:

- say anything at all: after `ping_interval` of silence it is asked, after `pong_timeout` more it is in TIMEOUT for the
  length of `grace`, which ends as soon as it is heard (as of a beat), and then it is given up;
- take what we write: some byte within `write_timeout`;
- finish the message it began: within `finish_within`. Where it is had piece by piece that is the next piece of it; who
  puts pieces together has a deadline of their own.

Silence counts only while somebody of ours listens: a program that is busy with a message must not blame the peer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio

from trio_hub.link.link import Link
from trio_hub.messages import CloseCode, CloseReason, LinkStatus
from trio_hub.options import LinkOptions

__all__ = ["Heart"]

_TURN = 512  # links looked at before other tasks get a turn


@attrs.define
class _Pulse:
    """Beats since a link last did what it should."""

    silent: int = 0
    stalled: int = 0
    midway: int = 0
    written: int = 0
    received: int = 0


class Heart:
    """Watches over links of one kind. Run `run` in a nursery; `watch` a link while it lives, `forget` it after."""

    def __init__(self, options: LinkOptions) -> None:
        limits = (options.ping_interval, options.pong_timeout, options.write_timeout, options.finish_within)
        self._beat = min(options.grace or math.inf, *limits) / 4

        def beats(seconds: float) -> int:
            return math.ceil(seconds / self._beat) + 1  # the first beat comes at any moment

        self._ping_after = beats(options.ping_interval)
        self._overdue_after = self._ping_after + beats(options.pong_timeout)
        self._give_up_after = self._overdue_after + (beats(options.grace) if options.grace else 0)
        self._write_within = beats(options.write_timeout)
        self._finish_within = beats(options.finish_within)
        self._links: dict[Link, _Pulse] = {}

    def watch(self, link: Link) -> None:
        """Begin to look after this link."""
        self._links[link] = _Pulse()

    def forget(self, link: Link) -> None:
        """Stop looking after this link."""
        self._links.pop(link, None)

    @contextmanager
    def watching(self, link: Link) -> Iterator[None]:
        """Look after this link within the block."""
        self.watch(link)
        try:
            yield
        finally:
            self.forget(link)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await trio.sleep(self._beat)
            for count, (link, pulse) in enumerate(list(self._links.items()), 1):
                self._look_at(link, pulse)
                if count % _TURN == 0:
                    await trio.lowlevel.checkpoint()

    def _look_at(self, link: Link, pulse: _Pulse) -> None:
        if link.closed is not None:
            return
        if not link.heard:
            pulse.silent += link.listening
        else:
            if pulse.silent >= self._overdue_after:
                link.become(LinkStatus.READY)
            pulse.silent = 0
        pulse.stalled = pulse.stalled + 1 if link.writer.busy and link.writer.written == pulse.written else 0
        pulse.midway = pulse.midway + link.listening if link.midway and link.received == pulse.received else 0
        pulse.written, pulse.received = link.writer.written, link.received
        link.heard = False
        if pulse.silent >= self._give_up_after:
            link.end(CloseReason(CloseCode.LOST_PATIENCE, "no sign of life"))
        elif pulse.stalled >= self._write_within:
            link.end(CloseReason(CloseCode.TOO_SLOW, "nothing was read for too long"))
        elif pulse.midway >= self._finish_within:
            link.end(CloseReason(CloseCode.POLICY, "the message was not finished in time"))
        elif pulse.silent == self._ping_after and link.listening:
            link.probe()
        elif pulse.silent >= self._overdue_after:
            link.become(LinkStatus.TIMEOUT)
