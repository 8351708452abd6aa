"""Measurements, with our peers beside us in the same run: ``python -m benchmarks``, or ``--quick`` for a first look.

A benchmark never asserts a time. It prints ratios: figures move with the machine and its load, ratios less so.

scenarios/       what is measured, and how; one file for each
servers/         the programs that are measured, ours and others; each runs in a process of its own
node/            those in JavaScript, for Node and Bun, and the lock file of what they need
load/            the other ends of their links: cheap, so that they are not what is measured
contenders.py    who can be measured, and what has to be installed for that
contest.py       rounds in which all take part
rates.py         what they come to where that is a rate
round_trips.py   what is asked and answered, for scenarios that measure it
fairness.py      how long others wait while very many are told something
index.py         the index of a hub, alone
chat.py          messages that look like people's
conversation.py  how these processes talk to the one that started them
report.py        medians, ratios, Markdown, JSON
plot.py          the same as a picture
"""
