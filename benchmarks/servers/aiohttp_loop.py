"""aiohttp on uvloop: it has no broadcast, so a loop over its links, with their public `send_frame`.

That is what `send_str` does once it has encoded the text, which this way is done once for all. aiohttp itself waits
behind every 64 KiB for a link that does not drain.

    python -m benchmarks.servers.aiohttp_loop SIZE
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.pace import obey

links: dict[web.WebSocketResponse, asyncio.Transport | None] = {}


async def stay(request: web.Request) -> web.WebSocketResponse:
    link = web.WebSocketResponse(compress=False)
    await link.prepare(request)
    links[link] = request.transport
    async for _ in link:
        pass
    del links[link]
    return link


async def main(size: int) -> None:
    message, text = b"x" * size, WSMsgType.TEXT

    async def say() -> None:
        for link in links:
            await link.send_frame(message, text)

    app = web.Application()
    app.router.add_get("/", stay)
    answer(port=await serve(app))
    await obey(say, lambda: filter(None, links.values()), size)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
