"""A plain WebSocket echo server: text as text, binary as binary.

    python examples/echo.py --port 9001

No hub here: this is the link alone. Try it with any WebSocket client.
"""

import argparse

import trio

from trio_hub import Link, serve_links


async def echo(link: Link) -> None:
    async for message in link:
        await link.send(message)


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(serve_links, echo, host, port)
        print(f"ws://{host}:{listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    trio.run(main, arguments.host, arguments.port)
