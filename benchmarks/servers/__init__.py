"""Servers to be measured, ours and others; each is a program that does as it is told on stdin. Here is who they are.

All of a fan-out take a message's size first, answer with their port (``unit`` and ``ack`` as `benchmarks.load.sink`
takes them, where they are not 0 and ``-``), and do ``size MESSAGES`` (answer: ``units`` on each link), ``publish
MESSAGES BURST`` (answer: when it began, and the CPU time until then) and ``cpu``. Those whose clients are cut do as
`benchmarks.servers.ticks` says. All others answer with their port (those of requests with ``spelling`` as
`benchmarks.load.asker` takes it, where it is not ``json``) and do ``cpu``.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders import BUN, NODE, Contender, Opening, node_package

__all__ = ["ECHO", "FAN_OUT", "NODES", "POOL", "REQUESTS", "chats"]

_HUB = "benchmarks.servers.hub"
_WEBSOCKETS = "benchmarks.servers.websockets_broadcast"
_OURS = "/ws?topics=bench"
_ASKED = "benchmarks.servers.requests_hub"
_SOCKET_IO = Opening("/socket.io/?EIO=4&transport=websocket", greetings=2, said="40")
_DEFLATE = "permessage-deflate; client_max_window_bits"
"""What browsers offer."""
_REDIS = "program:redis-server"
_NATS = Opening(greetings=2, said='CONNECT {"verbose":false}\r\nSUB bench 1\r\nPING\r\n')


def _node(file: str) -> list[str]:
    return ["node", str(NODE / file)]


def _bun(file: str) -> list[str]:
    return [str(node_package(BUN)), str(NODE / file)]


FAN_OUT = (
    Contender("trio_hub compat", _HUB, ["compat"], opening=Opening(_OURS, greetings=1)),
    Contender("trio_hub v1.json", _HUB, ["v1.json"], opening=Opening(_OURS, "trio-hub.v1.json", 1)),
    Contender("trio_hub v1.cbor", _HUB, ["v1.cbor"], opening=Opening(_OURS, "trio-hub.v1.cbor", 1)),
    Contender("websockets/asyncio", _WEBSOCKETS, ["asyncio"], ["websockets"]),
    Contender("websockets/uvloop", _WEBSOCKETS, ["uvloop"], ["websockets", "uvloop"]),
    Contender("picows/uvloop", "benchmarks.servers.picows_loop", (), ["picows", "uvloop"]),
    Contender("aiohttp/uvloop", "benchmarks.servers.aiohttp_loop", (), ["aiohttp", "uvloop"]),
    Contender(
        "python-socketio/uvloop",
        "benchmarks.servers.socketio_room",
        (),
        ["socketio", "aiohttp", "uvloop"],
        _SOCKET_IO,
    ),
    Contender("websockets/trio", "benchmarks.servers.websockets_trio_broadcast", (), ["websockets"]),
    Contender("trio-websocket", "benchmarks.servers.trio_websocket_loop"),
    Contender("ws/node", needs=["node:ws"], command=_node("ws_loop.mjs")),
    Contender("socket.io/node", needs=["node:socket.io"], opening=_SOCKET_IO, command=_node("socketio_room.mjs")),
    Contender("Bun", needs=["node:bun", f"node:{BUN}"], command=_bun("bun_topic.mjs")),
    Contender("nats-server", "benchmarks.servers.nats", (), ["program:nats-server"], _NATS),
)

POOL = (
    Contender("trio_hub pool", "benchmarks.servers.pool", opening=Opening(greetings=1)),
    *(each for each in FAN_OUT if each.module == _HUB),
)
"""A pool of links, and hubs beside it."""

ECHO = (
    Contender("trio_hub", "benchmarks.servers.echo_links"),
    Contender("websockets/uvloop", "benchmarks.servers.echo_websockets", ["uvloop"], ["websockets", "uvloop"]),
    Contender("websockets/trio", "benchmarks.servers.echo_websockets", ["trio"], ["websockets"]),
    Contender("picows/uvloop", "benchmarks.servers.echo_picows", (), ["picows", "uvloop"]),
    Contender("aiohttp/uvloop", "benchmarks.servers.echo_aiohttp", (), ["aiohttp", "uvloop"]),
    Contender("trio-websocket", "benchmarks.servers.echo_trio_websocket"),
    Contender("ws/node", needs=["node:ws"], command=_node("ws_echo.mjs")),
    Contender("Bun", needs=["node:bun", f"node:{BUN}"], command=_bun("bun_echo.mjs")),
)

REQUESTS = (
    Contender("trio_hub compat", _ASKED, ["compat"], opening=Opening("/ws", greetings=1)),
    Contender("trio_hub v1.json", _ASKED, ["v1.json"], opening=Opening("/ws", "trio-hub.v1.json", 1, '{"ack":0}')),
    Contender(
        "python-socketio/uvloop",
        "benchmarks.servers.requests_socketio",
        (),
        ["socketio", "aiohttp", "uvloop"],
        _SOCKET_IO,
    ),
    Contender("websockets/uvloop", "benchmarks.servers.requests_websockets", (), ["websockets", "uvloop"]),
    Contender("picows/uvloop", "benchmarks.servers.requests_picows", (), ["picows", "uvloop"]),
    Contender("ws/node", needs=["node:ws"], command=_node("ws_requests.mjs")),
    Contender("socket.io/node", needs=["node:socket.io"], opening=_SOCKET_IO, command=_node("socketio_requests.mjs")),
)

NODES = (
    Contender("trio_hub", "benchmarks.servers.node_hub", (), [_REDIS], Opening("/ws", "trio-hub.v1.json", 1)),
    Contender(
        "python-socketio/uvloop",
        "benchmarks.servers.node_socketio",
        (),
        ["socketio", "redis", "aiohttp", "uvloop", _REDIS],
        _SOCKET_IO,
    ),
)
"""Each is one of two nodes, and does as `benchmarks.servers.nodes` says."""


def chats(file: Path) -> tuple[Contender, ...]:
    """Return who has a fan-out with compression, of the messages in this file; and ours without, to compare."""
    compat, v1 = Opening(_OURS, "-", 1, "", _DEFLATE), Opening(_OURS, "trio-hub.v1.json", 1, "", _DEFLATE)
    ours, theirs = "benchmarks.servers.chat_hub", Opening(extensions=_DEFLATE)
    return (
        Contender("trio_hub compat", ours, [file, "compat", "compressed"], opening=compat),
        Contender("trio_hub v1.json", ours, [file, "v1.json", "compressed"], opening=v1),
        Contender("trio_hub v1.json, plain", ours, [file, "v1.json", "plain"], opening=v1),
        Contender("websockets/uvloop", _WEBSOCKETS, ["uvloop", file], ["websockets", "uvloop"], theirs),
        Contender("aiohttp/uvloop", "benchmarks.servers.aiohttp_loop", [file], ["aiohttp", "uvloop"], theirs),
        Contender("ws/node", words=[file], needs=["node:ws"], opening=theirs, command=_node("ws_loop.mjs")),
        Contender(
            "Bun",
            words=[file],
            needs=["node:bun", f"node:{BUN}"],
            opening=theirs,
            command=_bun("bun_topic.mjs"),
        ),
    )
