"""Measurements, with our peers beside us in the same run: ``python -m benchmarks``, or ``--quick`` for a first look.

A benchmark never asserts a time. It prints ratios: figures move with the machine and its load, ratios less so.

fan_out.py        a scenario: what is measured, and how; one file for each
servers/          the programs that are measured, ours and others; each runs in a process of its own
sink.py           the other end of the links: cheap, so that it is not what is measured
conversation.py   how these processes talk to the one that started them
report.py         medians, ratios, Markdown, JSON
"""
