"""Results about a file or folder that are kept for as long as its date stays the same."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
YOUNG_NS = 2_000_000_000
"""Two changes within this time may leave the same date: one tick of the system's clock, two seconds on some file
systems."""


def of_date(cached: Callable[..., T], path: Path, *more: object) -> T:
    """`cached(path, its date, ...)`. Worked out anew while the date is so young that a later change may leave the same.

    cached: a function with a cache of functools.
    """
    modified_ns = path.stat().st_mtime_ns
    is_young = abs(time.time_ns() - modified_ns) < YOUNG_NS
    return (inspect.unwrap(cached) if is_young else cached)(path, modified_ns, *more)
