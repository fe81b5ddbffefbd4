"""Pairs in this suite's format: the category is the row's `category`, and there is no official script."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks.base import Benchmark, Partition

BENCHMARK = Benchmark(
    name="pairs",
    title="preference pairs",
    partitions={"official": Partition(lambda facts: facts.category or "all", "the rows' own `category`")},
    official="wrong",
    official_about="no official script; same as `wrong`",
)
