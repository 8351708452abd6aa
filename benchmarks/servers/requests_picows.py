"""picows on uvloop with a router by hand, at its quickest: typed with msgspec, answered from within the callback.

python -m benchmarks.servers.requests_picows
"""

from __future__ import annotations

from typing import Any

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from benchmarks.servers.cost import tell_cost
from benchmarks.servers.picows_site import serve


class Request(msgspec.Struct):
    seq: int
    action: str
    data: msgspec.Raw


class Reply(msgspec.Struct, omit_defaults=True):
    seq_reply: int
    status: str
    data: Any = None


class Add(msgspec.Struct):
    a: int
    b: int


class Sum(msgspec.Struct):
    sum: int


def add(data: Add) -> Sum:
    return Sum(data.a + data.b)


ACTIONS = {"add": (add, msgspec.json.Decoder(Add).decode)}

decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode


def reply_to(request: Request) -> Reply:
    action = ACTIONS.get(request.action)
    if action is None:
        return Reply(request.seq, "FAIL")
    handle, decode_data = action
    return Reply(request.seq, "OK", handle(decode_data(request.data)))


class Listener(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(WSMsgType.TEXT, encode(reply_to(decode(frame.get_payload_as_memoryview()))))


async def main() -> None:
    server = await serve(Listener)
    await tell_cost()
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
