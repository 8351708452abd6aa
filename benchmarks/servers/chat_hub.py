"""Ours, whole, with messages of a chat, which are all different.

    python -m benchmarks.servers.chat_hub SIZE FILE compat|v1.json compressed|plain

FILE has events of SIZE bytes, one on each line; the last is followed by the first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import cycle

import trio

from benchmarks.chat import read_events
from benchmarks.servers.hub import FACTS, SILENCE, FanOut, serve
from benchmarks.servers.pace import COMPRESSED
from trio_hub import CompressionOptions, Event, LinkOptions


async def main(size: int, said: Sequence[bytes], spelling: str, form: str) -> None:
    events = cycle([Event(each["event"], each["data"]) for each in map(json.loads, said)])
    facts, compression = FACTS[spelling](size), None
    if form == "compressed":
        facts, compression = {**facts, **COMPRESSED}, CompressionOptions()
    link = LinkOptions(ping_interval=SILENCE, compression=compression)
    await serve(FanOut(events, size, in_bytes="unit" not in facts, link=link), **facts)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), read_events(sys.argv[2]), sys.argv[3], sys.argv[4])
