"""Straight through: events go to everybody who keeps up, past every queue.

What this is for. An event's usual way is long: into each outbox, into the set of those to be flushed, out again when
all is offered, so that a recipient of several events has them in one write. Events that are alone in the hub need no
such care: whoever is owed nothing else, and whose socket waits for nothing, gets them here and now.

What makes it quick. One loop, in which every recipient costs two calls of ours, to its outbox and to its writer, and
one of the system. Frames are made only where they are others than the last recipient's: for v1 once, for compat once
for every number at which recipients happen to be.
"""

from __future__ import annotations

from collections.abc import Sequence

from trio_hub.peer.connection import Connection
from trio_hub.wire.codecs import COMPAT, Framing
from trio_hub.wire.kept import Run

__all__ = ["broadcast"]


def broadcast(run: Run, connections: Sequence[Connection]) -> list[Connection]:
    """Write events to every one of these who keeps up; return the others, for whom nothing is changed.

    The events must be delivered, every one. Never waits.
    """
    behind: list[Connection] = []
    framing: Framing = COMPAT  # what made `frames`, and the number of the first event in them; so far of none
    framed_at = -1
    frames = b""
    for connection in connections:
        writer = connection.writer
        if writer is None or not writer.is_idle:
            behind.append(connection)
            continue
        number = connection.outbox.pass_on(run)
        if number is None:
            behind.append(connection)
            continue
        if framing is not connection.framing or (framing.numbered and number != framed_at):
            framing, framed_at = connection.framing, number
            frames = framing.frames(run.bodies, number)
        writer.write_through(frames)
    return behind
