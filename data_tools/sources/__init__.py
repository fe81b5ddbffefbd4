"""The sources: name -> description. The module of a source is imported when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from data_tools.sources.base import Source
from proxygrm.core.errors import UserError
from proxygrm.core.settings import require_known

SOURCES = {
    "llava-critic": "LLaVA-Critic-113k: folder of parquet files (pairwise, pointwise, or both)",
    "rlaif-v": "RLAIF-V: parquet file or folder",
    "rlhf-v": "RLHF-V: parquet file or folder, original or llamafactory layout",
    "mmif": "MMIF-23k: the DPO JSON; images below --images-root",
    "mmpr": "MMPR 1.0 to 1.2: the unpacked folder, with meta.json",
    "mm-rlhf": "MM-RLHF: dpo_pairs.jsonl; a video is a folder of frames",
    "vlfeedback": "VLFeedback: vlfeedback_80k.jsonl or parquet; option pairs (all, gap)",
    "povid": "POVID: JSON file; COCO train2014 as --images-root",
    "wildvision-battle": "WildVision-Battle: parquet file or folder",
    "r1-reward-rl": "R1-Reward-RL: parquet file or folder of judge prompts",
    "omnialign-v-dpo": "OmniAlign-V-DPO: folder of JSONL files",
    "ultrafeedback": "UltraFeedback, four responses a prompt; options pairs (all, gap), score (overall, fine)",
    "ultrafeedback-binarized": "UltraFeedback, binarized: split train_prefs, original or cleaned (text only)",
    "tulu-3": "Tulu-3 preference mixture: parquet (text only)",
    "olmo-2": "OLMo-2 preference mixes: parquet (text only)",
    "shp": "SHP: folder of train.json files; option min_ratio (text only)",
    "skywork": "Skywork-Reward-Preference-80K: parquet or JSONL (text only)",
    "vl-rewardbench": "VL-RewardBench: parquet, or JSONL with images by path",
    "multimodal-rewardbench": "Multimodal RewardBench: all_data.json (or JSONL, parquet); images below --images-root",
    "mm-rlhf-rewardbench": "MM-RLHF-RewardBench: mm_reward_bench.jsonl; a video is a folder of frames",
    "rewardbench": "RewardBench: parquet of the split `filtered` (text only)",
    "rm-bench": "RM-Bench: total_dataset.json, nine pairs per prompt (text only)",
    "preference-jsonl": "your own pairs as JSONL; the fields are listed below",
}


def load(name: str, options: Mapping[str, str] | None = None) -> Source:
    """The source of this name. options: of those in its module's OPTIONS; the first value of each is the default.

    Raises UserError for an unknown name, an unknown option, and an unknown value of one.
    """
    if name not in SOURCES:
        raise UserError(
            f"there is no source {name!r}; the sources are: {', '.join(SOURCES)}",
            code="data.unknown-source", name=name, known=list(SOURCES),
        )  # fmt: skip
    module = import_module(f"data_tools.sources.{name.replace('-', '_')}")
    known: Mapping[str, tuple[str, ...]] = getattr(module, "OPTIONS", {})
    for option, value in (options or {}).items():
        values = known[require_known(option, known, f"source {name}")]
        if str(value) not in values:
            raise UserError(
                f"source {name}: {option} is {value!r}; it must be one of: {', '.join(values)}",
                code="option.bad-value", option=option, value=value, known=list(values),
            )  # fmt: skip
    source = module.source(**{option: str(value) for option, value in options.items()}) if options else module.SOURCE
    assert isinstance(source, Source)
    return source
