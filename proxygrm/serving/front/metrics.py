"""Counters of clients in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    def __init__(self, tallies: Mapping[str, Tally], prefix: str, more: Iterable[Any]) -> None:
        self._tallies, self._prefix, self._more = tallies, prefix, more

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        named = [] if "" in self._tallies else ["model"]
        counts = {name: tally.snapshot() for name, tally in self._tallies.items()}

        def labels(model: str, *others: str) -> list[str]:
            return [*([model] if named else []), *others]

        for name in Tally.COUNTS:
            family = CounterMetricFamily(f"{self._prefix}_{name}", _HELP[name], labels=named)
            for model in counts:
                family.add_metric(labels(model), counts[model][name])
            yield family
        unscored = CounterMetricFamily(
            f"{self._prefix}_unscored", "Judgements without a verdict.", labels=[*named, "cause"]
        )
        latency = GaugeMetricFamily(
            f"{self._prefix}_latency_seconds",
            "Of the last 4096 calls, waiting included.",
            labels=[*named, "quantile"],
        )
        for model in counts:
            for cause, count in counts[model]["unscored"].items():
                unscored.add_metric(labels(model, cause), count)
            for name in ("p50", "p95", "max"):
                latency.add_metric(labels(model, name), counts[model][f"latency_{name}_s"])
        yield unscored
        yield latency
        yield from self._more


def exposition(tallies: Tally | Mapping[str, Tally], prefix: str = "proxygrm_proxy", more: Iterable[Any] = ()) -> bytes:
    """The page that Prometheus reads. tallies: of one client, or of each model by its name, which becomes a label.
    more: further metrics."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    by_model = {"": tallies} if isinstance(tallies, Tally) else tallies
    registry.register(_Collector(by_model, prefix, more))  # type: ignore[arg-type]
    return generate_latest(registry)
