"""Categories of the public benchmarks, by id, as their own scripts assign them."""

from __future__ import annotations

# VL-RewardBench: the official split is 183 general / 749 hallucination / 318 reasoning. Ids are spelled
# RLAIF-V and RLHF-V; looking them up in lower case only moves 301 of them to `general`.
_VL_REWARDBENCH = {
    "hallucination_pair": "hallucination",
    "rlaif-v": "hallucination",
    "rlhf-v": "hallucination",
    "mathverse": "reasoning",
    "mmmu": "reasoning",
}


def category_of(source: str, pair_id: str) -> str:
    """Category of a pair of VL-RewardBench; empty for any other source.

    `source` is any spelling that begins with vl and reward (vl_rewardbench, VL-RewardBench, ...); the id may
    carry the source and a colon before it.
    """
    name = source.lower().replace("-", "").replace("_", "")
    if not name.startswith("vlreward"):
        return ""
    bare = pair_id.removeprefix(f"{source}:").lower()
    return next((c for prefix, c in _VL_REWARDBENCH.items() if bare.startswith(prefix)), "general")
