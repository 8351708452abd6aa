"""A distributed queue: a topic lives on one of several servers, and moves on while that one is away.

python examples/distributed_queue.py

Whoever uses the same servers agrees where a topic lives: on the one whose name, hashed with the topic's, is the highest
(rendezvous hashing, Thaler and Ravishankar 1998), so only the topics of a lost server move. Listeners are known to all
servers: it does no harm when two clients disagree for a moment about who is there.
"""

import json
from collections.abc import Callable, Mapping
from hashlib import sha256

import trio
from message_queue import serve

from trio_hub import Kind, Link, LinkStatus, Pool, PoolOptions, Sent, WholeMessage, open_pool

HOST = "127.0.0.1"


class Queue:
    """Topics on servers, which are dialled, and dialled again; `hear` is called with topic and words."""

    def __init__(self, pool: Pool, servers: Mapping[str, str], hear: Callable[[str, str], None]) -> None:
        self._pool = pool
        self._hear = hear
        self._topics: set[str] = set()
        pool.on_status(self._introduce)
        pool.on_message(Kind.TEXT)(self._take)
        for name, url in servers.items():
            pool.dial(url, name=name)

    def home_of(self, topic: str) -> str:
        linked = [member.name for member in self._pool.members if member.link is not None]
        return max(linked, key=lambda name: sha256(f"{name} {topic}".encode()).digest())

    async def listen(self, topic: str) -> None:
        self._topics.add(topic)
        await self._pool.to_all(json.dumps({"listen": topic}))

    async def say(self, topic: str, words: str) -> Sent:
        return await self._pool.to_one(self.home_of(topic), json.dumps({"topic": topic, "say": words}))

    async def _introduce(self, previous: LinkStatus, new: LinkStatus, link: Link) -> None:
        if new is LinkStatus.READY:
            await link.send_all([json.dumps({"listen": topic}) for topic in self._topics])

    def _take(self, message: WholeMessage, link: Link) -> None:
        match json.loads(message.data):
            case {"topic": topic, "say": words}:
                self._hear(topic, words)


async def run_server(port: int = 0, *, task_status: trio.TaskStatus[tuple[trio.CancelScope, int]]) -> None:
    async with trio.open_nursery() as nursery:
        task_status.started((nursery.cancel_scope, await nursery.start(serve, HOST, port)))


async def main() -> None:
    hear, heard = trio.open_memory_channel[tuple[str, str]](10)
    async with trio.open_nursery() as nursery, open_pool(PoolOptions(first_retry=0.1)) as pool:
        servers = {name: await nursery.start(run_server) for name in ("ash", "birch", "cedar")}
        urls = {name: f"ws://{HOST}:{port}" for name, (_, port) in servers.items()}
        queue = Queue(pool, urls, lambda *said: hear.send_nowait(said))

        async def say(topic: str, words: str) -> None:
            await queue.say(topic, words)
            print(queue.home_of(topic), "has", *await heard.receive())

        for member in pool.members:
            await member.wait_linked()
        for topic in ("news", "sport", "weather"):
            await queue.listen(topic)
            await say(topic, "hello")

        home = queue.home_of("news")
        life, port = servers[home]
        life.cancel()
        await pool.member(home).wait_lost()
        await say("news", f"{home} is away")

        await nursery.start(run_server, port)
        await pool.member(home).wait_linked()
        await say("news", f"{home} is back")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
