"""Ours: links without a hub, which send back whatever a read has brought; the heart and all limits are on.

python -m benchmarks.servers.echo_links
"""

from __future__ import annotations

import trio

from benchmarks.conversation import answer
from benchmarks.servers.cost import tell_cost_on_trio
from trio_hub import Link, serve_links


async def echo(link: Link) -> None:
    while True:
        await link.send_all(await link.receive())


async def main() -> None:
    async with trio.open_nursery() as tasks:
        listeners = await tasks.start(serve_links, echo)
        answer(port=listeners[0].socket.getsockname()[1])
        await tell_cost_on_trio()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
