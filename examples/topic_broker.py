"""A broker in an application's own nursery, with users and an action of its own.

    python examples/topic_broker.py --port 8065
    trio-hub listen ws://127.0.0.1:8065 town --token secret-of-ann

Users may speak only in the topics that begin with their own name; everybody hears everything. The action `roll`
throws dice for all who hear a topic. Beside the hub, the application has a task of its own that tells the time.
"""

import argparse
import random

import attrs
import trio

from trio_hub import Connection, Event, RequestFailed, Router, Server, Session, known_tokens, topic

USERS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}


@attrs.frozen
class Roll:
    """Throw `dice` dice for everybody who hears `topic`."""

    topic: str
    dice: int = 1


def may_publish(session: Session, name: str, event: Event) -> bool:
    return name.startswith(f"{session.user}.")


def make_server() -> Server:
    router = Router()
    server = Server(router, authenticate=known_tokens(USERS), may_publish=may_publish)

    @router.action("roll")
    async def roll(connection: Connection, data: Roll) -> dict[str, int]:
        if not 1 <= data.dice <= 10:
            raise RequestFailed(400, "bad_dice", "Expected 1 to 10 - at `$.dice`")
        total = sum(random.randint(1, 6) for _ in range(data.dice))
        await server.publish(Event("rolled", {"by": connection.user, "total": total}), to=topic(data.topic))
        return {"total": total}

    return server


async def tell_the_time(server: Server) -> None:
    while True:
        await server.publish(Event("time", {"seconds": trio.current_time()}), to=topic("clock"))
        await trio.sleep(1)


async def main(host: str, port: int) -> None:
    server = make_server()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(server.serve, host, port)
        print(f"ws://{host}:{listeners[0].socket.getsockname()[1]}", flush=True)
        nursery.start_soon(tell_the_time, server)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    trio.run(main, arguments.host, arguments.port)
