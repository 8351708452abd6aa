"""Every limit and interval, with the reason for its default. Frozen: one record may serve a whole process.

Sizes are bytes, times are seconds.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import attrs
from attrs import validators

from trio_hub.bucket import Rate
from trio_hub.dialect import STANDARD, Dialect

__all__ = [
    "BackplaneOptions",
    "CallOptions",
    "ClientOptions",
    "ClusterOptions",
    "CompressionOptions",
    "DispatchOptions",
    "HubOptions",
    "LinkOptions",
    "OpeningOptions",
    "Order",
    "OutboxOptions",
    "PoolOptions",
    "StreamsOptions",
    "WhenFull",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB

_positive: Any = validators.gt(0)


@attrs.frozen(kw_only=True)
class OpeningOptions:
    """Limits on a stranger, before it is a link."""

    deadline: float = attrs.field(default=10.0, validator=_positive)
    """From accept to the answered upgrade. Long enough for a phone on a train, short enough that slow heads do not
    pile up."""
    head_size: int = attrs.field(default=16 * KIB, validator=_positive)
    """The request head. Browsers with many cookies send up to 8 KiB."""
    head_count: int = attrs.field(default=100, validator=_positive)
    """Headers in it, as in common web servers."""
    body_size: int = attrs.field(default=4 * MIB, validator=_positive)
    """The body of an HTTP request at the side door: a batch of publishes."""


@attrs.frozen(kw_only=True)
class CompressionOptions:
    """How messages are compressed on links whose peers can do it (permessage-deflate, RFC 7692)."""

    above: int = attrs.field(default=256, validator=validators.ge(0))
    """Bytes from which on a message is compressed. Below, JSON shrinks by a third at most, which are some 80 bytes."""
    level: int = attrs.field(default=6, validator=[validators.ge(1), validators.le(9)])
    """zlib's. 1 takes a fifth of the time for 16 KiB and leaves a quarter more; below 1 KiB all are alike."""


@attrs.frozen(kw_only=True)
class LinkOptions:
    """Limits on one WebSocket. Each is enforced before the memory it would cost is taken."""

    max_message: int = attrs.field(default=1 * MIB, validator=_positive)
    """One message of the peer, all fragments together, as it came and as it is inflated."""
    max_frame: int = attrs.field(default=1 * MIB, validator=_positive)
    """One frame, where it has to be held until it is whole though its message is not: where links are sealed, and on
    webson's streams."""
    max_fragments: int = attrs.field(default=1024, validator=_positive)
    """Frames of one message, where messages are had whole and no dialect was agreed on. Nobody needs more; tiny frames
    are how memory is eaten within a size limit. Where messages are had piece by piece, and in dialects, there may be
    any number of them: there small ones are joined as they come."""
    finish_within: float = attrs.field(default=60.0, validator=_positive)
    """From the first byte of a message to its last: 1 MiB at 140 kbit/s. Where messages are had piece by piece, from
    one piece to the next."""
    ping_interval: float = attrs.field(default=25.0, validator=_positive)
    """Silence after which a ping is sent. Proxies commonly cut idle connections after 30 or 60 s."""
    pong_timeout: float = attrs.field(default=20.0, validator=_positive)
    """Silence after such a ping that ends the link, or begins its `grace`."""
    grace: float = attrs.field(default=0.0, validator=validators.ge(0))
    """Further silence in which the link is in `LinkStatus.TIMEOUT`, and goes on where its peer is heard again. None,
    since whoever was silent for 45 s has mostly gone; for those who want to know before a link is given up."""
    control_frames: Rate = attrs.field(default=Rate(50, burst=4))
    """Pings and pongs of the peer. A ping each second is frequent; each asks us for an answer."""
    write_timeout: float = attrs.field(default=30.0, validator=_positive)
    """Time in which the peer must take at least some byte of what is being written."""
    close_timeout: float = attrs.field(default=5.0, validator=_positive)
    """Time for a polite goodbye: flush, close frame, the peer's answer. After it the stream is cut."""
    owed_size: int = attrs.field(default=1 * MIB, validator=_positive)
    """Bytes waiting on one link (those of `send`, those of replies) before the next has to wait."""
    read_size: int = attrs.field(default=64 * KIB, validator=_positive)
    """One read. Larger reads cost memory, smaller ones system calls."""
    piece_size: int = attrs.field(default=256 * KIB, validator=_positive)
    """One write. What a link has taken can no longer be dropped or replaced, so not all at once."""
    fragment_size: int = attrs.field(default=64 * KIB, validator=_positive)
    """One fragment of a message that is sent piece by piece. What comes in between (a pong) waits for one of them."""
    dialect: Dialect = STANDARD
    """How both ends have agreed to spell everything; a server for the public speaks the standard."""
    compression: CompressionOptions | None = None
    """Whether a client offers compression, and a server agrees to it. Off, since it takes 10 us and more for each
    message, and tells by its size what a secret and a stranger's text have in common, where one message has both."""


class Order(enum.Enum):
    """Which messages of a link may be handled at the same time."""

    IN_ORDER = "in order"
    """None: each when the one before it was handled."""
    CONCURRENT = "concurrent"
    """All: so they may be done in any order."""
    BY_KEY = "by key"
    """Those of different keys; the key is the number of the stream unless said otherwise."""


@attrs.frozen(kw_only=True)
class DispatchOptions:
    """How what comes on a link is handed to handlers."""

    order: Order = Order.IN_ORDER
    """In order, since that is what a peer may expect of one link."""
    limit: int = attrs.field(default=64, validator=_positive)
    """Messages that are handled or wait for their turn, where several are at once; no more is read until one of them is
    done. A handler that asks a database takes some 10 ms, so these are 6000 a second."""
    end_on_failure: bool = False
    """Whether a link ends, with 1011, when a handler raises. The next message has often nothing to do with it."""


@attrs.frozen(kw_only=True)
class StreamsOptions:
    """What many messages at once may cost on one link: `messages` times `window` at most, where nobody takes any."""

    window: int = attrs.field(default=256 * KIB, validator=_positive)
    """Bytes of one message of the peer that may wait to be taken. A message can come no faster than this in each round
    trip: 20 Mbit/s over 100 ms. Less than the link's `max_message`."""
    messages: int = attrs.field(default=256, validator=_positive)
    """Messages of the peer that have begun and were not had to their end; one more waits at its sender. Small ones
    count too, so it is also how many can be sent before their receiver has to say that it has had some."""
    chunk: int = attrs.field(default=16 * KIB, validator=_positive)
    """What one of our messages sends before it is the next one's turn: what a small one has to wait for, times those
    that are sent beside it. Each chunk takes some 30 us of both sides together, as a small message does."""


@attrs.frozen(kw_only=True)
class OutboxOptions:
    """What one connection may be owed, and what is kept for its return."""

    count: int = attrs.field(default=65_536, validator=_positive)
    """Events held in all, written or not. An entry is a reference: a full log of shared events takes 0.5 MiB."""
    size: int = attrs.field(default=16 * MIB, validator=_positive)
    """The same in bytes, as if no event were shared with other connections."""
    kept_count: int = attrs.field(default=1024, validator=_positive)
    """Written events kept for a resume. Without acknowledgements the oldest is forgotten beyond this; with them
    nothing more is written until the peer acknowledges."""
    kept_size: int = attrs.field(default=1 * MIB, validator=_positive)
    """The same in bytes; one larger event is let through alone."""
    age: float = attrs.field(default=600.0, validator=_positive)
    """Time within which an owed event is written, or too much is owed. Must be above the hub's window, which is the
    limit for who is away; this one is for a peer that trickles."""
    acknowledge_within: float = attrs.field(default=300.0, validator=_positive)
    """Time within which a peer that acknowledges must say so of the oldest event it was sent, or its link is given
    up. A program may be busy with one event for minutes; one that never says anything has a fault."""


@attrs.frozen(kw_only=True)
class HubOptions:
    """How a hub treats its connections."""

    window: float = attrs.field(default=60.0, validator=_positive)
    """How long a connection outlives its link. Covers a tunnel, a sleeping laptop's wake-up, a server's hiccup."""
    authenticate_within: float = attrs.field(default=5.0, validator=_positive)
    """From the upgrade to a valid `authentication_challenge`, where the upgrade brought no credentials."""
    inbox: int = attrs.field(default=1024, validator=_positive)
    """Publishes waiting for the hub task. When it is full, `publish` waits: that is the backpressure."""
    batch: int = attrs.field(default=64, validator=_positive)
    """Publishes taken before each touched connection is flushed once."""
    yield_every: int = attrs.field(default=256, validator=_positive)
    """Recipients served before other tasks get a turn: about a millisecond."""
    running_requests: int = attrs.field(default=256, validator=_positive)
    """Requests of one connection that may run or wait for their turn; one more is refused with 503."""
    kept_replies: int = attrs.field(default=256, validator=_positive)
    """Replies kept for repetition (v1) until the client acknowledges them."""
    kept_replies_size: int = attrs.field(default=1 * MIB, validator=_positive)
    """The same in bytes; the latest is kept whatever its size."""
    hook_queue: int = attrs.field(default=64, validator=_positive)
    """Moments of one connection waiting for its plugins. Copies of requests are dropped beyond half of it."""
    connections: int = attrs.field(default=100_000, validator=_positive)
    """Connections in all, away ones included; one more is refused with 503."""
    connections_of_user: int = attrs.field(default=100_000, validator=_positive)
    """Connections of one user, away ones included, at all nodes together; no bound of its own if nothing is said. 1 is
    one session only."""
    newest_wins: bool = False
    """Who has to go when a user has one more than that: the one that has been here longest, which is closed with 4503,
    or the new one, with 4504. Connections that are away go before either."""
    requests: Rate | None = None
    """How fast a connection may ask; one request too many is refused with 429. No limit if nothing is said: what is
    fast depends on what is asked. A person does no more than 10 a second."""
    requests_size: Rate | None = None
    """The same in bytes."""
    requests_of_user: Rate | None = None
    """How fast all connections of a user together may ask."""
    requests_size_of_user: Rate | None = None
    """The same in bytes."""
    arrivals: Rate | None = None
    """How many may come, or come back, in all; one too many is refused with 503 and comes again a little later. A core
    serves some 3000 a second."""
    connections_of_address: int = attrs.field(default=100_000, validator=_positive)
    """Connections from one address (of IPv6: from one /64), away ones included; one more is refused with 503. No bound
    of its own if nothing is said: whole offices share one."""
    strangers: int = attrs.field(default=16_384, validator=_positive)
    """Streams at once of which no link has come yet, or that ask for none: heads that are read, upgrades that are
    judged, requests at the side door. One more is hung up on. Each costs a task and a descriptor, for the opening's
    deadline if its peer is slow; the system's limit of descriptors may be lower."""
    topics: int = attrs.field(default=1000, validator=_positive)
    """Topics one connection may subscribe to."""
    remembered: int = attrs.field(default=4096, validator=_positive)
    """Ended connections of which we remember why, so that those who return late are told."""
    hooks_end_within: float = attrs.field(default=60.0, validator=_positive)
    """Time that plugins have for what a connection left behind, when it is gone."""
    budget: int = attrs.field(default=1024 * MIB, validator=_positive)
    """Bytes of all events that anybody is owed or that are kept for anybody, each counted once however many share
    it. Beyond it connections are relieved of what they hold until an eighth is free: those who are away first, then
    the others, and of both those first who hold most. They are told of a gap."""
    outbox: OutboxOptions = OutboxOptions()
    """What each connection may be owed."""
    link: LinkOptions = LinkOptions()
    """What each of its links may cost."""
    opening: OpeningOptions = OpeningOptions()
    """What a stranger may cost."""

    def __attrs_post_init__(self) -> None:
        if self.outbox.kept_count >= self.outbox.count or self.outbox.kept_size >= self.outbox.size:
            raise ValueError("what is kept is part of what is held: kept_count < count, kept_size < size")
        if self.budget < self.outbox.size:
            raise ValueError("one connection may be owed no more than all together: size <= budget")
        if not self.link.dialect.is_standard:
            raise ValueError("a hub speaks the standard dialect; others are for links without a hub")
        if self.outbox.age <= self.window:
            raise ValueError("who is away is owed events for as long as the window: window < age")


class WhenFull(enum.Enum):
    """What becomes of a message for a link that is owed as much as it may be (`LinkOptions.owed_size`)."""

    DROP = "drop"
    """It is not sent there, and counted."""
    END = "end"
    """It is not sent there, and the link is ended with 4100."""
    WAIT = "wait"
    """The sender waits, when everybody else has been served."""


@attrs.frozen(kw_only=True)
class PoolOptions:
    """How a pool of links is kept, and how its members are dialled again."""

    size: int = attrs.field(default=10_000, validator=_positive)
    """Members; one more is refused. A message to them all takes some 60 ms, in which nothing else happens."""
    when_full: WhenFull = WhenFull.DROP
    """Unless said otherwise where something is sent. A slow peer should hurt nobody else."""
    retries: int | None = attrs.field(default=None, validator=validators.optional(validators.ge(0)))
    """Dials in a row that may fail before a member is given up, once its link is lost or did not come about. None: it
    is dialled again and again, unless its server says that this is no use."""
    good_after: float = attrs.field(default=10.0, validator=validators.ge(0))
    """How long a link has to last for the failures before it to be forgotten; one that is lost sooner is a failure
    itself, or a server that accepts links and drops them would be dialled without end, at the shortest waits."""
    first_retry: float = attrs.field(default=0.5, validator=_positive)
    """The longest wait before the first of them; each wait is drawn between nothing and its longest."""
    longest_retry: float = attrs.field(default=30.0, validator=_positive)
    """The longest wait doubles with each failure, up to this."""
    longest_advice: float = attrs.field(default=300.0, validator=validators.ge(0))
    """The longest wait that a server may ask for, with ``Retry-After`` or as it leaves. Whoever asks for more gets this
    much: a slip, or a stranger's server, should keep nobody away for a day."""
    close_within: float = attrs.field(default=10.0, validator=_positive)
    """Time for all members to leave politely, and for their handlers to be done. After it they are cut."""
    dispatch: DispatchOptions = DispatchOptions()
    """How messages are handed to handlers."""
    link: LinkOptions = LinkOptions()
    """Limits on links that the pool dials, and their heart's and that of links it was given to run."""
    opening: OpeningOptions = OpeningOptions()
    """Limits on the upgrade."""


@attrs.frozen(kw_only=True)
class ClientOptions:
    """How a client stays connected."""

    first_retry: float = attrs.field(default=0.5, validator=_positive)
    """The longest wait before the first new dial; each wait is drawn between nothing and its longest."""
    longest_retry: float = attrs.field(default=30.0, validator=_positive)
    """The longest wait doubles with each failure, up to this; and up to a quarter of the hub's window while that is
    open, or a resume might come too late."""
    longest_advice: float = attrs.field(default=300.0, validator=validators.ge(0))
    """The longest wait that a server may ask for, with ``Retry-After`` or as it leaves. Whoever asks for more gets this
    much: a slip, or a stranger's server, should keep nobody away for a day."""
    cbor: bool = False
    """Whether to speak CBOR instead of JSON: requests and replies may then hold bytes as they are. JSON is quicker to
    read and write here, and for a person to look at."""
    mailbox: int = attrs.field(default=4096, validator=_positive)
    """Events that came and were not asked for. A hub writes no more than it keeps unacknowledged, a quarter of this;
    after a gap in band it begins anew. When the mailbox is full the client stops reading, replies included."""
    in_flight: int = attrs.field(default=128, validator=_positive)
    """Requests that may wait for their replies; `ask` waits for one to end. A hub refuses from 256 on."""
    items: int = attrs.field(default=64, validator=_positive)
    """Items of one streamed reply that came and were not taken; beyond, its handler waits. So 64 make 320 a second
    where word takes 0.1 s there and back."""
    ack_every: int = attrs.field(default=256, validator=_positive)
    """Events handled before they are acknowledged at once: a quarter of what a hub writes without. Each takes the hub
    some 20 us, as much as ten deliveries."""
    ack_size: int = attrs.field(default=256 * KIB, validator=_positive)
    """The same in bytes."""
    ack_after: float = attrs.field(default=1.0, validator=_positive)
    """Time after which they are in any case."""
    link: LinkOptions = LinkOptions(max_message=16 * MIB)
    """Limits on the link. A client trusts its server with larger messages than a server its clients."""
    opening: OpeningOptions = OpeningOptions()
    """Limits on the upgrade."""


@attrs.frozen(kw_only=True)
class CallOptions:
    """How two ends of a plain link ask each other; both have to say the same of `cbor`."""

    cbor: bool = False
    """Whether to speak CBOR instead of JSON: what is asked and answered may then hold bytes as they are."""
    running_requests: int = attrs.field(default=256, validator=_positive)
    """Requests of the other end that may run, or wait for their turn; one more is refused with 503."""
    in_flight: int = attrs.field(default=128, validator=_positive)
    """Requests that may wait for their replies, streamed ones for their last item; `ask` waits for one to end."""
    items: int = attrs.field(default=64, validator=_positive)
    """Items of one streamed reply that came and were not taken; beyond, its handler waits."""


@attrs.frozen(kw_only=True)
class BackplaneOptions:
    """How a node takes part in a backplane."""

    patience: float = attrs.field(default=2.0, validator=_positive)
    """The longest that anything asked of the backplane is waited for. A publish that is late is told so, and goes no
    further than this node."""
    beat_every: float = attrs.field(default=1.0, validator=_positive)
    """Time between two messages of a node to itself, by which it knows that it hears."""
    deaf_after: float = attrs.field(default=3.0, validator=_positive)
    """Silence after which it does not: two beats may be late. The connection on which it listens is made anew then."""
    waiting: int = attrs.field(default=10_000, validator=_positive)
    """Messages that came and were not received; half a second of a busy cluster. Beyond, plain ones are lost, which is
    told, and reliable ones stay where they are."""
    waiting_bytes: int = attrs.field(default=32 * MIB, validator=_positive)
    """The same in bytes."""
    asking: int = attrs.field(default=1000, validator=_positive)
    """Calls of this node that wait for their turn to be written; one more waits for room, within its patience."""
    kept: int = attrs.field(default=10_000, validator=_positive)
    """Messages of one reliable channel that can be fetched later, by a node that was away or slow: at least so many."""
    kept_for: float = attrs.field(default=24 * 3600.0, validator=_positive)
    """Time after which a reliable channel to which nobody sends is forgotten."""
    first_retry: float = attrs.field(default=0.05, validator=_positive)
    """The longest wait before the first new dial; each wait is drawn between nothing and its longest."""
    longest_retry: float = attrs.field(default=1.0, validator=_positive)
    """The longest wait doubles with each failure, up to this: short, since all that a cluster says waits for it."""


@attrs.frozen(kw_only=True)
class ClusterOptions:
    """How a hub is one of several."""

    key: bytes | None = attrs.field(default=None, repr=False, validator=validators.optional(validators.min_len(1)))
    """What nodes sign with what they tell each other, where others may write to the backplane, too; the same for all of
    them. None: nothing is signed."""
    waiting: int = attrs.field(default=10_000, validator=_positive)
    """Events that wait to be carried fast. Beyond, they are not carried, which is counted, and told as a gap to those
    whom they were for."""
    waiting_bytes: int = attrs.field(default=32 * MIB, validator=_positive)
    """The same in bytes."""
    answer_within: float = attrs.field(default=1.0, validator=_positive)
    """Time within which another node answers where a connection is; or it is not there."""
    fetch_within: float = attrs.field(default=3.0, validator=_positive)
    """Time within which a connection that was at another node is here with its log; or its client is told of a gap."""
    leave_within: float = attrs.field(default=0.5, validator=_positive)
    """Time that requests have to come to an end before their connection goes on at another node; then they are
    cancelled, and have as long again for that."""
