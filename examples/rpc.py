"""Two programs that ask each other, over one link and without a hub.

    python examples/rpc.py --port 9002
    python examples/rpc.py --ask ws://127.0.0.1:9002

The first builds things. The second asks it to, is asked for its consent meanwhile, and follows what is done.
"""

import argparse
from collections.abc import AsyncIterator

import attrs
import trio

from trio_hub import Calls, Link, RequestFailed, Router, open_calls, serve_links

builder, customer = Router(), Router()


@attrs.frozen
class Build:
    name: str
    steps: int = 3


@builder.action("build")
async def build(calls: Calls, data: Build) -> AsyncIterator[str]:
    if not await calls.request("agree", {"to": data.name}, deadline=10):
        raise RequestFailed(403, "no_consent", "you do not want it")
    for step in range(1, data.steps + 1):
        await trio.sleep(0.01)
        yield f"{data.name}: step {step} of {data.steps}"


@customer.action("agree")
def agree(calls: Calls, data: dict[str, str]) -> bool:
    return data["to"] != "a bomb"


async def serve(link: Link) -> None:
    async with Calls(link, builder).running() as calls:
        await calls.wait_ended()


async def ask(url: str) -> None:
    async with open_calls(url, customer) as calls:
        for name in ("a boat", "a bomb"):
            async with calls.stream("build", {"name": name}) as steps:
                try:
                    async for step in steps:
                        print(step)
                except RequestFailed as failure:
                    print(f"{name}: {failure.message}")


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(serve_links, serve, host, port)
        print(f"ws://{host}:{listeners[0].socket.getsockname()[1]}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", metavar="URL", help="ask there, instead of being asked")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    said = parser.parse_args()
    if said.ask:
        trio.run(ask, said.ask)
    else:
        trio.run(main, said.host, said.port)
