"""A hub and its clients in memory, with weather: for tests of this package and of applications::

    async def test_what_was_said_while_away_arrives(autojump_clock):
        async with open_hub_and_client() as (hub, client):
            client.weather.cut()
            await hub.publish(Event("tick", {"n": 1}), to=everyone())
            client.weather.mend()
            assert (await client.receive()).data == {"n": 1}

Nothing here takes real time: use it with pytest-trio's `autojump_clock`, or any clock of trio's.
"""

from trio_hub.testing.cable import Cable, CableEnd, Direction
from trio_hub.testing.frame import Frame, Opcode
from trio_hub.testing.script import (
    Response,
    ScriptedClient,
    ScriptedPeer,
    ScriptedServer,
    open_scripted_server,
    upgrade_request,
    upgrade_response,
)
from trio_hub.testing.weather import Weather
from trio_hub.testing.world import WeatheredClient, World, open_hub_and_client, open_world

__all__ = [
    "Cable",
    "CableEnd",
    "Direction",
    "Frame",
    "Opcode",
    "Response",
    "ScriptedClient",
    "ScriptedPeer",
    "ScriptedServer",
    "Weather",
    "WeatheredClient",
    "World",
    "open_hub_and_client",
    "open_scripted_server",
    "open_world",
    "upgrade_request",
    "upgrade_response",
]
