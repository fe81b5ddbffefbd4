"""Which replicas of a pool are healthy, for callers of a front end."""

from __future__ import annotations

import asyncio
import time

from proxygrm.serving.pool.dispatch import Pool

HEALTH_CACHE_S = 1.0
"""Every caller may request /health; the replicas are not asked more often than this."""


class Health:
    def __init__(self, client: Pool) -> None:
        self._client, self._checked_at = client, -HEALTH_CACHE_S
        self._counts = (0, len(client.endpoints.replicas))
        self._lock = asyncio.Lock()

    async def counts(self) -> tuple[int, int]:
        """(healthy replicas, replicas)"""
        async with self._lock:
            if time.monotonic() - self._checked_at >= HEALTH_CACHE_S:
                healthy = await self._client.health()
                self._counts, self._checked_at = (sum(healthy.values()), len(healthy)), time.monotonic()
            return self._counts
