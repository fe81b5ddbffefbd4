"""The sources: name -> description. The module of a source is imported when it is loaded."""

from __future__ import annotations

from importlib import import_module

from data_tools.sources.base import Source
from proxygrm.core.errors import UserError

SOURCES = {
    "llava-critic": "LLaVA-Critic-113k: folder of parquet files (pairwise, pointwise, or both)",
    "rlaif-v": "RLAIF-V: parquet file or folder",
    "rlhf-v": "RLHF-V: parquet file or folder, original or llamafactory layout",
    "mmif": "MMIF-23k: the DPO JSON; images below --images-root",
    "vl-rewardbench": "VL-RewardBench: parquet, or JSONL with images by path",
    "multimodal-rewardbench": "Multimodal RewardBench: all_data.json (or JSONL, parquet); images below --images-root",
    "mm-rlhf-rewardbench": "MM-RLHF-RewardBench: mm_reward_bench.jsonl; a video is a folder of frames",
    "rewardbench": "RewardBench: parquet of the split `filtered` (text only)",
    "rm-bench": "RM-Bench: total_dataset.json, nine pairs a prompt (text only)",
    "preference-jsonl": "your own pairs as JSONL; the fields are listed below",
}


def load(name: str) -> Source:
    """The source of this name. Raises UserError for an unknown name."""
    if name not in SOURCES:
        raise UserError(
            f"there is no source {name!r}; the sources are: {', '.join(SOURCES)}",
            code="data.unknown-source", name=name, known=list(SOURCES),
        )  # fmt: skip
    source = import_module(f"data_tools.sources.{name.replace('-', '_')}").SOURCE
    assert isinstance(source, Source)
    return source
