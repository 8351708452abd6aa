"""All that is between a client and a server, in memory, and either end as a test would play it::

    cable       two streams, and what befalls the bytes between them
    listener    where servers accept such streams
    weather     what happens to one client's links
    world       a running server, and whoever connects to it
    script      peers that a test plays itself, frame by frame
    proxy       what befalls the bytes between two real programs
    contracts   what every backplane, codec, transport and store must do (to be imported by itself)

Nothing here takes real time, but the proxy: use it with pytest-trio's `autojump_clock`, or any clock of trio's. pytest
finds the fixtures `hub_world`, `hub_server` and `hub_random` by itself.
"""

from trio_hub.testing.cable import Cable, CableEnd, Direction
from trio_hub.testing.frame import Frame, Opcode
from trio_hub.testing.listener import CableListener
from trio_hub.testing.proxy import Proxy, open_proxy
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
    "CableListener",
    "Direction",
    "Frame",
    "Opcode",
    "Proxy",
    "Response",
    "ScriptedClient",
    "ScriptedPeer",
    "ScriptedServer",
    "Weather",
    "WeatheredClient",
    "World",
    "open_hub_and_client",
    "open_proxy",
    "open_scripted_server",
    "open_world",
    "upgrade_request",
    "upgrade_response",
]
