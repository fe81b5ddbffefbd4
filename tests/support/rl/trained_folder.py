"""The folder of an RL training as verl leaves it: metrics of its attempts, checkpoints; and its start model."""

from __future__ import annotations

import json
from pathlib import Path


def metrics_file(out: Path, attempt: int, rows: list[tuple[int, dict[str, float]]], tail: str = "") -> None:
    folder = out / "verl_metrics"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "data": data}) for step, data in rows]
    (folder / f"attempt_{attempt:03d}.jsonl").write_text("\n".join(lines) + "\n" + tail, encoding="utf-8")


def checkpoint(out: Path, step: int, leave_out: str = "") -> None:
    folder = out / "checkpoints" / f"global_step_{step}" / "actor" / "huggingface"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json"):
        if name != leave_out:
            (folder / name).write_text(json.dumps({"step": step, "dtype": "bfloat16"}), encoding="utf-8")
    (out / "checkpoints" / "latest_checkpointed_iteration.txt").write_text(str(step), encoding="utf-8")


def start(out: Path) -> Path:
    folder = out / "start"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"dtype": "float32"}), encoding="utf-8")
    return folder
