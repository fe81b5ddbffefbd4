"""A client's counters in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxygrm.serving.pool.tally import Tally

_HELP = {
    "calls": "Judgements requested.",
    "scored": "Judgements with a verdict.",
    "agreed": "Verdicts that are the label.",
    "requests": "Requests sent to replicas, retries and hedges included.",
    "retried": "Attempts after the first.",
    "hedged": "Calls that were also sent to a second replica because the first was slow.",
    "hedges_won": "Hedges that answered first.",
    "spilled": "Requests that did not go to the home replica of their prompt.",
    "warm": "Requests that went to a replica that has had their prompt.",
    "uploads": "Images sent in full.",
}


class _Collector:
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts = self._tally.snapshot()
        for name in Tally.COUNTS:
            yield CounterMetricFamily(f"proxygrm_proxy_{name}", _HELP[name], value=counts[name])
        unscored = CounterMetricFamily("proxygrm_proxy_unscored", "Judgements without a verdict.", labels=["cause"])
        for cause, count in counts["unscored"].items():
            unscored.add_metric([cause], count)
        yield unscored
        latency = GaugeMetricFamily(
            "proxygrm_proxy_latency_seconds", "Of the last 4096 calls, waiting included.", labels=["quantile"]
        )
        for name in ("p50", "p95", "max"):
            latency.add_metric([name], counts[f"latency_{name}_s"])
        yield latency


def exposition(tally: Tally) -> bytes:
    """The page that Prometheus reads."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(tally))  # type: ignore[arg-type]
    return generate_latest(registry)
