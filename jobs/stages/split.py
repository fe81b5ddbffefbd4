"""Split: pairs the teacher judged right feed the two SFT sets, the hard ones feed RL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.engine.stage import StageRun
from proxygrm.core.bounds import require
from proxygrm.core.errors import UserError


@dataclass(frozen=True)
class Settings:
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
        require("split", self, from_zero=("proxy_sft", "grm_sft", "grm_rl", "grm_rl_val", "proxy_rl", "proxy_rl_val"))


def write_splits(run: StageRun) -> None:
    from data_tools.split.allocate import POOLS
    from data_tools.split.run import split

    settings: Settings = run.config
    sizes = {name: getattr(settings, name) for name in POOLS}
    shards = sorted(run.inputs["critiques"].glob("shard-*.jsonl"))
    split(run.inputs["pairs"], shards, run.out, sizes, settings.seed, short=settings.short)


def pairs_folder(path: Path) -> None:
    """Check of a given data set: a pairs folder as `data_tools` writes it."""
    if not (path / "pairs.parquet").is_file():
        raise UserError(f"{path} has no pairs.parquet; make one with `proxygrm data ingest SOURCE PATH --out DIR`")
    from proxygrm.core.pairs import pairs_file

    pairs_file(path).close()  # of a layout that this version reads
