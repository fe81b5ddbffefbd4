"""Rows that can only belong to another benchmark than the one they are used for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import RELEASED, Benchmark, Facts
from proxygrm.evaluate.rows.text import rows_text


class Origin(NamedTuple):
    """What a row says about where it comes from."""

    row: int
    source: str
    facts: Facts


def refuse_foreign(origins: Iterable[Origin], bench: Benchmark) -> None:
    """UserError when rows belong to another released benchmark, by their source or by what only its rows have."""
    if not bench.revisions:
        return
    origins = list(origins)
    for other in RELEASED:
        if other is bench:
            continue
        rows = _rows_of(other, origins, bench)
        if rows:
            raise UserError(
                f"{other.title} rows instead of {bench.title}: {rows_text(rows)} of {len(origins):,}; use --bench "
                f"{other.name} for these",
                code="bench.other-benchmark",
                rows=rows,
                count=len(origins),
                bench=bench.name,
                other=other.name,
            )


def _rows_of(other: Benchmark, origins: Sequence[Origin], bench: Benchmark) -> list[int]:
    sources = {origin.source for origin in origins}
    of_other, of_bench = set(filter(other.has_source, sources)), set(filter(bench.has_source, sources))
    return [
        row
        for row, source, facts in origins
        if source in of_other or (source not in of_bench and other.evidence(facts) and not bench.evidence(facts))
    ]
