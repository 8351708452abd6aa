"""Several processes on one port, as a user starts them: one is killed, all are replaced, all leave."""

import json
import os
import signal
from pathlib import Path

import pytest
import trio

from tests.processes import PATIENCE, TRIO_HUB, children_of, program, run
from tests.redis_servers import RedisServer
from trio_hub import Gap, open_client

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")


def workers_of(process: trio.Process) -> set[int]:
    """The process ids of those that were started by this one and live."""
    return {child for child in children_of(process.pid) if _state(child) != "Z"}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


async def wait_until(what) -> None:
    with trio.fail_after(PATIENCE):
        while not what():  # noqa: ASYNC110 - nobody tells of what becomes of another's processes
            await trio.sleep(0.05)


async def test_several_processes_take_a_redis():
    result = await run(*TRIO_HUB, "serve", "--workers", "2")
    assert result.returncode == 2
    assert b"--workers takes --backplane" in result.stderr


async def test_a_life_of_two_workers(tmp_path):
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"secret": "ann", "other": "bob"}))
    with RedisServer() as redis:
        command = [*TRIO_HUB, "serve", "--port", "0", "--workers", "2", "--backplane", redis.url]
        async with program(*command, "--tokens", str(tokens)) as serving:
            said = await serving.line()
            assert said.startswith("listening on ws://127.0.0.1:")
            assert said.endswith(" with 2 workers")
            url = said.split()[2]
            begun = workers_of(serving.process)
            assert len(begun) == 2
            async with open_client(url, token="secret") as ann, open_client(url, token="other") as bob:
                await ann.subscribe("town")

                os.kill(min(begun), signal.SIGKILL)
                await serving.wait_for_error("has ended with -9")
                await wait_until(lambda: len(workers_of(serving.process)) == 2)
                await hear_again(ann, bob)

                before = workers_of(serving.process)
                serving.process.send_signal(signal.SIGHUP)
                for number in range(100):  # one after the other is replaced meanwhile
                    await bob.publish("town", "news", {"n": number})
                    await trio.sleep(0.05)
                heard = []
                while len(heard) < 100:  # and no gap, which would be raised
                    event = await ann.receive()
                    if event.name == "news":
                        heard.append(event.data["n"])
                assert heard == list(range(100))
                await wait_until(lambda: not before & workers_of(serving.process))

            last = workers_of(serving.process)
            assert await serving.end() == 0
            assert all(_state(pid) == "Z" for pid in last)


async def hear_again(ann, bob) -> None:
    """Whoever was at the worker that is gone is told of a gap; then all is as it was."""
    while True:
        await bob.publish("town", "again")
        with trio.move_on_after(1):
            try:
                await ann.receive()
                return
            except Gap:
                continue


async def test_workers_do_not_outlive_who_started_them():
    with RedisServer() as redis:
        command = [*TRIO_HUB, "serve", "--port", "0", "--workers", "2", "--backplane", redis.url]
        async with program(*command) as serving:
            await serving.line()
            workers = workers_of(serving.process)
            serving.process.kill()
            await wait_until(lambda: all(_state(pid) == "Z" for pid in workers))


async def test_a_worker_that_is_lost_while_a_replacement_fails_is_replaced(tmp_path):
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"secret": "ann"}))
    with RedisServer() as redis:
        command = [*TRIO_HUB, "serve", "--port", "0", "--workers", "2", "--backplane", redis.url]
        async with program(*command, "--tokens", str(tokens)) as serving:
            url = (await serving.line()).split()[2]
            begun = workers_of(serving.process)
            tokens.write_text("nonsense")
            serving.process.send_signal(signal.SIGHUP)
            for pid in begun:  # while the first new one is on its way
                os.kill(pid, signal.SIGKILL)
            await serving.wait_for_error("does not listen")
            tokens.write_text(json.dumps({"secret": "ann"}))
            await wait_until(lambda: len(workers_of(serving.process)) == 2)
            async with open_client(url, token="secret") as ann:
                await ann.request("ping")


async def test_who_is_told_to_leave_while_it_replaces_workers_leaves_at_once():
    with RedisServer() as redis:
        command = [*TRIO_HUB, "serve", "--port", "0", "--workers", "3", "--backplane", redis.url]
        async with program(*command) as serving:
            await serving.line()
            begun = workers_of(serving.process)
            serving.process.send_signal(signal.SIGHUP)
            await wait_until(lambda: workers_of(serving.process) - begun)  # the first new one is on its way
            seen = begun | workers_of(serving.process)
            assert await serving.end() == 0
            assert workers_of(serving.process) == set()
            assert all(_state(pid) == "Z" for pid in seen)
