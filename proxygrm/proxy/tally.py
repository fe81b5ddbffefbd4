"""What a client has counted: nothing the proxy did not judge is dropped without a number."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Any

from proxygrm.proxy.routing import Cause

_KEPT_LATENCIES = 4096


class Tally:
    """Thread-safe counters of one client."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = self.scored = self.agreed = self.retried = self.spilled = 0
        self._unscored: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=_KEPT_LATENCIES)

    def ended(self, verdict: int | None, agrees: bool | None, cause: Cause | None, latency_s: float) -> None:
        with self._lock:
            self.calls += 1
            self._latencies.append(latency_s)
            if verdict is not None:
                self.scored += 1
                self.agreed += bool(agrees)
            elif cause is not None:
                self._unscored[cause.value] += 1

    def retry(self) -> None:
        with self._lock:
            self.retried += 1

    def spill(self) -> None:
        with self._lock:
            self.spilled += 1

    def snapshot(self) -> dict[str, Any]:
        """calls = scored + the sum of unscored; latencies (s) are of the last 4096 calls, waiting included."""
        with self._lock:
            latencies = sorted(self._latencies)
            return {
                "calls": self.calls,
                "scored": self.scored,
                "agreed": self.agreed,
                "retried": self.retried,
                "spilled": self.spilled,
                "unscored": dict(self._unscored),
                "latency_mean_s": sum(latencies) / len(latencies) if latencies else 0.0,
                "latency_p95_s": latencies[int(0.95 * (len(latencies) - 1))] if latencies else 0.0,
                "latency_max_s": latencies[-1] if latencies else 0.0,
            }
