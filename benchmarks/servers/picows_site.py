"""What serves picows, whatever its listeners do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from picows import WSListener, ws_create_server

from benchmarks.conversation import answer

__all__ = ["serve"]


async def serve(make_listener: Callable[[], WSListener]) -> asyncio.Server:
    """Serve in tasks of the loop, tell the port, and return what is to be closed in the end."""
    server = await ws_create_server(lambda request: make_listener(), "127.0.0.1", 0)
    answer(port=server.sockets[0].getsockname()[1])
    return server
