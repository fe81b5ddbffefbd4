"""The benchmarks reward models are judged on: one small file each, with category, official metric and sizes.

This is the only place where a row's category is decided; ingestion and scoring both call it.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import (
    mm_rlhf_rewardbench,
    multimodal_rewardbench,
    pairs,
    rewardbench,
    rm_bench,
    vl_rewardbench,
)
from proxygrm.evaluate.benchmarks.base import POLICIES, Benchmark, Facts, Partition, Revision

BENCHMARKS = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (vl_rewardbench, multimodal_rewardbench, mm_rlhf_rewardbench, rewardbench, rm_bench, pairs)
}
RELEASED = tuple(bench for bench in BENCHMARKS.values() if bench.revisions)


def benchmark(name: str) -> Benchmark:
    """By name, in any spelling of dashes, underscores and case. UserError for an unknown one."""
    wanted = _normalized(name)
    for known, bench in BENCHMARKS.items():
        if _normalized(known) == wanted:
            return bench
    raise UserError(
        f"unknown benchmark {name!r}; known: {', '.join(BENCHMARKS)}",
        code="bench.unknown-benchmark",
        name=name,
        known=list(BENCHMARKS),
    )


def benchmark_of(sources: Iterable[str]) -> Benchmark | None:
    """The released benchmark that all sources belong to; None where there is none."""
    names = set(sources)
    return next((bench for bench in RELEASED if names and all(map(bench.has_source, names))), None)


def partition(bench: Benchmark, name: str) -> Partition:
    """UserError for a partition that the benchmark does not have."""
    if name not in bench.partitions:
        raise UserError(
            f"{bench.title} has no partition {name!r}; it has: {', '.join(bench.partitions)}",
            code="bench.unknown-partition",
            name=name,
            known=list(bench.partitions),
        )
    return bench.partitions[name]


def _normalized(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


__all__ = [
    "BENCHMARKS",
    "POLICIES",
    "RELEASED",
    "Benchmark",
    "Facts",
    "Partition",
    "Revision",
    "benchmark",
    "benchmark_of",
    "partition",
]
