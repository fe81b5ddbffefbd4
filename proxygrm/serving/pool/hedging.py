"""When a call that takes long is sent to a second replica as well. Pure."""

from __future__ import annotations

from collections import deque

KEPT = 512
"""Latencies; older ones say little about the present load."""
NEEDED = 20
"""Latencies before the first hedge: until then "long" means nothing."""
QUANTILE = 0.95
SHARE = 0.05
"""Of the calls may be hedged, so that a pool that is slow as a whole is not given twice the work."""
BURST = 16
"""Hedges beyond that share, for the calls that one replica holds when it stops."""
REFRESH = 32
LEAST_DELAY_S = 0.05
LOOK_AGAIN_S = 1.0
"""While it is not known what takes long."""


class Hedging:
    """Latencies of one event loop's attempts, and how many calls were hedged."""

    def __init__(self) -> None:
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._seen = self._calls = self._hedged = 0
        self._delay_s: float | None = None

    def answered(self, latency_s: float) -> None:
        self._latencies.append(latency_s)
        self._seen += 1
        if self._seen >= NEEDED and (self._delay_s is None or self._seen % REFRESH == 0):
            ordered = sorted(self._latencies)
            self._delay_s = max(LEAST_DELAY_S, ordered[int(QUANTILE * (len(ordered) - 1))])

    def started(self) -> None:
        self._calls += 1

    def delay_s(self) -> float | None:
        """How long an attempt may take before it is hedged; None: not known yet, don't."""
        return self._delay_s

    def may(self, suspected: bool) -> bool:
        """May one more call be hedged? suspected: its replica's breaker is open, so its calls have to go elsewhere
        anyway."""
        return suspected or self._hedged < BURST + SHARE * self._calls

    def took(self, suspected: bool) -> None:
        self._hedged += not suspected
