"""How trainings went, side by side: of each figure the largest size, and the last value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxygrm.report.charts import series, short
from proxygrm.report.numbers import NONE

if TYPE_CHECKING:
    from rich.table import Table

Metrics = Sequence[Mapping[str, Any]]
"""A row for each step."""


@dataclass(frozen=True)
class Extent:
    """One figure over the trainings of one kind, such as seeds."""

    largest: float | None
    """The largest absolute value of any of them; None without any value."""
    last: float | None
    """Mean of the last values."""
    not_finite: int = 0
    """Steps at which it was not a finite number."""


def extent(trainings: Sequence[Metrics], name: str) -> Extent:
    curves = [points for rows in trainings if (points := series([dict(row) for row in rows], name))]
    lost = sum(isinstance(row.get(name), float) and not math.isfinite(row[name]) for rows in trainings for row in rows)
    if not curves:
        return Extent(None, None, lost)
    largest = max(abs(value) for points in curves for _, value in points)
    return Extent(largest, statistics.fmean(points[-1][1] for points in curves), lost)


def training_extents(title: str, kinds: Mapping[str, Sequence[Metrics]], figures: Mapping[str, str]) -> Table:
    """kinds: the trainings of each; figures: title -> name in the metrics."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("cell", overflow="fold")
    for figure in figures:
        table.add_column(f"{figure}\nlargest", justify="right")
        table.add_column("last", justify="right")
    for kind, trainings in kinds.items():
        row = [escape(kind)]
        for name in figures.values():
            found = extent(trainings, name)
            largest = NONE if found.largest is None else short(found.largest)
            row += [largest + (f" ({found.not_finite} not finite)" if found.not_finite else "")]
            row += [NONE if found.last is None else short(found.last)]
        table.add_row(*row)
    return table
