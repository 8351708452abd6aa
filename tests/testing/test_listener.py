"""A listener in memory, under servers that accept their streams themselves."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio_websocket

from trio_hub import LinkLost, Server, open_client, serve_links
from trio_hub.link.opening import request_link
from trio_hub.testing import CableListener, Weather


async def echo(link):
    async for message in link:
        await link.send(message)


async def test_any_server_of_streams_can_be_reached(autojump_clock):
    async def greet(stream):
        await stream.send_all(b"hello " + await stream.receive_some())

    listener = CableListener()
    async with trio.open_nursery() as tasks:
        await tasks.start(trio.serve_listeners, greet, [listener])
        near = listener.dial()
        await near.send_all(b"you")
        assert await near.receive_some() == b"hello you"
        tasks.cancel_scope.cancel()


async def test_a_server_of_links_in_weather_and_anybodys_client(autojump_clock):
    listener = CableListener()
    weather = Weather(listener.reach)
    weather.split(1)
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(serve_links, echo, listeners=[listener]))
        socket = await trio_websocket.wrap_client_stream(tasks, await weather.open_stream(), "memory", "/")
        await socket.send_message("hello")
        assert await socket.get_message() == "hello"
        weather.cut_once()
        link = await request_link(await weather.open_stream(), host="memory", resource="/")
        async with link.running():
            await link.send("again")
            assert await link.receive() == ["again"]
        tasks.cancel_scope.cancel()


async def test_a_server_that_listens_by_itself_can_be_drained(autojump_clock):
    listener, server = CableListener(), Server()
    weather = Weather(listener.reach)
    async with trio.open_nursery() as tasks:
        await tasks.start(partial(server.serve, listeners=[listener]))
        async with open_client("ws://hub", open_stream=weather.open_stream) as client:
            assert (await client.request("ping"))["text"] == "pong"
            await server.drain()
            with pytest.raises(LinkLost, match="nobody listens"):
                await weather.open_stream()
        tasks.cancel_scope.cancel()


async def test_whoever_accepts_is_woken_when_the_listener_is_closed():
    listener = CableListener()
    async with trio.open_nursery() as tasks:

        async def accept_in_vain():
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        tasks.start_soon(accept_in_vain)
        await trio.testing.wait_all_tasks_blocked()
        await listener.aclose()
