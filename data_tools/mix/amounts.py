"""How many rows each source of a mixture gives, and which ones. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from data_tools.mix.spec import MixSpec
from data_tools.split.allocate import apportion
from proxygrm.core.errors import UserError


def amounts(spec: MixSpec, available: Mapping[str, int]) -> dict[str, int]:
    """Rows of each source. available: what it has, at most its cap.

    Without weights a source gives all it has; if `size` is smaller, the sources shrink in proportion. With weights they
    are in the proportion of the weights, as large as the scarcest source and `size` allow. Raises UserError
    (data.too-few-pairs) if they do not reach `size` and the spec refuses less.
    """
    weights = {name: Fraction(str(source.weight)) for name, source in spec.sources}  # 0.1 is a tenth
    if not spec.weighted:
        weights = {name: Fraction(count) for name, count in available.items()}
    whole = sum(weights.values())
    if not whole:
        return dict.fromkeys(available, 0)
    scarcest = min((name for name, weight in weights.items() if weight), key=lambda n: available[n] / weights[n])
    most = int(available[scarcest] / weights[scarcest] * whole)
    if spec.size > most and spec.short == "refuse":
        raise UserError(
            f"the mixture has {most:,} rows in these proportions, fewer than its size of {spec.size:,}: {scarcest} has "
            f'{available[scarcest]:,}; lower the size or that weight, or write short = "take"',
            code="data.too-few-pairs", most=most, size=spec.size, scarcest=scarcest,
        )  # fmt: skip
    scale = np.lcm.reduce([weight.denominator for weight in weights.values()], dtype=object)
    return apportion(min(spec.size or most, most), {name: int(weight * scale) for name, weight in weights.items()})


def beyond(order: np.ndarray, wanted: int) -> np.ndarray:
    """Mask of the rows that are not among the `wanted` first ones in this order."""
    mask: np.ndarray = np.ones(len(order), dtype=bool)
    mask[np.argsort(order, kind="stable")[:wanted]] = False
    return mask


def beyond_of_each(groups: np.ndarray, order: np.ndarray, wanted: int) -> np.ndarray:
    """Mask of the rows that are not among the `wanted` first ones of their group."""
    by_group = np.lexsort((order, groups))
    ordered = groups[by_group]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(groups) else np.zeros(0, int)
    rank = np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))
    mask: np.ndarray = np.zeros(len(groups), dtype=bool)
    mask[by_group] = rank >= wanted
    return mask
