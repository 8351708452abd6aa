"""The main job, as a user does it: one server, two listeners, one sender, and a bad road between them all.

Programs of their own on real sockets. Every listener prints every line once and in order, though the server is
frozen for a while and every link is lost again and again in each of three ways.
"""

import itertools
import json
import os
import signal

import pytest
import trio

from tests.processes import TRIO_HUB, program, run, serve
from tests.stories.proxy import Proxy

LINES = int(os.environ.get("TRIO_HUB_LINES", "5000"))
PATIENCE = 60 + LINES / 500  # s


async def spoil(proxies, patience):
    """Lose one link after the other, in one way after the other."""
    ways = itertools.cycle((Proxy.reset, Proxy.close_cleanly, Proxy.abandon))
    for proxy in itertools.cycle(proxies):
        await trio.sleep(patience)
        way = next(ways)
        if proxy.is_carrying:
            way(proxy)


async def freeze(server, seconds):
    await trio.sleep(0.5)
    server.process.send_signal(signal.SIGSTOP)
    await trio.sleep(seconds)
    server.process.send_signal(signal.SIGCONT)


@pytest.fixture
async def lines(tmp_path):
    """What is sent: enough of it that the road is bad meanwhile."""
    return b"".join(b'{"n": %d}\n' % n for n in range(LINES))


async def test_every_line_arrives_once_and_in_order_on_a_bad_road(lines):
    async with serve() as (server, url), trio.open_nursery() as tasks:
        target = int(url.removesuffix("/ws").rpartition(":")[2])
        proxies = [Proxy(target) for _ in range(3)]
        for proxy in proxies:
            await tasks.start(proxy.run)
        ann, bob, sender = (f"ws://127.0.0.1:{proxy.port}/ws" for proxy in proxies)
        with trio.fail_after(PATIENCE):
            async with (
                program(*TRIO_HUB, "listen", ann, "town") as first,
                program(*TRIO_HUB, "listen", bob, "town") as second,
            ):
                for ear in (first, second):
                    await ear.wait_for_error("listening")
                tasks.start_soon(spoil, proxies, 0.1)
                tasks.start_soon(freeze, server, 1)
                sent = await run(*TRIO_HUB, "send", sender, "town", "-", stdin=lines)
                assert (sent.returncode, sent.stdout) == (0, b""), sent.stderr.decode()
                for ear in (first, second):
                    heard = [json.loads(await ear.line())["data"]["n"] for _ in range(LINES)]
                    assert heard == list(range(LINES))
                    assert b"gap" not in ear.errors
                    assert ear.errors.count(b"nothing is lost") >= 2  # the road was bad indeed
        tasks.cancel_scope.cancel()
