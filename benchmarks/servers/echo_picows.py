"""picows on uvloop, echoing from within its callback. What it sends it has copied, so the payload itself need not be.

python -m benchmarks.servers.echo_picows
"""

from __future__ import annotations

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.conversation import answer
from benchmarks.servers.cost import tell_cost


class Listener(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


def accept(request: WSUpgradeRequest) -> WSListener:
    return Listener()


async def main() -> None:
    server = await ws_create_server(accept, "127.0.0.1", 0)
    answer(port=server.sockets[0].getsockname()[1])
    await tell_cost()
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
