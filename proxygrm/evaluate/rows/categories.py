"""The category of a pair whose row does not carry one; the rules stand in `proxygrm.evaluate.benchmarks`."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks import vl_rewardbench


def category_of(source: str, pair_id: str) -> str:
    """Category of a pair of VL-RewardBench; empty for any other source.

    `source` is any spelling that begins with vl and reward (vl_rewardbench, VL-RewardBench, ...); the id may
    carry the source and a colon before it.
    """
    name = source.lower().replace("-", "").replace("_", "")
    if not name.startswith("vlreward"):
        return ""
    return vl_rewardbench.category_of(pair_id.removeprefix(f"{source}:"))
