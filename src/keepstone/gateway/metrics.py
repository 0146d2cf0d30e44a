"""Counters on the hot path, Prometheus families on demand.

Counting is a few integer additions. Labels come from our own tables (models served, codes
answered), never from a request, so a client cannot grow them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
# Microseconds; the last bucket is open.
BUCKETS_US = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000)

Gauges = Callable[[], Mapping[str, float]]
_GAUGE_HELP = {
    "keepstone_audit_outstanding": "Entries appended and not durable yet.",
    "keepstone_audit_lost_refusals": "Refusals that could not be put on record.",
    "keepstone_connections": "Open connections.",
    "keepstone_connections_refused": "Connections refused by a limit, since the start.",
    "keepstone_limited_addresses": "Addresses that the limiter remembers.",
    "keepstone_limited_principals": "Principals that the limiter remembers.",
    "keepstone_ledger_size": "Durable entries of the ledger.",
    "keepstone_registry_transfers": "Artifacts on their way in or out of the registry.",
}


class Metrics(Collector):
    """What the endpoint counts. `gauges` are read when somebody scrapes."""

    def __init__(self) -> None:
        self.gauges: list[Gauges] = []
        self.expiries: Callable[[], Mapping[str, int | None]] = dict
        self._requests: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._latency: dict[str, list[int]] = {}
        self._latency_us: defaultdict[str, int] = defaultdict(int)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def served(self, model: str, us: int) -> None:
        """Count one prediction and the microseconds from its first look to its answer."""
        self._requests[model, "served"] += 1
        self._latency_us[model] += us
        buckets = self._latency.get(model)
        if buckets is None:
            buckets = self._latency[model] = [0] * (len(BUCKETS_US) + 1)
        buckets[bisect_left(BUCKETS_US, us)] += 1

    def refused(self, model: str, code: str) -> None:
        """Count one refusal by its code; `model` is empty where none was named."""
        self._requests[model, code] += 1

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "keepstone_requests",
            "Requests by model and what became of them.",
            labels=["model", "decision"],
        )
        for (model, decision), count in sorted(self._requests.items()):
            requests.add_metric([model, decision], count)
        yield requests
        latency = HistogramMetricFamily(
            "keepstone_prediction_seconds",
            "From request to answer, as the server sees it.",
            labels=["model"],
        )
        for model, counts in sorted(self._latency.items()):
            latency.add_metric([model], _cumulative(counts), self._latency_us[model] / 1e6)
        yield latency
        expiry = GaugeMetricFamily(
            "keepstone_admission_expires_seconds",
            "When the standing admission ends (Unix time); 0 without one.",
            labels=["model"],
        )
        for model, expires in sorted(self.expiries().items()):
            expiry.add_metric([model], (expires or 0) / 1000)
        yield expiry
        for source in self.gauges:
            for name, value in source().items():
                yield GaugeMetricFamily(name, _GAUGE_HELP.get(name, name), value=value)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets = []
    for bound, count in zip([*(b / 1e6 for b in BUCKETS_US), None], counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else repr(bound), float(total)))
    return buckets
