"""The README's program: a hub, a client, and a cable that is cut in between.

python examples/quick_start.py
"""

import trio

from trio_hub import Event, Server, open_client, topic


async def main() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(server.serve, "127.0.0.1", 0)
        port = listeners[0].socket.getsockname()[1]

        async with open_client(f"ws://127.0.0.1:{port}") as client:
            await client.subscribe("town")
            for n in range(3):
                await server.publish(Event("tick", {"n": n}), to=topic("town"))
            for _ in range(3):
                event = await client.receive()
                print(event.name, event.data)

        await server.drain()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
