"""A client that sends large messages piece by piece, none of which is ever there as a whole.

python -m benchmarks.load.pourer PORT DIALECT plain|deflated

Each command is a number of bytes; the answer is how long that took, and the most memory that was ever taken.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Iterator

import trio

from benchmarks.conversation import answer, next_command
from benchmarks.dialects import options_for
from benchmarks.memory import peak
from trio_hub import Kind, open_link

__all__: list[str] = []

BLOCK = b"".join(b"%06d of what is said\n" % number for number in range(2400))[: 64 * 1024 - 1]


class Water:
    """So many bytes, block by block; `checksum` is that of all that has been had."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.checksum = 0

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            block = BLOCK[: self._left]
            self._left -= len(block)
            self.checksum = zlib.crc32(block, self.checksum)
            yield block


async def main() -> None:
    port, dialect, compression = sys.argv[1:4]
    async with open_link(f"ws://127.0.0.1:{port}", options=options_for(dialect, compression)) as link:
        answer()
        while command := await trio.to_thread.run_sync(next_command):
            size = int(command[0])
            water = Water(size)
            begun = time.perf_counter()
            await link.send_stream(Kind.BINARY, water)
            reply = await anext(link)
            took = time.perf_counter() - begun
            whole = reply == f"{size} {water.checksum}"
            answer(seconds=took, whole=whole, peak=peak())


if __name__ == "__main__":
    trio.run(main)
