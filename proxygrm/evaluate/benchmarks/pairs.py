"""Pairs of the suite's own format: the category is the row's own, and there is no official script to follow."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks.base import Benchmark, Partition

BENCHMARK = Benchmark(
    name="pairs",
    title="preference pairs",
    partitions={"official": Partition(lambda facts: facts.category or "all", "the rows' own `category`")},
    official="wrong",
    official_about="there is no official script; as `wrong`",
)
