"""Split: pairs the teacher judged right feed the two SFT sets, the hard ones feed RL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds

FILES = (
    "proxy_sft.jsonl",
    "proxy_rl.parquet",
    "proxy_rl_val.parquet",
    "grm_sft.jsonl",
    "grm_rl.parquet",
    "grm_rl_val.parquet",
)


@dataclass(frozen=True)
class Settings(OnNodes):
    """Rows of each set. The defaults are the paper's sizes. proxy_rl is cut off even where the chain does not train
    that proxy, so that the other choice needs no other split."""

    proxy_sft: int = 5_000
    grm_sft: int = 10_000
    grm_rl: int = 35_000
    grm_rl_val: int = 256
    proxy_rl: int = 10_000
    proxy_rl_val: int = 256
    seed: int = 0
    short: Literal["refuse", "take"] = "refuse"
    """Too few pairs for a set: `refuse`, or `take` what there is (smaller, in the same proportions)."""

    def __post_init__(self) -> None:
        check_bounds(
            "split", self, from_zero=("proxy_sft", "grm_sft", "grm_rl", "grm_rl_val", "proxy_rl", "proxy_rl_val")
        )


def stage(name: str, *, pairs: Given, critiques: Output, settings: Settings) -> Stage:
    """Makes `SET.jsonl` for the two SFT sets, `SET.parquet` and `SET_val.parquet` for the two RL sets."""
    return Stage(
        name=name,
        run=write_splits,
        needs={"pairs": pairs, "critiques": critiques},
        makes=tuple(Artifact(file) for file in FILES),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        prompts=("grm", "proxy"),
    )


def write_splits(run: StageRun) -> None:
    from data_tools.split.allocate import POOLS
    from data_tools.split.run import split

    settings: Settings = run.config
    sizes = {name: getattr(settings, name) for name in POOLS}
    shards = sorted(run.inputs["critiques"].glob("shard-*.jsonl"))
    split(run.inputs["pairs"], shards, run.out, sizes, settings.seed, short=settings.short)
