"""Questions from node to node, and their answers, which may be large and come in parts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from trio_hub.cluster.envelopes import Unreadable
from trio_hub.errors import Unreachable
from trio_hub.wire import cbor

__all__ = ["Answer", "Asking"]

log = logging.getLogger("trio_hub.cluster")

_PART: Final = 256 * 1024  # bytes
_MOST_PARTS: Final = 256
_MOST: Final = 1000  # questions that are being answered here; who asks one more has no answer in time

Answer = Callable[[str, str, list[Any]], Awaitable[Any]]
"""Answers a question of a node: its name, what is asked, and further details. What it returns is data."""


@attrs.define
class _Pending:
    """A question that was asked."""

    node: str
    parts: dict[int, bytes] = attrs.field(factory=dict)
    complete: trio.Event = attrs.field(factory=trio.Event)


class Asking:
    """Asks other nodes, and has theirs answered. `say` says something to one node; `answer` answers."""

    def __init__(self, say: Callable[[str, list[Any]], None], answer: Answer) -> None:
        self._say = say
        self._answer = answer
        self._number = 0
        self._pending: dict[int, _Pending] = {}
        self._answering = 0

    async def ask(self, node: str, what: str, *details: Any, within: float) -> Any:
        """Return what a node answers. Raises `Unreachable` where that does not come in time, or cannot be read."""
        self._number += 1
        number, pending = self._number, _Pending(node)
        self._pending[number] = pending
        self._say(node, ["question", number, what, list(details)])
        try:
            with trio.fail_after(within):
                await pending.complete.wait()
            return cbor.loads(b"".join([pending.parts[index] for index in range(len(pending.parts))]))
        except trio.TooSlowError:
            raise Unreachable(f"node {node!r} does not answer") from None
        except (*cbor.Undecodable, KeyError) as error:
            raise Unreachable(f"node {node!r} answers what nobody can read") from error
        finally:
            del self._pending[number]

    def heed(self, node: str, said: list[Any], tasks: trio.Nursery) -> None:
        """Take a question or (a part of) an answer. Raises `Unreadable`."""
        match said:
            case ["question", int(number), str(what), [*details]]:
                if self._answering < _MOST:
                    self._answering += 1
                    tasks.start_soon(self._answer_one, node, number, what, details)
            case ["answered", int(number), int(index), int(count), bytes(part)] if 0 <= index < count <= _MOST_PARTS:
                pending = self._pending.get(number)
                if pending is not None and pending.node == node:
                    pending.parts[index] = part
                    if len(pending.parts) == count:
                        pending.complete.set()
            case _:
                raise Unreadable(f"no word of a node: {said!r:.100}")

    async def _answer_one(self, node: str, number: int, what: str, details: list[Any]) -> None:
        try:
            data = cbor.dumps(await self._answer(node, what, details))
        except Exception:
            log.exception("a question of node %r (%s) cannot be answered", node, what)
            return
        finally:
            self._answering -= 1
        count = -(-len(data) // _PART)
        for index in range(count):
            self._say(node, ["answered", number, index, count, data[index * _PART : (index + 1) * _PART]])
