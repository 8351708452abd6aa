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

from benchmarks.chat import write_events
from benchmarks.contenders import Contender
from benchmarks.contest import Outcomes, compete, median_of, median_ratio
from benchmarks.report import Bars, Report, Table, short
from benchmarks.scenarios.fan_out import BURSTS, Contest, Round, figures_of
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
            tables.append(_table(f"{links} links, {title}", outcomes))
            sizes = {name: median_of(rounds, _bytes_each) for name, rounds in outcomes.items()}
            figures.append({"links": links, "burst": burst, "size": SIZE, "servers": figures_of(outcomes)})
            figures[-1]["bytes_per_delivery"] = sizes
            rates = {name: median_of(rounds, lambda each: each.rate) for name, rounds in outcomes.items()}
            drawn = {name: rate for name, rate in rates.items() if rate}
            bars.append(Bars(f"Compressed fan-out, {links} links, {title}", "deliveries/s", drawn))
    return Report("Compression", (__doc__ or "").partition("\n\n")[2].strip(), tables, figures, bars)


def _enter(links: int, burst: int, settings: Settings) -> Callable[[Contender, ExitStack], Contest]:
    return lambda contender, stack: Contest(contender, SIZE, links, burst, stack, settings, trial=TRIAL)


# -- what came of it


def _bytes_each(round: Round) -> float:
    return round.bytes / round.deliveries


def _table(title: str, outcomes: Outcomes[Round]) -> Table:
    columns = ["server", "deliveries/s", "range", "CPU µs each", "bytes each", "CPU/wall", "sink CPU/wall"]
    columns += [f"x {name}" for name in _REFERENCES]
    rows = []
    for name, rounds in outcomes.items():
        if isinstance(rounds, str):
            rows.append([name, rounds, *[""] * (len(columns) - 2)])
            continue
        rates = [each.rate for each in rounds]
        row = [name, short(median(rates)), f"{short(min(rates))} - {short(max(rates))}"]
        row += [f"{1e6 / median(each.cpu_rate for each in rounds):.2f}", f"{median(map(_bytes_each, rounds)):.0f}"]
        row += [f"{median(getattr(each, cpu) / each.wall for each in rounds):.0%}" for cpu in ("cpu", "sink_cpu")]
        for reference in _REFERENCES:
            ratio = median_ratio(rounds, outcomes.get(reference, ""), lambda each: each.rate)
            row.append("" if ratio is None else f"{ratio:.2f}")
        rows.append(row)
    return Table(title, columns, rows)
