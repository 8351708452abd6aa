"""One publisher, many listeners, and compression: what a delivery costs, and how many bytes of it are on the wire.

Messages of a chat, each another, of 2 KiB before they are compressed (compat's number on top). The rest is as in the
fan-out; a sink counts whole frames, and looks at the first on each link to see that it is compressed. How much
compression there is, and whether a message leans on those before it, is left to each server.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import rates
from benchmarks.chat import write_events
from benchmarks.contenders import Contender
from benchmarks.contest import compete, median_of
from benchmarks.report import Report, explanation_of
from benchmarks.scenarios.fan_out import BURSTS, SHARES, UNIT, Contest, Round
from benchmarks.servers import chats
from benchmarks.settings import Settings

__all__ = ["run"]

TRIAL = 5_000  # deliveries; most peers are slow at this
SIZE, MESSAGES = 2048, 256  # before the first is said again, no compressor remembers it
_REFERENCES = ("websockets/uvloop", "ws/node", "Bun")


def run(settings: Settings) -> Report:
    """Measure every contender that is here, one message at a time and in bursts."""
    links = settings.links[0]
    tables, figures, bars = [], [], []
    with TemporaryDirectory() as folder:
        file = Path(folder, "chat")
        write_events(file, MESSAGES, SIZE)
        for burst, title in BURSTS.items():
            outcomes = compete(chats(file), _enter(links, burst, settings), settings.rounds)
            what = f"{links} links, {title}"
            tables.append(rates.table_of(what, UNIT, outcomes, [_BYTES_EACH, *SHARES], _REFERENCES))
            sizes = {name: median_of(rounds, _bytes_each) for name, rounds in outcomes.items()}
            servers = rates.figures_of("deliveries", outcomes)
            figures.append({"links": links, "burst": burst, "size": SIZE, "servers": servers})
            figures[-1]["bytes_per_delivery"] = sizes
            bars.append(rates.bars_of(f"Compressed fan-out, {what}", UNIT, outcomes))
    return Report("Compression", explanation_of(__doc__), tables, figures, bars)


def _enter(links: int, burst: int, settings: Settings) -> Callable[[Contender, ExitStack], Contest]:
    return lambda contender, stack: Contest(contender, SIZE, links, burst, stack, settings, trial=TRIAL)


def _bytes_each(round: Round) -> float:
    return round.bytes / round.deliveries


_BYTES_EACH: rates.Column[Round] = "bytes each", lambda rounds: f"{median(map(_bytes_each, rounds)):.0f}"
