"""The benchmarks reward models are judged on: one small file each, with category, official metric and sizes.

This is the only place where a row's category is decided; ingestion and scoring both ask here.
"""

from __future__ import annotations

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import mm_rlhf_rewardbench, multimodal_rewardbench, pairs, vl_rewardbench
from proxygrm.evaluate.benchmarks.base import POLICIES, Benchmark, Facts, Partition, Revision

BENCHMARKS = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (vl_rewardbench, multimodal_rewardbench, mm_rlhf_rewardbench, pairs)
}


def benchmark(name: str) -> Benchmark:
    """By name, in any spelling of dashes, underscores and case. Raises UserError for one there is not."""
    wanted = _plain(name)
    for known, found in BENCHMARKS.items():
        if _plain(known) == wanted:
            return found
    raise UserError(f"no benchmark is called {name!r}; there are: {', '.join(BENCHMARKS)}")


def partition(bench: Benchmark, name: str) -> Partition:
    """Raises UserError for a partition the benchmark does not have."""
    if name not in bench.partitions:
        raise UserError(f"{bench.title} has no partition {name!r}; it has: {', '.join(bench.partitions)}")
    return bench.partitions[name]


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


__all__ = ["BENCHMARKS", "POLICIES", "Benchmark", "Facts", "Partition", "Revision", "benchmark", "partition"]
