"""When a slow call is sent to a second replica as well. Pure."""

from __future__ import annotations

from collections import deque

KEPT_LATENCIES = 512
"""Older ones say little about the present load."""
NEEDED_LATENCIES = 20
"""Before the first hedge: until then it is unknown what is slow."""
QUANTILE = 0.95
MAX_SHARE = 0.05
"""Of calls that are hedged, so that a pool that is slow as a whole does not get twice the work."""
BURST = 16
"""Hedges beyond that share, for the calls that one replica holds when it stops."""
REFRESH_EVERY = 32
MIN_DELAY_S = 0.05
RECHECK_S = 1.0
"""While it is unknown what is slow."""


class Hedging:
    """Latencies of one event loop's attempts, and how many calls were hedged."""

    def __init__(self) -> None:
        self._latencies: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._answers = self._calls = self._hedged = 0
        self._delay_s: float | None = None

    def answered(self, latency_s: float) -> None:
        self._latencies.append(latency_s)
        self._answers += 1
        if self._answers >= NEEDED_LATENCIES and (self._delay_s is None or self._answers % REFRESH_EVERY == 0):
            ordered = sorted(self._latencies)
            self._delay_s = max(MIN_DELAY_S, ordered[int(QUANTILE * (len(ordered) - 1))])

    def started(self) -> None:
        self._calls += 1

    def delay_s(self) -> float | None:
        """How long an attempt may take before it is hedged; None: unknown yet, so it is not hedged."""
        return self._delay_s

    def may(self, suspected: bool) -> bool:
        """May one more call be hedged? suspected: its replica's breaker is open, so its calls have to use others
        anyway."""
        return suspected or self._hedged < BURST + MAX_SHARE * self._calls

    def hedged(self, suspected: bool) -> None:
        self._hedged += not suspected
