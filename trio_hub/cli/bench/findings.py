"""What came of a load, and what is told of it while it lasts."""

from __future__ import annotations

import attrs

from trio_hub.cli.bench.measures import Histogram, Verdict
from trio_hub.cli.bench.members import Plan

__all__ = ["Findings", "Reading"]

_BUSY = 0.9
_KEPT_UP = 0.95


@attrs.frozen(kw_only=True)
class Reading:
    """What has happened since the last one. Latencies are those of the events that came meanwhile, in ms; None where
    none did.
    """

    stage: str
    links: int
    wanted: int
    published_per_second: float
    delivered_per_second: float
    p50: float | None
    p99: float | None
    links_lost: int
    resumes: int
    gaps: int


@attrs.frozen(kw_only=True)
class Findings:
    """Everything that is known of one load. `accepted_seconds` is until the last was accepted, and so on."""

    plan: Plan
    interrupted: bool
    waited: bool
    """Whether there was time for what was still on its way; if not, nobody can say that it did not come."""
    connections: int
    coming_seconds: float
    published: int
    accepted: int
    accepted_seconds: float
    delivered_seconds: float
    verdict: Verdict
    latencies: Histogram
    links_lost: int
    dials_failed: int
    resumes: int
    gaps: int
    ended: int
    failures: dict[str, int]
    reasons: list[str]
    """Why a connection was ended, and why a publish failed: the last of each."""
    cpu_share: float
    """CPU time of this program for each second of publishing: of one core, which is all that it can use."""
    busy_share: float
    """How much of that time it had something to do, with or without a CPU to do it on."""

    @property
    def is_sound(self) -> bool:
        """Whether each publish was accepted, and each event came once and in order or its loss was told; and there
        was one.
        """
        verdict = self.verdict
        return bool(verdict.due) and not (
            self.failures or self.ended or verdict.silent or verdict.duplicates or verdict.out_of_order
        )

    @property
    def connections_per_second(self) -> float:
        return _per_second(self.connections, self.coming_seconds)

    @property
    def accepted_per_second(self) -> float:
        return _per_second(self.accepted, self.accepted_seconds)

    @property
    def delivered_per_second(self) -> float:
        return _per_second(self.verdict.delivered, self.delivered_seconds)

    @property
    def latency_ms(self) -> dict[str, float | None]:
        """The 50th, 90th and 99th of a hundred latencies, and the largest; None where nothing came."""
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        if not self.latencies.count:
            return dict.fromkeys([*shares, "max"])
        quantiles = {name: self.latencies.quantile(share) / 1e6 for name, share in shares.items()}
        return {**quantiles, "max": self.latencies.largest / 1e6}

    @property
    def remarks(self) -> list[str]:
        """What to bear in mind when reading the figures."""
        remarks = []
        if self.interrupted:
            remarks.append("It was ended before its time.")
        remarks += [f"The hub said: {reason}" for reason in self.reasons]
        if not self.waited:
            remarks.append("What was on its way then was not waited for.")
        if max(self.cpu_share, self.busy_share) > _BUSY:
            remarks.append("This program had no time to spare: it is the limit here, and not the server.")
        if self.plan.rate and not self.interrupted and self.accepted < _KEPT_UP * self.plan.rate * self.plan.seconds:
            remarks.append(f"The rate of {self.plan.rate:g} publishes a second was not reached.")
        return remarks

    def as_json(self) -> dict[str, object]:
        """Return everything as one JSON object. Latencies are rounded to what they are good for."""
        plan = attrs.asdict(self.plan)
        for name in ("token", "name", "patience"):  # what is secret, or says nothing
            del plan[name]
        verdict = self.verdict
        return {
            "plan": plan,
            "interrupted": self.interrupted,
            "sound": self.is_sound,
            "connections": self.connections,
            "connecting_seconds": round(self.coming_seconds, 3),
            "connections_per_second": round(self.connections_per_second, 1),
            "published": self.published,
            "accepted": self.accepted,
            "accepted_per_second": round(self.accepted_per_second, 1),
            "due": verdict.due,
            "delivered": verdict.delivered,
            "delivered_per_second": round(self.delivered_per_second, 1),
            "delivered_fraction": verdict.delivered / verdict.due if verdict.due else None,
            "missing_told": verdict.told,
            "missing_silently": verdict.silent,
            "duplicates": verdict.duplicates,
            "out_of_order": verdict.out_of_order,
            "delivered_though_in_doubt": verdict.extra,
            "latency_ms": {name: value and round(value, 3) for name, value in self.latency_ms.items()},
            "links_lost": self.links_lost,
            "dials_failed": self.dials_failed,
            "resumes": self.resumes,
            "gaps": self.gaps,
            "connections_ended": self.ended,
            "failures": self.failures,
            "cpu_share": round(self.cpu_share, 3),
            "busy_share": round(self.busy_share, 3),
            "remarks": self.remarks,
        }


def _per_second(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
