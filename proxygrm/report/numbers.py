"""Numbers as text, the same way in every table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NONE = "–"


def number(value: Any) -> float | None:
    """A finite number, or None (also for text, booleans, NaN and infinities)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def per_cent(share: float | None, places: int = 2) -> str:
    """ "71.23" of 0.7123, for columns with the unit in their title."""
    return "-" if share is None else f"{100 * share:.{places}f}"


def share_text(share: Any) -> str:
    """ "71.2 %" of 0.712; a dash without a number."""
    value = number(share)
    return NONE if value is None else f"{100 * value:.1f} %"


def between(low: Any, high: Any, separator: str = " to ") -> str:
    """ "66.0 to 75.9" of shares; "" without numbers."""
    if number(low) is None or number(high) is None:
        return ""
    return f"{100 * low:.1f}{separator}{100 * high:.1f}"


def points(difference: float, places: int = 1) -> str:
    """ "+8.1" of 0.081: a difference of shares in percentage points."""
    return f"{100 * difference:+.{places}f}"


def counts_text(counts: Mapping[str, int]) -> str:
    """ "no rubric 16, leak 2"."""
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in counts.items())
