"""A message queue: listeners name their topics, and get whatever senders say to one.

    python examples/message_queue.py --port 9002

All in JSON. {"listen": "news"} makes a link a listener; {"topic": "news", "say": "hello"} goes to all listeners of that
topic as it is, and is answered with {"taken": 2}, the number of them. Nothing is kept for those who are away: hubs do
that. A listener that does not keep up is let go, and nobody else waits for it.
"""

import argparse
import json

import trio

from trio_hub import Incoming, Kind, Link, PoolOptions, WhenFull, open_pool, serve_links


async def serve(host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve until cancelled; `nursery.start` returns the port."""
    async with trio.open_nursery() as nursery, open_pool(PoolOptions(when_full=WhenFull.END)) as pool:

        @pool.on_message(Kind.TEXT)
        async def obey(message: Incoming, link: Link) -> None:
            said = await message.read()
            match json.loads(said):
                case {"listen": str(topic)}:
                    pool.join(link, topic)
                case {"topic": str(topic), "say": _}:
                    sent = await pool.to_group(topic, said)
                    await link.send(json.dumps({"taken": sent.taken}))

        async def handler(link: Link) -> None:
            await pool.keep(link)

        listeners = await nursery.start(lambda **status: serve_links(handler, host, port, **status))
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.sleep_forever()


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        print(f"ws://{host}:{await nursery.start(serve, host, port)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    said = parser.parse_args()
    trio.run(main, said.host, said.port)
