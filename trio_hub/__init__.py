"""Keeps people and programs connected over WebSockets, so that a dropped link costs them nothing.

Server, Router                 a hub with a door, and its actions (`trio_hub.broker` is a whole application)
open_client                    the caller's side: dials, resumes, backs off, dials again
TicketOffice, by_cookie() ...  ways to say who somebody is, beside a function of your own
Event                          what is said; everyone(), user(), topic(), claim() ... say to whom,
                               must(), volatile(), latest(key), expires(seconds) how much it matters
Hub, Editor, Connection        the parts, for those who build their own door
Link, open_link, serve_links   one WebSocket, without a hub
Dispatcher, Handlers           the same, event-driven
open_pool                      many of them, by name and group
Streams, open_streams          many messages at once on one
Calls, open_calls              asking and answering over one, in both directions
RedisBackplane                 how several processes reach each other (`MemoryBackplane` in tests)
HubOptions, LinkOptions ...    every limit and interval
HubError and its children      every error, by who is to blame
"""

from trio_hub.app.auth import Authenticate, by_cookie, by_password, by_token, first_of, guests, known_tokens
from trio_hub.app.busy import Busy, BusyOptions
from trio_hub.app.presence import Presence, PresenceOptions, Status
from trio_hub.app.router import Router
from trio_hub.app.sessions import ReadSession, Sessions, TopicsOf
from trio_hub.app.tickets import MemoryTickets, TicketOffice, TicketStore, TooManyTickets
from trio_hub.app.topics import MayPublish, MaySubscribe, anybody, nobody
from trio_hub.app.typing import Typing, TypingOptions
from trio_hub.bucket import Rate
from trio_hub.cluster.backplane import (
    Arrival,
    Backplane,
    BackplaneHealth,
    BackplaneStatistics,
    Interrupted,
    Membership,
    Outbound,
)
from trio_hub.cluster.memory import MemoryBackplane
from trio_hub.cluster.redis import RedisBackplane
from trio_hub.cluster.relay import Relay, RelayStatistics
from trio_hub.delivery import Delivery, expires, latest, must, volatile
from trio_hub.dialect import Dialect
from trio_hub.errors import (
    Closed,
    Gap,
    HubError,
    LinkLost,
    Misuse,
    NoPlace,
    OutcomeUnknown,
    PeerFault,
    Refused,
    RequestFailed,
    StreamReset,
    Unreachable,
)
from trio_hub.hub.carrying import Carry
from trio_hub.hub.editing import Editor
from trio_hub.hub.editors import Edit, Editors, sensitive
from trio_hub.hub.hub import Hub
from trio_hub.hub.receipts import Published, Reach
from trio_hub.hub.statistics import HubStatistics
from trio_hub.link.dialing import open_link
from trio_hub.link.dispatching import Dispatcher
from trio_hub.link.handlers import Handlers, WholeMessage
from trio_hub.link.heads import RequestHead
from trio_hub.link.incoming import Incoming
from trio_hub.link.link import Link
from trio_hub.link.listening import open_unix_listener
from trio_hub.link.members import Member
from trio_hub.link.pool import Pool, PoolStatistics, open_pool
from trio_hub.link.serving import serve_links
from trio_hub.link.spreading import Sent
from trio_hub.link.streams import Streams, open_streams
from trio_hub.messages import CloseCode, CloseReason, Event, Kind, LinkStatus
from trio_hub.options import (
    BackplaneOptions,
    CallOptions,
    ClientOptions,
    ClusterOptions,
    CompressionOptions,
    DispatchOptions,
    HubOptions,
    LinkOptions,
    OpeningOptions,
    Order,
    OutboxOptions,
    PoolOptions,
    StreamsOptions,
    WhenFull,
)
from trio_hub.peer.calls import Calls, open_calls
from trio_hub.peer.client import Client, open_client
from trio_hub.peer.connection import Connection
from trio_hub.peer.items import Items
from trio_hub.peer.lifeline import Connected, Lost
from trio_hub.peer.mailbox import Position
from trio_hub.peer.questions import Question
from trio_hub.server import Server
from trio_hub.session import Credentials, Session
from trio_hub.targets import Target, all_of, any_of, claim, connection, everyone, session, topic, user, users
from trio_hub.version import VERSION as __version__

__all__ = [
    "Arrival",
    "Authenticate",
    "Backplane",
    "BackplaneHealth",
    "BackplaneOptions",
    "BackplaneStatistics",
    "Busy",
    "BusyOptions",
    "CallOptions",
    "Calls",
    "Carry",
    "Client",
    "ClientOptions",
    "CloseCode",
    "CloseReason",
    "Closed",
    "ClusterOptions",
    "CompressionOptions",
    "Connected",
    "Connection",
    "Credentials",
    "Delivery",
    "Dialect",
    "DispatchOptions",
    "Dispatcher",
    "Edit",
    "Editor",
    "Editors",
    "Event",
    "Gap",
    "Handlers",
    "Hub",
    "HubError",
    "HubOptions",
    "HubStatistics",
    "Incoming",
    "Interrupted",
    "Items",
    "Kind",
    "Link",
    "LinkLost",
    "LinkOptions",
    "LinkStatus",
    "Lost",
    "MayPublish",
    "MaySubscribe",
    "Member",
    "Membership",
    "MemoryBackplane",
    "MemoryTickets",
    "Misuse",
    "NoPlace",
    "OpeningOptions",
    "Order",
    "Outbound",
    "OutboxOptions",
    "OutcomeUnknown",
    "PeerFault",
    "Pool",
    "PoolOptions",
    "PoolStatistics",
    "Position",
    "Presence",
    "PresenceOptions",
    "Published",
    "Question",
    "Rate",
    "Reach",
    "ReadSession",
    "RedisBackplane",
    "Refused",
    "Relay",
    "RelayStatistics",
    "RequestFailed",
    "RequestHead",
    "Router",
    "Sent",
    "Server",
    "Session",
    "Sessions",
    "Status",
    "StreamReset",
    "Streams",
    "StreamsOptions",
    "Target",
    "TicketOffice",
    "TicketStore",
    "TooManyTickets",
    "TopicsOf",
    "Typing",
    "TypingOptions",
    "Unreachable",
    "WhenFull",
    "WholeMessage",
    "__version__",
    "all_of",
    "any_of",
    "anybody",
    "by_cookie",
    "by_password",
    "by_token",
    "claim",
    "connection",
    "everyone",
    "expires",
    "first_of",
    "guests",
    "known_tokens",
    "latest",
    "must",
    "nobody",
    "open_calls",
    "open_client",
    "open_link",
    "open_pool",
    "open_streams",
    "open_unix_listener",
    "sensitive",
    "serve_links",
    "session",
    "topic",
    "user",
    "users",
    "volatile",
]
