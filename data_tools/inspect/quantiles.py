"""Distributions of whole numbers, as quantiles and as counts in half octaves."""

from __future__ import annotations

from array import array

import numpy as np

_QUANTILES = (0.0, 0.05, 0.5, 0.95, 0.99, 1.0)


def quantiles(values: array) -> dict[str, int]:
    """Minimum, some quantiles (nearest rank), and maximum."""
    ordered = sorted(values)
    return {f"{q:g}": ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in _QUANTILES}


def half_octaves(values: array) -> dict[int, int]:
    """{step: how many values are from 2 ** (step / 2) to below 2 ** ((step + 1) / 2)}; values below 1 count as 1."""
    steps = np.floor(2 * np.log2(np.maximum(np.frombuffer(values, dtype=np.int64), 1)) + 1e-9).astype(int)
    found, counts = np.unique(steps, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))
