"""A plain WebSocket echo server: text as text, binary as binary.

    python examples/echo.py --port 9001

No hub here: this is the link alone. Try it with any WebSocket client.
"""

import argparse
from functools import partial

import trio

from trio_hub import CompressionOptions, Link, LinkOptions, serve_links


async def echo(link: Link) -> None:
    async for message in link:
        await link.send(message)


async def main(host: str, port: int, options: LinkOptions) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(serve_links, echo, host, port, options=options))
        print(f"ws://{host}:{listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    usual = LinkOptions()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--max-message", type=int, default=usual.max_message, help="in bytes")
    parser.add_argument("--max-fragments", type=int, default=usual.max_fragments, help="of one message")
    parser.add_argument("--compress", action="store_true", help="where clients offer it")
    said = parser.parse_args()
    options = LinkOptions(
        max_message=said.max_message,
        max_fragments=said.max_fragments,
        compression=CompressionOptions() if said.compress else None,
    )
    trio.run(main, said.host, said.port, options)
