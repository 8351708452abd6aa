"""``trio-hub bench``: a load for a running server.

command.py     its arguments, its exit status
load.py        its stages
members.py     the clients that listen and publish
measures.py    latencies and numbers; pure
findings.py    what came of it
report.py      how that looks
"""

from trio_hub.cli.bench.command import bench

__all__ = ["bench"]
