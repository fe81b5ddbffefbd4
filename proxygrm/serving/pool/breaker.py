"""When a replica is not used for a while, and when it is tried again. Pure: time is an argument (seconds)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

OPENS_AFTER = 3
"""Failures in a row."""
FIRST_BACK_OFF_S = 1.0
MAX_BACK_OFF_S = 10.0


@dataclass
class Breaker:
    """Closed: requests pass. Open: none do, for a back-off that doubles each time. Then one request may probe; its
    success closes the breaker, its failure opens it again."""

    failures: int = 0
    times_opened: int = 0
    open_until: float = -inf
    last_success: float = -inf

    @property
    def closed(self) -> bool:
        return self.times_opened == 0

    def limit(self, now: float, full: int) -> int:
        """How many requests may be in flight on the replica. full: of a healthy one."""
        if self.closed:
            return full
        return 0 if now < self.open_until else 1

    def succeeded(self, now: float) -> None:
        self.failures = self.times_opened = 0
        self.open_until, self.last_success = -inf, now

    def failed(self, now: float) -> float | None:
        """Seconds until the replica may be probed, when this failure opens the breaker (again); None otherwise.

        Requests that were in flight when it opened fail too, and are not counted again.
        """
        self.failures += 1
        if now < self.open_until or (self.closed and self.failures < OPENS_AFTER):
            return None
        back_off = min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2**self.times_opened)
        self.times_opened += 1
        self.open_until = now + back_off
        return back_off
