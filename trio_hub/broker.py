"""The topic broker that the command line runs: everybody who is let in may hear every topic and speak to it.

Written with the public API alone: a program that wants other rules begins by copying this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trio_hub import (
    Backplane,
    BusyOptions,
    ClusterOptions,
    HubOptions,
    PresenceOptions,
    Server,
    TicketOffice,
    TypingOptions,
    anybody,
    known_tokens,
)

__all__ = ["topic_broker"]


def topic_broker(
    tokens: Mapping[str, str] | None = None,
    *,
    key: str | None = None,
    origins: Sequence[str] = (),
    proxies: Sequence[str] = (),
    metrics: bool = False,
    backplane: Backplane | None = None,
    node: str | None = None,
    cluster: ClusterOptions | None = None,
    options: HubOptions | None = None,
) -> Server:
    """Return a server that lets in those whose token is known, each token with its user id; None lets in everybody.

    `key` opens ``POST /publish`` to back ends on other machines, and, where there are tokens, ``POST /tickets`` for
    their pages; `origins` are the pages, beside the server's own, from which browsers may connect, `proxies` the
    networks whose ``X-Forwarded-For`` is believed. `metrics` says
    whether ``GET /metrics`` answers. With a `backplane` it is one node of several, called `node`; `cluster` are its
    options.
    """
    return Server(
        authenticate=None if tokens is None else known_tokens(tokens),
        tickets=None if tokens is None or key is None else TicketOffice(),
        may_publish=anybody,
        key=key,
        origins=origins,
        proxies=proxies,
        metrics=metrics,
        presence=PresenceOptions(),
        typing=TypingOptions(),
        busy=BusyOptions(),
        backplane=backplane,
        node=node,
        cluster=cluster,
        options=options,
    )
