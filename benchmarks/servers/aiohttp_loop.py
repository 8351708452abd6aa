"""aiohttp on uvloop: it has no broadcast, so a loop over its links, with their public `send_frame`.

That is what `send_str` does once it has encoded the text, which this way is done once for all. aiohttp itself waits
behind every 64 KiB for a link that does not drain.

    python -m benchmarks.servers.aiohttp_loop SIZE [FILE]

With FILE, it is the messages there that are said, with aiohttp's own compression.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.chat import messages_of
from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.pace import COMPRESSED, obey


async def main(size: int, *file: str) -> None:
    links: dict[web.WebSocketResponse, asyncio.Transport | None] = {}
    messages, text = messages_of(size, *file, make=bytes), WSMsgType.TEXT

    async def stay(request: web.Request) -> web.WebSocketResponse:
        link = web.WebSocketResponse(compress=bool(file))
        await link.prepare(request)
        links[link] = request.transport
        async for _ in link:
            pass
        del links[link]
        return link

    async def say() -> None:
        message = next(messages)
        for link in links:
            await link.send_frame(message, text)

    app = web.Application()
    app.router.add_get("/", stay)
    answer(port=await serve(app), **(COMPRESSED if file else {}))
    await obey(say, lambda: filter(None, links.values()), size, unit=1 if file else None)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))
