"""Upgrades in a dialect: heads as webson spells them, as captured from it, and what either end makes of the other's."""

import json
from pathlib import Path
from typing import Any

import pytest

from trio_hub.dialect import GUID, STANDARD, Dialect
from trio_hub.errors import LinkLost, PeerFault
from trio_hub.link.agreeing import Asking, accept_digest, agree
from trio_hub.link.heads import HTTPFault, read_head
from trio_hub.link.opening import accept_link
from trio_hub.options import CompressionOptions, LinkOptions, OpeningOptions
from trio_hub.testing import Cable

CAPTURED = json.loads((Path(__file__).parent.parent / "wire" / "webson.json").read_text())
OFFERED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def dialect_of(captured: dict[str, Any]) -> Dialect:
    said = captured["client"]
    streams = int(said[said.index("-max-streams") + 1]) if "-max-streams" in said else 1024
    return Dialect.webson(magic_key=captured["magic_key"] or GUID, streams=streams if "-streams" in said else 0)


def value_of(head: list[str], name: str) -> str | None:
    return next((line.partition(":")[2].strip() for line in head if line.lower().startswith(name.lower() + ":")), None)


each_captured = pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured["name"])


@each_captured
def test_a_request_is_spelled_as_webson_does(captured):
    """All but the order of the lines, in which there is none: webson's map has another each time."""
    head = captured["c2s_head"]
    asking = Asking(dialect_of(captured))
    headers = {
        "Host": value_of(head, "Host"),
        "Upgrade": "WebSocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": value_of(head, "Sec-Websocket-Key"),
        "Sec-WebSocket-Version": "13",
        **({"Authorization": value_of(head, "Authorization")} if "user" in str(head) or "Basic" in str(head) else {}),
        **({"Sec-WebSocket-Extensions": OFFERED} if "-compress" in captured["client"] else {}),
        **asking.headers,
    }
    lines = [head[0], *[f"{name}: {value}" for name, value in headers.items()], "", ""]
    spelled = asking.spelled("\r\n".join(lines).encode()).decode().split("\r\n")
    assert spelled[:2] == head[:2]
    assert sorted(spelled) == sorted([*[line for line in head if line], "", ""])


@each_captured
async def test_a_request_of_webson_is_understood_and_answered_as_webson_does(captured, autojump_clock):
    cable = Cable()
    request, response = captured["c2s_head"], captured["s2c_head"]
    await cable.near.send_all("\r\n".join([*[line for line in request if line], "", ""]).encode())
    head = await read_head(cable.far, OpeningOptions())
    compression = CompressionOptions() if "-compress" in captured["server"] else None
    said = captured["server"]
    dialect = Dialect.webson(magic_key=captured["magic_key"] or GUID, streams=1024 if "-streams" in said else 0)
    async with accept_link(
        cable.far, head, options=LinkOptions(dialect=dialect, compression=compression)
    ).running() as link:
        link.writer.flush()
        answer = (await cable.near.receive_some()).decode().split("\r\n")
        assert answer[0] == response[0]
        assert sorted(answer) == sorted([*[line for line in response if line], "", ""])
        await cable.near.aclose()


@each_captured
def test_an_answer_of_webson_is_understood(captured):
    asking = Asking(dialect_of(captured))
    key = value_of(captured["c2s_head"], "Sec-Websocket-Key")
    asking.spelled(f"GET / HTTP/1.1\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    response = "\r\n".join([*[line for line in captured["s2c_head"] if line], "", ""]).encode()
    assert accept_digest(key, GUID) in asking.understood(response)
    allowed = value_of(captured["s2c_head"], "Webson-Max-Streams") or "0"
    assert asking.agreed({"webson-max-streams": allowed}).streams == int(allowed)


def test_another_digest_is_a_fault():
    asking = Asking(Dialect(magic_key="ours"))
    asking.spelled(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n")
    with pytest.raises(PeerFault, match="not that of our dialect"):
        asking.understood(
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: Bz3qJYTGdOe8gUSpLosEdiLKDrk=\r\n\r\n"
        )
    with pytest.raises(PeerFault):
        asking.understood(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


def test_the_digest_of_a_magic_key():
    assert accept_digest("AAECAwQFBgcICQoLDA0ODw==", GUID) == b"Bz3qJYTGdOe8gUSpLosEdiLKDrk="
    assert accept_digest("AAECAwQFBgcICQoLDA0ODw==", b"masking here & there") == b"q3kz22UkW89bFBgqtvrurPGIO+Q="


@pytest.mark.parametrize("asked", ["0", "-5", "many", ""])
def test_streams_that_are_no_number_are_refused(asked):
    with pytest.raises(HTTPFault, match="not a number"):
        agree(Dialect.webson(streams=7), {"webson-max-streams": asked})


def test_the_fewer_streams_are_agreed_on():
    agreed, headers = agree(Dialect.webson(streams=7), {"webson-max-streams": "1024"})
    assert (agreed.streams, headers) == (7, [("Webson-Max-Streams", "7")])
    assert agree(Dialect.webson(), {"webson-max-streams": "1024"})[0].streams == 0
    assert agree(Dialect.webson(streams=7), {})[0].streams == 0
    asking = Asking(Dialect.webson(streams=7))
    assert asking.agreed({"webson-max-streams": "3"}).streams == 3
    assert asking.agreed({}).streams == 0
    with pytest.raises(LinkLost, match="not a number"):
        asking.agreed({"webson-max-streams": "three"})


def test_a_sealed_link_takes_two_who_have_the_key():
    ours, strangers = Dialect.sealed(bytes(32)), Dialect.sealed(bytes(31) + b"x")
    asking = Asking(ours)
    (name,) = asking.headers
    seen = {name.lower(): asking.headers[name]}
    _, [(_, shown)] = agree(ours, seen)
    assert asking.agreed({name.lower(): shown}).seal is not None
    for wrong in (agree(strangers, seen)[1][0][1], "", shown[:64], "x" * 128):
        with pytest.raises(LinkLost, match="did not prove"):
            asking.agreed({name.lower(): wrong})
    with pytest.raises(HTTPFault, match="Only sealed links"):
        agree(ours, {})


def test_the_standard_asks_for_nothing():
    assert Asking(STANDARD).headers == {}
    assert agree(STANDARD, {})[1] == []
