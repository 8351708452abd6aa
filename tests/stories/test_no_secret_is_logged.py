"""Who shows a token, a ticket, a cookie or a password finds none of them in a log, whatever goes wrong meanwhile."""

from __future__ import annotations

import ast
import json
import logging
import re
from contextlib import suppress
from pathlib import Path

import pytest
import trio

import trio_hub
from tests.test_side_door import caller, publish
from trio_hub import (
    Event,
    HubError,
    HubOptions,
    OpeningOptions,
    Router,
    Server,
    Session,
    TicketOffice,
    by_cookie,
    by_password,
    everyone,
    first_of,
    known_tokens,
)
from trio_hub.link.dialing import Address
from trio_hub.link.heads import read_head
from trio_hub.testing import Cable, open_world

TOKEN, COOKIE, PASSWORD, KEY = "token-5up3r", "cookie-5ecr3t", "password-0pen", "key-5esame"
BASIC = "YW5uOnBhc3N3b3JkLTBwZW4="  # ann:password-0pen
V1 = "trio-hub.v1.json"
ROOT = Path(trio_hub.__file__).parent


class Clumsy:
    """A plugin that fails whatever it hears."""

    async def connected(self, connection):
        raise ValueError("broken on purpose")

    async def request(self, connection, request):
        raise ValueError("broken on purpose")


def stormy_server(office: TicketOffice) -> tuple[Server, list[str]]:
    """Return a server where much goes wrong, and what its `authenticate` does next: words to put into a list."""
    weather: list[str] = []

    async def of_cookie(value: str) -> Session | None:
        return Session("cat") if value == COOKIE else None

    async def of_password(name: str, password: str) -> Session | None:
        return Session(name) if password == PASSWORD else None

    ways = first_of(office.authenticate, known_tokens({TOKEN: "tom"}), by_cookie("sid", of_cookie))

    async def authenticate(credentials):
        match weather.pop() if weather else "":
            case "fail":
                raise ValueError("no database today")
            case "hang":
                await trio.sleep_forever()
        return await first_of(ways, by_password(of_password))(credentials)

    router = Router()

    @router.action("break")
    async def break_down(connection, data: dict):
        raise ValueError("broken on purpose")

    options = HubOptions(window=5, opening=OpeningOptions(deadline=3))
    return Server(router, authenticate=authenticate, key=KEY, plugins=[Clumsy()], options=options), weather


async def test_no_secret_is_in_any_record_of_a_stormy_conversation(autojump_clock, caplog):
    caplog.set_level(logging.DEBUG)
    office = TicketOffice()
    tickets = [await office.issue(Session("tic")) for _ in range(3)]
    server, weather = stormy_server(office)
    ways = [
        ("/ws", {"Authorization": f"Bearer {TOKEN}"}),
        ("/ws", {"Authorization": f"Basic {BASIC}"}),
        ("/ws", {"Cookie": f"sid={COOKIE}"}),
        (f"/ws?ticket={tickets[0]}", {}),
    ]
    async with open_world(server) as world:
        for resource, headers in ways:
            cable = Cable()
            async with world.open_link(resource, headers=headers, subprotocols=[V1], cable=cable) as link:
                await link.receive()
                await link.send('{"seq": 1, "action": "break"}')
                await link.send(challenge(2, TOKEN))
                await link.send(challenge(3, [TOKEN]))
                await link.receive()
                await server.publish(Event("tick"), to=everyone())
                await trio.sleep(1)
                cable.cut()
        await refused(world, ways[3])  # a ticket that was used
        for resource, headers in ways[:3]:
            for weathering in ("fail", "hang"):
                weather.append(weathering)
                await refused(world, (resource, headers))
        weather.append("fail")
        await refused(world, (f"/ws?ticket={tickets[1]}", {}))
        await refused(world, (f"/ws?ticket={tickets[2]}&sequence_number=x", ways[2][1]))
        await refused(world, (f"/elsewhere?ticket={tickets[2]}", ways[0][1]))
        for token in (TOKEN, [TOKEN], {TOKEN: 1}):
            await challenged(world, token)
        await half_a_head(world, f"GET /ws?ticket={tickets[2]} HTTP/1.1\r\nHost: x\r\nCookie: sid={COOKIE}\r\n")
        await half_a_head(
            world, f"GET /ws?ticket={tickets[2]} HTTP/1.1\r\nAuthorization: Bearer {TOKEN} \r\n x\r\n\r\n"
        )
        async with world.open_client(token=TOKEN, topics=["town"]) as client:
            client.weather.cut()
            await trio.sleep(10)  # longer than the window
            client.weather.mend()
            await client.connected()
            with suppress(HubError):
                await client.request("break")
        await publish(world, {"event": "tick", "to": "everyone"}, Authorization=f"Bearer {KEY}")
        await publish(world, b"nonsense", Authorization=f"Bearer {KEY}")
        await caller(world).ask("POST", "/publish", b"{}", {"Authorization": f"Bearer {KEY}x"})
        await trio.sleep(60)
    said = [everything_in(record) for record in caplog.records]
    assert {"trio_hub.server", "trio_hub.peer"} <= {record.name for record in caplog.records}
    for secret in (TOKEN, COOKIE, PASSWORD, BASIC, KEY, *tickets):
        assert not [record for record in said if secret in record]


async def refused(world, way) -> None:
    resource, headers = way
    with pytest.raises(HubError):
        async with world.open_link(resource, headers=headers):
            raise AssertionError("was let in")


def challenge(seq: int, token) -> str:
    return json.dumps({"seq": seq, "action": "authentication_challenge", "data": {"token": token}})


async def challenged(world, token) -> None:
    """Come without a word, and be asked."""
    async with world.open_link("/ws") as link:
        with suppress(HubError):
            await link.send(challenge(1, token))
            await link.receive()
            await link.receive()


async def half_a_head(world, head: str) -> None:
    cable = Cable()
    world.reach(cable.far)
    await cable.near.send_all(head.encode())
    cable.near.hang_up()
    await trio.sleep(1)


def everything_in(record: logging.LogRecord) -> str:
    """Return all that a record holds: its words, its arguments, and its traceback."""
    return f"{logging.Formatter().format(record)} {record.args!r}"


# -- what would be in a log if somebody put it there


async def test_the_repr_of_a_head_and_of_an_address_tell_no_secret(autojump_clock):
    cable = Cable()
    secrets = f"Cookie: sid={COOKIE}\r\nAuthorization: Bearer {TOKEN}\r\n"
    await cable.near.send_all(f"GET /ws?ticket=t1ck3t HTTP/1.1\r\nHost: x\r\n{secrets}\r\n".encode())
    head = repr(await read_head(cable.far, OpeningOptions()))
    address = repr(Address.parse(f"ws://ann:{PASSWORD}@example.org/ws?ticket=t1ck3t"))
    assert "/ws" in head
    assert "/ws" in address
    for secret in ("t1ck3t", COOKIE, TOKEN, PASSWORD):
        assert secret not in head + address


# -- who says it


def test_every_logger_has_a_name_that_is_documented():
    """And is the module's only one, under the one name that all modules have for it."""
    docs = (ROOT.parent / "docs" / "metrics.rst").read_text().partition("Logs\n----")[2]
    names = set()
    for path in ROOT.rglob("*.py"):
        source = path.read_text()
        found = re.findall(r"(\w+) = logging\.getLogger\((.*)\)", source)
        assert len(found) <= 1, path
        for variable, name in found:
            assert variable == "log", path
            names.add(ast.literal_eval(name))
    assert names == set(re.findall(r"^``(trio_hub\.\w+)``", docs, re.MULTILINE))
