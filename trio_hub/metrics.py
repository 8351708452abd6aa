"""Metrics: what `Hub.statistics` says, and `Relay.statistics` where there are other nodes, as Prometheus reads it.

Nothing is counted here. Each time somebody looks, the statistics are read once and spelled out under the names of the
table below: those of Mattermost's, with a prefix of ours, where it has one for the same thing. Names of counters end in
``_total``; sizes are in bytes, times in seconds. Needs the extra ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from trio_hub.hub.statistics import Durations, HubStatistics

if TYPE_CHECKING:
    from trio_hub.cluster.relay import RelayStatistics

__all__ = ["Metrics"]

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@attrs.frozen
class _Number:
    """One metric: its name and meaning, how it is read, and where it is several numbers what their label is called."""

    name: str
    meaning: str
    read: Callable[[Any], float | Mapping[str, float]]
    label: str | None = None


def _connections(held: HubStatistics) -> Mapping[str, float]:
    return {"attached": held.attached, "away": held.index.connections - held.attached}


def _reconnects(happened: HubStatistics) -> Mapping[str, float]:
    return {"success": happened.resumed, "failure": happened.returned - happened.resumed}


def _requests(happened: HubStatistics) -> Mapping[str, float]:
    return {str(status): count for status, count in happened.answered_by_status.items()}


_NUMBERS: Final = (
    # What is held at this moment.
    _Number("trio_hub_http_websockets", "Connections that have a link, and that are away", _connections, "state"),
    _Number("trio_hub_websocket_broadcast_users_registered", "Users who have a connection", lambda s: s.index.users),
    _Number("trio_hub_topics", "Topics that some connection hears", lambda s: s.index.topics),
    _Number("trio_hub_websocket_broadcast_buffer_size", "Events in the hub's inbox", lambda s: s.inbox),
    _Number("trio_hub_owed_events", "Events that connections are still owed, in all", lambda s: s.owed_count),
    _Number("trio_hub_owed_bytes", "The same in bytes, as if none were shared", lambda s: s.owed_size),
    _Number("trio_hub_kept_events", "Written events kept for a resume, in all", lambda s: s.kept_count),
    _Number("trio_hub_kept_bytes", "The same in bytes, as if none were shared", lambda s: s.kept_size),
    _Number("trio_hub_held_bytes", "Bytes of all events that are held, each counted once", lambda s: s.held_size),
    # What has happened.
    _Number("trio_hub_websocket_event_total", "Events published, by name", lambda s: s.published_by_name, "type"),
    _Number("trio_hub_websocket_broadcasts_total", "Events offered to all they are for", lambda s: s.broadcast),
    _Number("trio_hub_deliveries_total", "Recipients who were offered an event", lambda s: s.offered),
    _Number("trio_hub_drops_total", "Events dropped, as they allow", lambda s: s.dropped_by_reason, "reason"),
    _Number("trio_hub_websocket_reconnects_total", "Connections that wanted to go on", _reconnects, "type"),
    _Number("trio_hub_gaps_total", "Gaps that clients were told of", lambda s: s.gaps_by_reason, "reason"),
    _Number("trio_hub_relieved_total", "Connections relieved for the budget's sake", lambda s: s.relieved),
    _Number("trio_hub_requests_total", "Requests by the status of their reply", _requests, "status"),
    _Number("trio_hub_requests_too_fast_total", "Requests refused as too many", lambda s: s.too_fast),
    _Number("trio_hub_arrivals_refused_total", "Arrivals for which there was no place", lambda s: s.refused),
    _Number("trio_hub_editor_failures_total", "Failures of editors", lambda s: s.editor_failures),
    _Number("trio_hub_restarts_total", "Failures of the hub's own loop", lambda s: s.restarts),
)
_CARRIED: Final = (  # where there are other nodes
    _Number("trio_hub_cluster_nodes", "Other nodes that are here now", lambda s: s.nodes),
    _Number(
        "trio_hub_cluster_carried_total",
        "Events that this node had carried to others, or not",
        lambda s: {"fast": s.carried, "reliably": s.reliably, "not": s.not_carried},
        "how",
    ),
    _Number("trio_hub_cluster_heard_total", "Events of other nodes that were delivered here", lambda s: s.heard),
    _Number("trio_hub_cluster_twice_total", "Events of other nodes that came again", lambda s: s.twice),
    _Number("trio_hub_cluster_holes_total", "Holes in what other nodes say, told as gaps", lambda s: s.holes),
    _Number(
        "trio_hub_cluster_unreadable_total", "Payloads of other nodes that nobody could read", lambda s: s.unreadable
    ),
)
_FAN_OUT: Final = "trio_hub_fan_out_seconds"


class Metrics:
    """The metrics of one hub, in a registry of their own. `statistics` is the hub's, `carried` its relay's."""

    def __init__(
        self, statistics: Callable[[], HubStatistics], carried: Callable[[], RelayStatistics] | None = None
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Statistics(statistics, carried))

    def scrape(self) -> tuple[str, bytes]:
        """Return all of them as they are at this moment, in Prometheus' text format, behind its content type."""
        return _TEXT, generate_latest(self._registry)


class _Statistics(Collector):
    """Reads the statistics whenever a registry is asked."""

    def __init__(self, read: Callable[[], HubStatistics], carried: Callable[[], RelayStatistics] | None) -> None:
        self._read = read
        self._carried = carried

    def collect(self) -> Iterator[Metric]:
        statistics = self._read()
        for number in _NUMBERS:
            yield _spelled(number, statistics)
        if self._carried is not None:
            carried = self._carried()
            for number in _CARRIED:
                yield _spelled(number, carried)
        yield _histogram(_FAN_OUT, "Time it took to offer a burst to all it is for", statistics.fan_out)


def _spelled(number: _Number, statistics: HubStatistics | RelayStatistics) -> Metric:
    labels = [] if number.label is None else [number.label]
    family: CounterMetricFamily | GaugeMetricFamily
    if number.name.endswith("_total"):
        family = CounterMetricFamily(number.name, number.meaning, labels=labels)
    else:
        family = GaugeMetricFamily(number.name, number.meaning, labels=labels)
    value = number.read(statistics)
    if isinstance(value, Mapping):
        for label, each in value.items():
            family.add_metric([label], each)
    else:
        family.add_metric([], value)
    return family


def _histogram(name: str, meaning: str, durations: Durations) -> Metric:
    bounds = [*map(floatToGoString, durations.BOUNDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(durations.counts), strict=True))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=durations.total)
