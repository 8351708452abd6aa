"""Where nodes meet at a Redis. What of it needs coredis is imported when somebody joins."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_hub.cluster.backplane import Membership, check_node
from trio_hub.cluster.redis.address import parse_redis_url
from trio_hub.errors import Misuse
from trio_hub.link.tasks import open_tasks
from trio_hub.options import BackplaneOptions

__all__ = ["RedisBackplane"]


class RedisBackplane:
    """A backplane over one Redis 7 or later, or Valkey, at ``redis://[[user]:password@]host[:port][/database]``.

    ``rediss://`` is the same over TLS, by `ssl_context` where one is given, and ``unix://[...@]/path`` over a socket.
    Several clusters may share a Redis, each with a `prefix` of its own.

    Raises `Misuse` for other URLs, and where coredis is missing, which comes with the extra ``redis``.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "trio_hub",
        options: BackplaneOptions = BackplaneOptions(),  # noqa: B008
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if importlib.util.find_spec("coredis") is None:
            raise Misuse("a backplane over Redis needs coredis: install trio-hub[redis]")
        self._address = parse_redis_url(url, ssl_context)
        self._prefix = prefix
        self._options = options

    @asynccontextmanager
    async def join(self, node: str) -> AsyncIterator[Membership]:
        """Take part within the block. See `Backplane`."""
        from trio_hub.cluster.redis.member import Member

        check_node(node)
        member = Member(self._address, self._prefix, node, self._options)
        async with open_tasks() as tasks:
            member.start(tasks)
            try:
                yield member
            finally:
                member.close()
                tasks.cancel_scope.cancel()
