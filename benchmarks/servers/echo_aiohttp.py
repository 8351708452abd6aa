"""aiohttp that echoes, on uvloop: as bytes, so that it need not decode what it encodes at once.

python -m benchmarks.servers.echo_aiohttp
"""

from __future__ import annotations

import uvloop
from aiohttp import web

from benchmarks.conversation import answer
from benchmarks.servers.aiohttp_site import serve
from benchmarks.servers.cost import tell_cost


async def echo(request: web.Request) -> web.WebSocketResponse:
    link = web.WebSocketResponse(compress=False, decode_text=False)
    await link.prepare(request)
    async for message in link:
        await link.send_frame(message.data, message.type)
    return link


async def main() -> None:
    app = web.Application()
    app.router.add_get("/", echo)
    answer(port=await serve(app))
    await tell_cost()


if __name__ == "__main__":
    uvloop.run(main())
