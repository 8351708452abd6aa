"""Real nodes, real Redis, and whatever may befall them, seeded: everybody hears everything once, or of a gap.

``python -m tests.cluster.chaos --help`` says what may be chosen; ``nox -s chaos`` runs it at length.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.processes import children_of
from tests.redis_servers import RedisServer
from trio_hub import Client, Gap, OutcomeUnknown, RequestFailed, open_client
from trio_hub.link.dialing import Address, connect
from trio_hub.link.tasks import open_tasks
from trio_hub.testing import Proxy, open_proxy

TOPIC = "town"


@attrs.frozen(kw_only=True)
class Plan:
    """What is run, and what befalls it; times in seconds, 0 for never."""

    nodes: int = 2
    workers: int = 2
    clients: int = 500
    publishers: int = 4
    publish_every: float = 0.25
    lasts: float = 180.0
    cut_every: float = 2.0
    kill_every: float = 10.0
    freeze_every: float = 0.0
    cut_off_every: float = 0.0
    """A node, with all its workers, from Redis."""
    freeze_redis_every: float = 0.0
    fault_lasts: float = 3.0
    """For how long something is frozen or cut off, on average."""
    redis_away_at: float = 60.0
    redis_away_for: float = 60.0
    noticed_within: float = 15.0
    """A gap is told so long after what it is about, where nothing is away any more; machines may be slow."""
    seed: int = 1


@attrs.define
class Heard:
    """What one client heard: events by who said them and their numbers, how often, and when first; at which times; and
    when it was told of gaps.
    """

    events: Counter[tuple[int, int]] = attrs.field(factory=Counter)
    first: dict[tuple[int, int], float] = attrs.field(factory=dict)
    since_gap: set[tuple[int, int]] = attrs.field(factory=set)
    twice: int = 0
    times: list[float] = attrs.field(factory=list)
    gaps: list[float] = attrs.field(factory=list)


class Nodes:
    """`trio-hub serve` processes: a port for each node, several workers on it."""

    def __init__(self, plan: Plan, redis: RedisServer, directory: Path) -> None:
        self._plan = plan
        self._redis = redis
        self.proxies: list[Proxy] = []  # between each node and Redis, where that is to fail
        self._tokens = directory / "tokens.json"
        names = [f"c{number}" for number in range(plan.clients)] + [f"p{number}" for number in range(plan.publishers)]
        self._tokens.write_text(json.dumps({name: name for name in names}))
        self.ports = [_free_port() for _ in range(plan.nodes)]
        self._processes: list[trio.Process] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                for port in self.ports:
                    self._processes.append(await self._start(port, await self._backplane(stack)))
                yield
            finally:
                for process in self._processes:
                    process.terminate()
                with trio.move_on_after(20, shield=True):
                    for process in self._processes:
                        await process.wait()

    async def _backplane(self, stack: AsyncExitStack) -> str:
        """Return where a node finds Redis."""
        if not self._plan.cut_off_every:
            return self._redis.url
        self.proxies.append(await stack.enter_async_context(open_proxy(self._redis.port)))
        return f"redis://127.0.0.1:{self.proxies[-1].port}"

    async def _start(self, port: int, backplane: str) -> trio.Process:
        command = [sys.executable, "-m", "trio_hub", "serve", "--port", str(port), "--tokens", str(self._tokens)]
        command += ["--backplane", backplane, "--workers", str(self._plan.workers), "--log-level", "error"]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        with trio.fail_after(60):
            said = b""
            while b"listening on" not in said:
                data = await process.stdout.receive_some()
                assert data, "a node does not start"
                said += data
        return process

    def workers(self) -> list[int]:
        """The process ids of those that serve."""
        return [child for process in self._processes for child in children_of(process.pid)]


class Run:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(plan.seed)
        self.heard = [Heard() for _ in range(plan.clients)]
        self.said: dict[tuple[int, int], float] = {}  # when each was published for sure
        self.uncertain: set[tuple[int, int]] = set()
        self.counts: Counter[str] = Counter()
        self.delays: list[float] = []
        self.away: tuple[float, float] = (0.0, 0.0)  # when Redis was
        self._streams: dict[str, trio.SocketStream] = {}
        self._ports: list[int] = []

    def _url(self) -> str:
        return f"ws://127.0.0.1:{self.random.choice(self._ports)}/ws"

    async def _dial(self, who: str, address: Address) -> trio.abc.Stream:
        stream = await connect(address)
        assert isinstance(stream, trio.SocketStream)
        self._streams[who] = stream
        return stream

    def _client(self, who: str) -> Any:
        return open_client(self._url, token=who, open_stream=partial(self._dial, who))

    async def listen(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        heard = self.heard[number]
        async with self._client(f"c{number}") as client:
            await client.subscribe(TOPIC)
            task_status.started()
            while True:
                try:
                    async for event in client:
                        key = event.data["by"], event.data["n"]
                        heard.events[key] += 1
                        heard.twice += key in heard.since_gap
                        heard.since_gap.add(key)
                        now = time.time()
                        heard.first.setdefault(key, now)
                        heard.times.append(now)
                        self.delays.append(now - event.data["at"])
                except Gap:
                    heard.gaps.append(time.time())
                    heard.since_gap.clear()

    async def publish(self, number: int) -> None:
        async with self._client(f"p{number}") as client:
            count = 0
            while True:
                await trio.sleep(self.plan.publish_every * self.random.uniform(0.5, 1.5))
                count += 1
                await self._publish_one(client, number, count)

    async def _publish_one(self, client: Client, by: int, count: int) -> None:
        now = time.time()
        data = {"by": by, "n": count, "at": now}
        self.uncertain.add((by, count))
        try:
            await client.publish(TOPIC, "news", data)
        except (OutcomeUnknown, RequestFailed) as error:
            self.counts[f"publishes: {type(error).__name__}"] += 1
        else:
            self.uncertain.discard((by, count))
            self.said[by, count] = now

    async def cut(self, who: str) -> None:
        while True:
            await trio.sleep(self.plan.cut_every * self.random.uniform(0.5, 1.5))
            stream = self._streams.get(who)
            if stream is not None:
                try:
                    stream.socket.shutdown(socket.SHUT_RDWR)
                    self.counts["links cut"] += 1
                except OSError:
                    pass  # it has ended already

    async def befall(self, every: float, what: Callable[[], Any]) -> None:
        while True:
            await trio.sleep(every)
            result = what()
            if result is not None:
                await result

    def kill_one(self, nodes: Nodes) -> None:
        workers = nodes.workers()
        if workers:
            _send(self.random.choice(workers), signal.SIGKILL)
            self.counts["workers killed"] += 1

    async def _while_it_lasts(self, fault: str) -> None:
        self.counts[fault] += 1
        await trio.sleep(self.plan.fault_lasts * self.random.uniform(0.2, 1.8))

    async def freeze_one(self, nodes: Nodes) -> None:
        workers = nodes.workers()
        if workers:
            pid = self.random.choice(workers)
            _send(pid, signal.SIGSTOP)
            try:
                await self._while_it_lasts("workers frozen")
            finally:
                _send(pid, signal.SIGCONT)

    async def cut_one_off(self, nodes: Nodes) -> None:
        proxy = self.random.choice(nodes.proxies)
        self.random.choice([proxy.cut, proxy.stall])()
        try:
            await self._while_it_lasts("nodes cut off from Redis")
        finally:
            proxy.mend()

    async def freeze_redis(self, redis: RedisServer) -> None:
        redis.freeze()
        try:
            await self._while_it_lasts("times Redis was frozen")
        finally:
            redis.thaw()

    async def take_redis_away(self, redis: RedisServer) -> None:
        await trio.sleep(self.plan.redis_away_at)
        begun = time.time()
        self.away = (begun, begun + self.plan.redis_away_for)
        redis.kill()
        await trio.sleep(self.plan.redis_away_for)
        await trio.to_thread.run_sync(redis.start)
        self.away = (begun, time.time())
        self.counts["times Redis was restarted, empty"] += 1

    async def run(self) -> None:
        plan = self.plan
        with RedisServer() as redis, tempfile.TemporaryDirectory() as directory:
            nodes = Nodes(plan, redis, Path(directory))
            self._ports = nodes.ports
            async with nodes.running(), open_tasks() as listening:
                for number in range(plan.clients):
                    await listening.start(self.listen, number)
                async with open_tasks() as publishing:
                    for number in range(plan.publishers):
                        publishing.start_soon(self.publish, number)
                    async with open_tasks() as trouble:
                        if plan.cut_every:
                            for number in range(plan.clients):
                                trouble.start_soon(self.cut, f"c{number}")
                        for every, fault in (
                            (plan.kill_every, partial(self.kill_one, nodes)),
                            (plan.freeze_every, partial(self.freeze_one, nodes)),
                            (plan.cut_off_every, partial(self.cut_one_off, nodes)),
                            (plan.freeze_redis_every, partial(self.freeze_redis, redis)),
                        ):
                            if every:
                                trouble.start_soon(self.befall, every, fault)
                        if plan.redis_away_for:
                            trouble.start_soon(self.take_redis_away, redis)
                        await trio.sleep(plan.lasts)
                        trouble.cancel_scope.cancel()
                    await trio.sleep(5)
                    publishing.cancel_scope.cancel()
                with trio.move_on_after(plan.noticed_within):
                    while self.missing():  # noqa: ASYNC110 - whatever comes may be what is missing
                        await trio.sleep(1)
                listening.cancel_scope.cancel()

    def missing(self) -> list[tuple[int, tuple[int, int]]]:
        """Return who has not heard what, though nobody told them of a gap."""
        return [
            (number, key)
            for number, heard in enumerate(self.heard)
            for key, at in self.said.items()
            if key not in heard.events and not self._is_told(heard, at)
        ]

    def _is_told(self, heard: Heard, at: float) -> bool:
        """Whether a client was told of a gap in time: or, where it was away until then, before anything else."""
        begun, ended = self.away
        until = max(at, ended if begun - 3 <= at <= ended else 0) + self.plan.noticed_within
        gap = next((gap for gap in heard.gaps if gap >= at - 1), None)
        return gap is not None and (gap <= until or bisect(heard.times, gap) == bisect(heard.times, until))

    def waits(self) -> list[float]:
        """Return how long it took, in seconds, until each client had heard each event, or was told of a gap."""
        waits = []
        for heard in self.heard:
            for key, at in self.said.items():
                told = heard.gaps[bisect(heard.gaps, at) :][:1]
                waits += [min([heard.first.get(key, math.inf), *told]) - at]
        return sorted(waits)

    def report(self) -> dict[str, Any]:
        delays = sorted(self.delays)
        expected = len(self.said) * len(self.heard)
        delivered = sum(len(heard.events.keys() & self.said.keys()) for heard in self.heard)
        missing = self.missing()
        waits = self.waits()
        return {
            "clients": len(self.heard),
            **self.counts,
            "events published": len(self.said),
            "of unknown outcome": len(self.uncertain),
            "deliveries owed": expected,
            "delivered": delivered,
            "told of as a gap instead": expected - delivered - len(missing),
            "missing without a word": len(missing),
            "delivered twice": sum(heard.twice for heard in self.heard),
            "again behind a gap": sum(count > 1 for heard in self.heard for count in heard.events.values()),
            "gaps told": sum(len(heard.gaps) for heard in self.heard),
            "median delay, ms": round(delays[len(delays) // 2] * 1000, 1) if delays else None,
            "p99 delay, ms": round(delays[len(delays) * 99 // 100] * 1000, 1) if delays else None,
            "p99 until heard or told, s": round(waits[len(waits) * 99 // 100], 1) if waits else None,
            "longest until heard or told, s": round(waits[-1], 1) if waits else None,
        }


def _send(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def main() -> None:
    """Run a plan, print what came of it, and say by the exit status whether it was good."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in attrs.fields(Plan):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    run = Run(Plan(**vars(parser.parse_args())))
    trio.run(run.run)
    report = run.report()
    for name, value in report.items():
        print(f"{name:<36} {value:>12}")
    sys.exit(bool(report["missing without a word"] or report["delivered twice"]))


if __name__ == "__main__":
    main()
