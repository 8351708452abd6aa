"""Tokens of a language model, streamed as a reply; and the link is cut in the midst of it, which costs nothing.

    python examples/llm_stream.py

The model is a fake one. It makes a token when somebody takes it: a client that leaves, or is gone for longer than the
hub's window, stops it, and one that reads slowly slows it down. A client that comes back in time misses nothing.
"""

import socket
from collections.abc import AsyncIterator

import attrs
import trio

from trio_hub import ClientOptions, Connection, RequestFailed, Router, Server, open_client

router = Router()


@attrs.frozen
class Prompt:
    prompt: str
    most: int = 100  # tokens


@router.action("complete")
async def complete(connection: Connection, data: Prompt) -> AsyncIterator[str]:
    if not data.prompt:
        raise RequestFailed(400, "no_prompt", "Expected some words - at `$.prompt`")
    for token in f"You said {data.prompt!r} and I have little to add to that .".split()[: data.most]:
        await trio.sleep(0.02)  # it thinks
        yield token


async def main() -> None:
    sockets: list[socket.socket] = []

    async def open_stream(address) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(address.host, address.port)
        sockets.append(stream.socket)
        return stream

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(Server(router).serve, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        options = ClientOptions(first_retry=0.1)
        async with (
            open_client(url, open_stream=open_stream, options=options) as client,
            client.stream("complete", {"prompt": "hello"}, deadline=30) as tokens,
        ):
            async for token in tokens:
                print(token, end=" ", flush=True)
                if token == "have":
                    sockets[-1].shutdown(socket.SHUT_RDWR)  # a tunnel, say
        print(f"\n(over {len(sockets)} links)")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
