"""Messages of a chat as one sees them: JSON of a size that is asked for, each another, the same in every run.

A third of a message is what programs add. The rest is sentences, of words that are about as common as words are: few
make up half of a text, and many come once. So deflate gets from them about what it gets from people's.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import TypeVar

__all__ = ["events", "messages_of", "read_events", "write_events"]

T = TypeVar("T")

_COMMON = (
    "the to of and a in is it you that we on for this with be are have not can was if at as they will do from "
    "what there so or about would just when up all now then out how one them has more after some like get go who "
    "see first new time work use way need make know think could should still here only also been today back other"
).split()
_RARE = 2000
_SYLLABLES = (
    "er in ed re ing con ter ment tion pro com per ver est al ly dis tra par ble der pre sta ant ous ser".split()
)
_BYLINES = "ann ben cora dilek emeka farah goran hana iker jun kaia lior mei nadia olu petra quinn".split()


def events(count: int, size: int) -> list[bytes]:
    """Return events as they are on the wire, of exactly so many bytes each."""
    draw = random.Random(2048)
    words = [*_COMMON, *(_rare_word(draw) for _ in range(_RARE))]
    weights = list(accumulate(1 / (rank + 2) for rank in range(len(words))))
    return [_event(draw, size, words, weights) for _ in range(count)]


def write_events(path: Path, count: int, size: int) -> None:
    """Write events into a file, one on each line."""
    path.write_bytes(b"\n".join(events(count, size)) + b"\n")


def read_events(path: str) -> list[bytes]:
    """Return what was written there."""
    return Path(path).read_bytes().splitlines()


def messages_of(size: int, *path: str, make: Callable[[bytes], T]) -> Iterator[T]:
    """Yield, without an end, what a server says that only hands on: the events at `path`, or else one of `size` bytes.

    Each is made once into what its library takes.
    """
    return cycle([make(message) for message in (read_events(*path) if path else [b"x" * size])])


def _rare_word(draw: random.Random) -> str:
    return "".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4)))


def _event(draw: random.Random, size: int, words: Sequence[str], weights: Sequence[float]) -> bytes:
    """Return one event: as much text as there is room for beside its other members."""
    post = {
        "id": _id(draw),
        "channel_id": _id(draw),
        "root_id": draw.choice(["", _id(draw)]),
        "user": {"id": _id(draw), "name": draw.choice(_BYLINES), "roles": ["member"], "is_bot": False},
        "create_at": 1_700_000_000_000 + draw.randrange(10**10),
        "edit_at": 0,
        "reactions": [
            {"user_id": _id(draw), "emoji_name": draw.choice(["thumbsup", "heart", "tada", "eyes"])} for _ in range(3)
        ],
        "mentions": [_id(draw) for _ in range(2)],
        "metadata": {"priority": None, "acknowledgements": [], "embeds": [], "files": []},
        "message": "",
    }
    event = {"event": "posted", "data": post, "broadcast": {"topic": "bench"}}
    post["message"] = _text(draw, size - len(_spelled(event)), words, weights)
    return _spelled(event)


def _text(draw: random.Random, length: int, words: Sequence[str], weights: Sequence[float]) -> str:
    text = ""
    while len(text) < length:
        sentence = " ".join(draw.choices(words, cum_weights=weights, k=draw.randint(4, 14)))
        text += f"{sentence.capitalize()}{draw.choice('...?!,')} "
    return text[: length - 1] + "."


def _id(draw: random.Random) -> str:
    return "".join(draw.choices(string.ascii_lowercase + string.digits, k=26))


def _spelled(event: object) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
