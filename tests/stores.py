"""Stores of tickets, that a test needs."""

import itertools

__all__ = ["AnyNode"]


class AnyNode:
    """A store that is another node's each time."""

    def __init__(self, backplane):
        self._backplane = backplane
        self._numbers = itertools.count()

    async def put(self, key, value, lasts):
        async with self._backplane.join(str(next(self._numbers))) as member:
            await member.put(key, value, lasts)

    async def take(self, key):
        async with self._backplane.join(str(next(self._numbers))) as member:
            return await member.take(key)
