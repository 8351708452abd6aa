"""How a backplane is spelt in Redis: names, messages and commands. Pure.

========================= ==============================================================================================
``<prefix>:plain:<c>``    pub/sub: the messages of a plain channel
``<prefix>:reliable:<c>`` pub/sub: those of a reliable one, each with its id in the stream
``<prefix>:stream:<c>``   a stream: the last of those, to be fetched
``<prefix>:senders:<c>``  a hash: the number of the last message of each sender in it, by which a repeated one is known
``<prefix>:beat:<member>`` pub/sub: what a member says to itself
``<prefix>:kept:<key>``   a string: what was put
========================= ==============================================================================================

A plain message is ``<length of the node's name, a byte><node><payload>``. A reliable one has its mark before it, in the
stream: ``<member>-<number> <plain message>``; and where it is published the stream's id before that.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import attrs

from trio_hub.cluster.backplane import Outbound
from trio_hub.cluster.following import Entry, Fetch, StreamId

__all__ = ["PAGE", "SCRIPT", "Command", "Words", "read_entries", "read_message", "read_published"]

PAGE: Final = 100  # entries that are fetched at once

SCRIPT: Final = b"""
-- KEYS: stream, senders. ARGV: pub/sub channel, sender, number, message, messages kept, ms that all this lasts.
if tonumber(ARGV[3]) <= tonumber(redis.call('HGET', KEYS[2], ARGV[2]) or '0') then
    return 0
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local epoch
if last then
    epoch = string.match(last[1], '^%d+')
else
    local now = redis.call('TIME')
    epoch = now[1] .. string.format('%03d', math.floor(now[2] / 1000))
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], epoch .. '-*', 'm', ARGV[4])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PUBLISH', ARGV[1], id .. ' ' .. ARGV[4])
return 1
"""
_SHA: Final = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest().encode()


@attrs.frozen
class Command:
    """A command with its arguments. Where it is `repeatable`, carried out twice it does what it does once.

    The names are coredis' own, which takes these as they are.
    """

    name: bytes
    serialized_arguments: tuple[bytes, ...]
    repeatable: bool = False
    decode: bool = False


class Words:
    """What one member of a backplane says to Redis. `member` is its own, and `node` is what others know it by."""

    def __init__(self, prefix: str, node: str, member: str, *, kept: int, kept_for: float) -> None:
        name = node.encode()
        self._prefix = prefix.encode() + b":"
        self._header = bytes([len(name)]) + name
        self._member = member.encode()
        self._kept = b"%d" % kept
        self._kept_for = b"%d" % _milliseconds(kept_for)
        self._count = 0
        self.beat_channel = self._name(b"beat:", member)

    def channel(self, name: str, *, reliable: bool) -> bytes:
        """Where the messages of a channel are published."""
        return self._name(b"reliable:" if reliable else b"plain:", name)

    def send(self, message: Outbound) -> Command:
        """Say this; each reliable message has a number of its own."""
        said = self._header + message.payload
        where = self.channel(message.channel, reliable=message.reliable)
        if not message.reliable:
            return Command(b"PUBLISH", (where, said))
        self._count += 1
        number = b"%d" % self._count
        marked = b"%s-%s %s" % (self._member, number, said)
        keys = self._stream(message.channel), self._name(b"senders:", message.channel)
        return Command(
            b"EVALSHA",
            (_SHA, b"2", *keys, where, self._member, number, marked, self._kept, self._kept_for),
            repeatable=True,
        )

    def beat(self) -> Command:
        """Say something to this member itself."""
        return Command(b"PUBLISH", (self.beat_channel, b""))

    def fetch(self, channel: str, fetch: Fetch) -> list[Command]:
        """Ask for a page of a stream, and for its end."""
        stream, since = self._stream(channel), b"-"
        if fetch.since is not None:
            since = b"%d-%d" % fetch.since
        return [
            Command(b"XRANGE", (stream, since, b"+", b"COUNT", b"%d" % PAGE), repeatable=True),
            Command(b"XREVRANGE", (stream, b"+", b"-", b"COUNT", b"1"), repeatable=True),
        ]

    def put(self, key: str, value: bytes, lasts: float) -> Command:
        """Keep something for so many seconds."""
        return Command(b"SET", (self._name(b"kept:", key), value, b"PX", b"%d" % _milliseconds(lasts)))

    def take(self, key: str) -> Command:
        """Return it and keep it no more."""
        return Command(b"GETDEL", (self._name(b"kept:", key),))

    def is_our_node(self, origin: bytes) -> bool:
        """Whether this is what others know us by."""
        return origin == self._header[1:]

    def _stream(self, channel: str) -> bytes:
        return self._name(b"stream:", channel)

    def _name(self, kind: bytes, name: str) -> bytes:
        return self._prefix + kind + name.encode()


def read_message(said: bytes) -> tuple[bytes, bytes]:
    """Return origin and payload of a plain message. Raises `ValueError` for what is none."""
    end = 1 + said[0] if said else 1
    if end > len(said):
        raise ValueError("no message of ours")
    return said[1:end], said[end:]


def read_published(said: bytes) -> Entry:
    """Return a reliable message as it is published. Raises `ValueError` for what is none."""
    id, mark, body = said.split(b" ", 2)
    return Entry(_read_id(id), mark, body)


def read_entries(reply: Any) -> list[Entry]:
    """Return the reliable messages in a page of a stream. One that somebody else has put there has no body."""
    entries = []
    for id, fields in reply or ():
        mark, _, body = fields[1].partition(b" ")
        entries.append(Entry(_read_id(id), mark, body))
    return entries


def _read_id(id: bytes) -> StreamId:
    epoch, number = id.split(b"-")
    return StreamId(int(epoch), int(number))


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
