"""picows on uvloop, echoing from within its callback. What it sends it has copied, so the payload itself need not be.

python -m benchmarks.servers.echo_picows
"""

from __future__ import annotations

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from benchmarks.servers.cost import tell_cost
from benchmarks.servers.picows_site import serve


class Listener(WSListener):
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def main() -> None:
    server = await serve(Listener)
    await tell_cost()
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
