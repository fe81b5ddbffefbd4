"""The growth of CPU time with the size of the input: it does not depend on the machine, as a bound in seconds would."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

FLOOR_S = 0.005
"""Shorter times are noise and count as this much."""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Without the collector, which would look through all that other tests of this process have left in memory."""
    collects = gc.isenabled()
    gc.disable()
    try:
        start = time.process_time()
        work()
        return time.process_time() - start
    finally:
        if collects:
            gc.enable()


def assert_linear(work: Callable[[int], object], size: int, factor: int = 4, limit: float = 8.0) -> None:
    """`factor` times the input takes less than `limit` times as long, in the best of five tries.

    work: a function of the size of its input; its CPU time is measured for `size` and for `factor * size`.
    """
    for _ in range(5):
        small, large = (cpu_seconds(lambda n=n: work(n)) for n in (size, factor * size))  # type: ignore[misc]
        if large < limit * max(small, FLOOR_S):
            return
    pytest.fail(f"{size:,}: {small:.3f} s, {factor * size:,}: {large:.3f} s")
