"""The overrides that verl is started with, as a dictionary."""

from __future__ import annotations

from pathlib import Path

from proxygrm.rl.config import RlSettings
from proxygrm.rl.overrides import verl_overrides


def overrides(settings: RlSettings, device: str = "cuda", output: str = "/runs/rl", **changes: object) -> list[str]:
    arguments: dict[str, object] = {
        "model": Path("/models/grm_sft"),
        "train_file": Path("/data/grm_rl.parquet"),
        "val_file": Path("/data/grm_rl_val.parquet"),
        "output": Path(output),
        "ray_address": "10.0.0.1:6379",
        "nnodes": 1,
        "gpus_per_node": 8 if device == "cuda" else 1,
        "reward_options": Path(output) / "reward_options.json",
        "run_name": "grm_rl",
        "device": device,
    }
    return verl_overrides(settings, **(arguments | changes))  # type: ignore[arg-type]


def as_dict(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines)
