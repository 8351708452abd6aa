"""A program that follows prices, against servers that behave badly: it gets over all of them."""

from functools import partial

import pytest
import trio

from trio_hub import Event, Gap, open_client, topic
from trio_hub.testing import Frame, Opcode, Weather, open_scripted_server

# -- the application ---------------------------------------------------------------------------------------------


async def follow(url, prices, *, open_stream=None, task_status=trio.TASK_STATUS_IGNORED):
    """Keep `prices` up to date, for ever. It has started when the first of them may come."""
    async with open_client(url, open_stream=open_stream) as client:
        await client.subscribe("prices")
        task_status.started()
        while True:
            try:
                event = await client.receive()
                prices.update(event.data)
            except Gap:
                prices.clear()  # better no price than an old one


# -- its tests ---------------------------------------------------------------------------------------------------


async def refuse(server):
    await server.refuse(503, b"not today")


async def answer_with_nonsense(server):
    await server.say_raw(b"220 mail.example.org ESMTP\r\n")


async def say_a_frame_that_cannot_be(server):
    await server.accept(subprotocol="trio-hub.v1.json")
    await server.say(Frame(Opcode.TEXT, b"{}", reserved=4))
    while await server.hear() != Frame.close(1002, "reserved bits are set that no agreed extension has there"):
        pass


async def tear_a_frame(server):
    await server.accept(subprotocol="trio-hub.v1.json")
    await server.say_raw(Frame.text("{}").encoded(masked=False)[:3])


async def accept_and_fall_silent(server):
    await server.accept(subprotocol="trio-hub.v1.json")
    await trio.sleep_forever()


BAD = [refuse, answer_with_nonsense, say_a_frame_that_cannot_be, tear_a_frame, accept_and_fall_silent]


@pytest.mark.parametrize("scripts", [*([each] for each in BAD), BAD], ids=lambda scripts: scripts[-1].__name__)
async def test_it_gets_over_servers_that_behave_badly(scripts, hub_world, autojump_clock):
    async def behave(server):
        await hub_world.server.serve_stream(server.stream)

    prices = {}
    async with open_scripted_server(*scripts, behave) as weather, trio.open_nursery() as tasks:
        with trio.fail_after(600):
            await tasks.start(partial(follow, "ws://prices", prices, open_stream=weather.open_stream))
        assert weather.dials == len(scripts) + 1
        await hub_world.server.publish(Event("price", {"tea": 3}), to=topic("prices"))
        await trio.sleep(1)
        assert prices == {"tea": 3}
        tasks.cancel_scope.cancel()


async def test_it_forgets_its_prices_when_it_missed_some(hub_world, autojump_clock):
    prices, weather = {}, Weather(hub_world.reach)
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(follow, "ws://prices", prices, open_stream=weather.open_stream))
        await hub_world.server.publish(Event("price", {"tea": 3}), to=topic("prices"))
        await trio.sleep(1)
        weather.cut()
        await trio.sleep(100)  # longer than the server waits for it
        weather.mend()
        await trio.sleep(100)
        assert prices == {}
        tasks.cancel_scope.cancel()
