"""Private dialects: frames captured from webson are read and written byte for byte; and the rules beside them."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trio_hub.dialect import Dialect
from trio_hub.messages import CloseReason, Kind
from trio_hub.wire.deflate import Inflater
from trio_hub.wire.frames import PING, PONG, Ping, Pong
from trio_hub.wire.framing import Framer
from trio_hub.wire.pieces import Piece, PieceReader

CAPTURED = json.loads((Path(__file__).parent / "webson.json").read_text())
MAX = 1 << 20
LONG = bytes(ord("a") + (7 * at + (at >> 8)) % 256 % 26 for at in range(9000))
"""What the captured programs sent, cut to size; it never repeats for long."""


def dialect_of(captured: dict[str, Any], **more: Any) -> Dialect:
    return Dialect.webson(
        private_mask=captured["private_mask"] or "", streams=1024 if streams_in(captured) else 0, **more
    )


def streams_in(captured: dict[str, Any]) -> bool:
    return "-streams" in captured["client"]


def compresses(captured: dict[str, Any]) -> bool:
    return "-compress" in captured["client"]


def reader_for(captured: dict[str, Any], *, client: bool) -> PieceReader:
    inflater = partial(Inflater, 15, MAX, keeps_context=False) if compresses(captured) else None
    streams = streams_in(captured)
    return PieceReader(
        dialect_of(captured), client=client, max_frame=MAX, max_inflated=MAX, inflater=inflater, streams=streams
    )


def framer_for(captured: dict[str, Any], *, client: bool) -> Framer:
    """Numbers go round at the own limit; a server of webson's overlooks what its client said of that, we do not."""
    said = captured["client"]
    limit = int(said[said.index("-max-streams") + 1]) if client and "-max-streams" in said else 1024
    return Framer(dialect_of(captured), client=client, streams=limit if streams_in(captured) else 0)


def bytes_of(frame: dict[str, Any], at: int) -> bytes:
    """A captured frame; where its payload was too long to be written down, it is masked anew."""
    head = bytes.fromhex(frame["header"])
    if "wire" in frame:
        return head + bytes.fromhex(frame["wire"])
    payload = meant(frame, at)
    assert hashlib.sha1(payload).hexdigest() == frame["payload_sha1"]
    key = head[-4:] if frame["masked"] else bytes(4)
    return head + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


def captured_bytes(frames: list[dict[str, Any]]) -> list[bytes]:
    """Captured frames; those too long to be written down are consecutive parts of one message."""
    return [bytes_of(frame, at) for at, frame in enumerate(frames)]


def meant(frame: dict[str, Any], at: int) -> bytes:
    return bytes.fromhex(frame["payload"]) if "payload" in frame else LONG[4096 * at :][: frame["length"]]


DIRECTIONS = [("c2s_frames", False), ("s2c_frames", True)]


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured["name"])
@pytest.mark.parametrize(("direction", "client"), DIRECTIONS, ids=["from client", "from server"])
@pytest.mark.parametrize("size", [1, 7, MAX], ids=["byte by byte", "by sevens", "whole"])
def test_what_webson_said_is_understood(captured, direction, client, size):
    frames = captured[direction]
    reader = reader_for(captured, client=client)
    data = b"".join(captured_bytes(frames))
    heard = [item for at in range(0, len(data), size) for item in reader.feed(data[at : at + size])]
    said: dict[Any, bytes] = {}
    for item in heard:
        if isinstance(item, Piece):
            content = item.data.encode() if isinstance(item.data, str) else item.data
            key = (item.kind, item.stream)
            said[key] = said.get(key, b"") + content
        elif not isinstance(item, CloseReason):
            said[type(item)] = said.get(type(item), b"") + item.payload
    wanted: dict[Any, bytes] = {}
    for at, frame in enumerate(frames):
        opcode = frame["opcode"]
        key = {8: CloseReason, 9: Ping, 10: Pong}.get(opcode, (opcode, frame["stream_id"] or 0))
        if key is CloseReason:
            code, reason = int.from_bytes(meant(frame, at)[:2]), meant(frame, at)[2:].decode()
            assert heard[-1] == CloseReason(code, reason)
        elif "inflated_sha1" in frame:
            wanted[key] = wanted.get(key, b"") + LONG[4096 * at :][: frame["inflated_len"]]
        else:
            wanted[key] = wanted.get(key, b"") + meant(frame, at)
    assert said == wanted
    assert [item.stream for item in heard if isinstance(item, Piece) and item.given_up] == [
        frame["stream_id"] for frame in frames if frame["cancel"]
    ]


@pytest.mark.parametrize("captured", [each for each in CAPTURED if not compresses(each)], ids=lambda each: each["name"])
@pytest.mark.parametrize(("direction", "client"), DIRECTIONS, ids=["to client", "to server"])
def test_we_say_it_as_webson_did(captured, direction, client):
    """What is deflated is left out: another library deflates to other bytes, which mean the same."""
    frames = captured[direction]
    framer = framer_for(captured, client=not client)
    keys = iter([bytes.fromhex(frame["header"])[-4:] for frame in frames])
    framer.new_key = lambda: next(keys)
    written: list[bytes] = []
    under_way: dict[int, Any] = {}
    for at, frame in enumerate(frames):
        opcode, stream = frame["opcode"], frame["stream_id"] or 0
        payload = meant(frame, at)
        if opcode in (PING, PONG):
            written.append(framer.control(opcode, payload))
        elif opcode == 8:
            written.append(framer.close(CloseReason(int.from_bytes(payload[:2]), payload[2:].decode())))
        elif frame["cancel"]:
            written.append(under_way.pop(stream).give_up())
        elif frame["fin"] and stream not in under_way:
            written += framer.messages([payload.decode() if opcode == Kind.TEXT else payload], opcode)
        else:
            fragments = under_way.setdefault(stream, None) or framer.begin(opcode)
            under_way[stream] = fragments
            written.append(fragments.piece(payload, last=bool(frame["fin"])))
            if frame["fin"]:
                del under_way[stream]
    assert written == captured_bytes(frames)


def test_a_long_message_is_cut_as_webson_does():
    captured = next(each for each in CAPTURED if each["name"] == "plain 9000 bytes")
    framer = framer_for(captured, client=True)
    keys = iter([bytes.fromhex(frame["header"])[-4:] for frame in captured["c2s_frames"]])
    framer.new_key = lambda: next(keys)
    assert framer.messages([LONG.decode()]) == captured_bytes(captured["c2s_frames"])[:-1]
