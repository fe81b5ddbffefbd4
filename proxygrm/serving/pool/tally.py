"""The counters of a client: every call that got no verdict is counted by its cause."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from proxygrm.serving.pool.routing import Cause

_KEPT_LATENCIES = 4096
_QUANTILES = {"p50": 0.5, "p95": 0.95, "max": 1.0}


class Tally:
    """Thread-safe counters of one client.

    calls = scored + unscored. requests: sent to replicas, retries and hedges included. warm: those that went to a
    replica that has had their prompt. spilled: those that did not go to their prompt's home.
    """

    COUNTS = ("calls", "scored", "agreed", "requests", "retried", "hedged", "hedges_won", "spilled", "warm", "uploads")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unscored: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES)
        self._step_counts: Counter[str] = Counter()
        self._step_unscored: Counter[str] = Counter()
        self._step_latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES * 16)

    def count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] += by

    def ended(self, scored: bool, agrees: bool | None, cause: Cause | None, latency_s: float) -> None:
        with self._lock:
            self._counts["calls"] += 1
            self._latencies.append(latency_s)
            self._step_latencies.append(latency_s)
            if scored:
                self._counts["scored"] += 1
                self._counts["agreed"] += bool(agrees)
            elif cause is not None:
                self._unscored[cause.value] += 1

    def snapshot(self) -> dict[str, Any]:
        """Counters since the start, `unscored` by cause; latencies (s) are of the last 4096 calls, waiting included."""
        with self._lock:
            counts = {name: self._counts[name] for name in self.COUNTS}
            return {**counts, "unscored": dict(self._unscored), **quantiles(self._latencies)}

    def step(self) -> dict[str, float]:
        """The same since the last `step`, flat and ready to log: `proxy/...`, shares in 0..1, latencies in s."""
        with self._lock:
            counts, unscored = self._counts - self._step_counts, self._unscored - self._step_unscored
            latencies = list(self._step_latencies)
            self._step_latencies.clear()
            self._step_counts, self._step_unscored = Counter(self._counts), Counter(self._unscored)
        metrics = {f"proxy/{name}": float(counts[name]) for name in self.COUNTS}
        metrics["proxy/unscored"] = float(unscored.total())
        metrics |= {f"proxy/unscored/{cause}": float(count) for cause, count in sorted(unscored.items())}
        metrics["proxy/prefix_hit_share"] = counts["warm"] / counts["requests"] if counts["requests"] else 0.0
        return metrics | {f"proxy/{name}": value for name, value in quantiles(latencies).items()}


def quantiles(latencies: Iterable[float]) -> dict[str, float]:
    """Mean and quantiles by name, in s; 0.0 when there are no latencies."""
    ordered = sorted(latencies)
    values = {"latency_mean_s": sum(ordered) / len(ordered) if ordered else 0.0}
    for name, share in _QUANTILES.items():
        values[f"latency_{name}_s"] = ordered[int(share * (len(ordered) - 1))] if ordered else 0.0
    return values
