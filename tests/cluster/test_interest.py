"""Whoever relies on hearing something hears it, or it is known to be missing."""

from contextlib import asynccontextmanager

import pytest
import trio

from tests.cluster.several import open_nodes
from trio_hub.cluster.interest import Interest
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.errors import Gap
from trio_hub.messages import Event
from trio_hub.targets import topic


class SlowBackplane(MemoryBackplane):
    """Takes its time until a subscription is in effect."""

    delay = 0.0

    @asynccontextmanager
    async def join(self, node):
        async with super().join(node) as member:
            listen = member.listen

            async def listen_later(channels, *, reliable=False):
                await trio.sleep(self.delay)
                await listen(channels, reliable=reliable)

            member.listen = listen_later
            yield member


@asynccontextmanager
async def interest_that_takes(seconds):
    """What a node listens to, where that takes so long from now on."""
    backplane = SlowBackplane()
    async with backplane.join("a") as member, trio.open_nursery() as nursery:
        interest = Interest("abcdef", lambda channels: None, lambda channel: None, lambda: False)
        nursery.start_soon(interest.run, member)
        interest.want("t:first")
        await trio.testing.wait_all_tasks_blocked()
        backplane.delay = seconds
        yield interest
        nursery.cancel_scope.cancel()


async def test_a_subscription_waits_until_it_is_in_effect(autojump_clock):
    async with interest_that_takes(0.5) as interest:
        begun = trio.current_time()
        async with interest.expecting(["t:town"]):
            assert "t:town" in interest
            assert trio.current_time() == pytest.approx(begun + 0.5)
        await trio.sleep(1)
        assert "t:town" not in interest


async def test_what_nobody_waits_for_any_longer_is_relied_on(autojump_clock):
    async with interest_that_takes(5) as interest:
        interest.want("t:town")
        assert "t:town" not in interest
        await interest.wait_listening(["t:town"])
        assert "t:town" in interest
        interest.let_go("t:town")
        assert "t:town" not in interest


async def test_what_is_said_before_a_late_subscription_is_told_as_a_gap(autojump_clock):
    backplane = SlowBackplane()
    async with open_nodes("a", "b", backplane=backplane) as (_, (a, b)), b.open_client(token="bob") as bob:
        backplane.delay = 3
        await bob.subscribe("town")  # which is answered before it is in effect
        await a.server.publish(Event("missed"), to=topic("town"))
        with pytest.raises(Gap), trio.fail_after(1):
            await anext(bob)
        with pytest.raises(Gap), trio.fail_after(5):  # when it is in effect: more may have been missed by then
            await anext(bob)
        await a.server.publish(Event("heard"), to=topic("town"))
        assert (await anext(bob)).name == "heard"


@pytest.mark.parametrize("phase", [0.0, 0.1, 0.2, 0.3, 0.4])
async def test_what_is_said_just_before_a_late_subscription_is_in_effect_is_told_as_a_gap(phase, autojump_clock):
    backplane = SlowBackplane()
    async with open_nodes("a", "b", backplane=backplane) as (_, (a, b)), b.open_client(token="bob") as bob:
        await trio.sleep(phase)
        backplane.delay = 1.5
        await bob.subscribe("town")
        await trio.sleep(0.2)
        await a.server.publish(Event("missed"), to=topic("town"))
        with pytest.raises(Gap), trio.fail_after(1):
            await anext(bob)
