"""The category of a pair whose row has none, by the rules of `proxygrm.evaluate.benchmarks`."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks import vl_rewardbench


def category_of(source: str, pair_id: str) -> str:
    """Category of a pair of VL-RewardBench; empty for any other source.

    `source` is any spelling that starts with vl and reward (vl_rewardbench, VL-RewardBench, ...); the id may have the
    prefix SOURCE:.
    """
    name = source.lower().replace("-", "").replace("_", "")
    if not name.startswith("vlreward"):
        return ""
    return vl_rewardbench.category_of(pair_id.removeprefix(f"{source}:"))
