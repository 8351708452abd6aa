"""aiohttp on uvloop with its own compression, in a loop over its links: messages of a chat, as in `chat_hub`.

python -m benchmarks.servers.chat_aiohttp SIZE FILE
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from itertools import cycle

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.chat import read_events
from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.pace import obey

links: dict[web.WebSocketResponse, asyncio.Transport | None] = {}


async def stay(request: web.Request) -> web.WebSocketResponse:
    link = web.WebSocketResponse(compress=True)
    await link.prepare(request)
    links[link] = request.transport
    async for _ in link:
        pass
    del links[link]
    return link


async def main(size: int, said: Sequence[bytes]) -> None:
    messages, text = cycle(said), WSMsgType.TEXT

    async def say() -> None:
        message = next(messages)
        for link in links:
            await link.send_frame(message, text)

    app = web.Application()
    app.router.add_get("/", stay)
    answer(port=await serve(app), unit="compressed")
    await obey(say, lambda: filter(None, links.values()), size, unit=1)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), read_events(sys.argv[2])))
