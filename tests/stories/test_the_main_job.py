"""The main job, as a user does it: one server, two listeners, one sender, and a bad road between them all.

Programs of their own on real sockets. Every listener prints every line once and in order, though the server is
frozen for a while and every link is lost again and again in each of three ways.
"""

import itertools
import json
import os
import signal
from collections import Counter

import pytest
import trio

from tests.processes import TRIO_HUB, program, run, serve
from tests.stories.proxy import Proxy

LINES = int(os.environ.get("TRIO_HUB_LINES", "5000"))
PATIENCE = 60 + LINES / 500  # s
FROST = 1 if LINES < 50_000 else 3  # s
PEACE = 0.1 + LINES / 100_000  # s between two losses of a link: a dozen of them at least


async def spoil(proxies, losses):
    """Lose one link after the other, in one way after the other, and count the losses of each way."""
    ways = itertools.cycle((Proxy.reset, Proxy.close_cleanly, Proxy.abandon, Proxy.reset))
    for proxy in itertools.cycle(proxies):
        await trio.sleep(PEACE)
        way = next(ways)
        if proxy.is_carrying:
            way(proxy)
            losses[way] += 1


async def freeze(server):
    await trio.sleep(0.5)
    server.process.send_signal(signal.SIGSTOP)
    await trio.sleep(FROST)
    server.process.send_signal(signal.SIGCONT)


async def hear(ear):
    heard = [json.loads(await ear.line())["data"]["n"] for _ in range(LINES)]
    assert heard == list(range(LINES))
    assert b"gap" not in ear.errors


@pytest.fixture
async def lines(tmp_path):
    """What is sent: enough of it that the road is bad meanwhile."""
    return b"".join(b'{"n": %d}\n' % n for n in range(LINES))


async def test_every_line_arrives_once_and_in_order_on_a_bad_road(lines):
    async with serve(within=PATIENCE) as (server, url), trio.open_nursery() as tasks:
        target = int(url.removesuffix("/ws").rpartition(":")[2])
        proxies = [Proxy(target) for _ in range(3)]
        for proxy in proxies:
            await tasks.start(proxy.run)
        ann, bob, sender = (f"ws://127.0.0.1:{proxy.port}/ws" for proxy in proxies)
        with trio.fail_after(PATIENCE):
            async with (
                program(*TRIO_HUB, "listen", ann, "town", within=PATIENCE) as first,
                program(*TRIO_HUB, "listen", bob, "town", within=PATIENCE) as second,
            ):
                for ear in (first, second):
                    await ear.wait_for_error("listening")
                losses = Counter()
                tasks.start_soon(spoil, proxies, losses)
                tasks.start_soon(freeze, server)
                async with trio.open_nursery() as reading:
                    for ear in (first, second):
                        reading.start_soon(hear, ear)
                    sent = await run(*TRIO_HUB, "send", sender, "town", "-", stdin=lines)
                    assert (sent.returncode, sent.stdout) == (0, b""), sent.stderr.decode()
                assert len(losses) == 3  # the road was bad indeed
                assert first.errors.count(b"nothing is lost") + second.errors.count(b"nothing is lost") >= 2
        tasks.cancel_scope.cancel()
