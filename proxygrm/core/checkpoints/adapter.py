"""Checks that a LoRA adapter, as peft saves it, is complete. No torch."""

from __future__ import annotations

from pathlib import Path

from proxygrm.core.checkpoints.check import check_folder, check_shard, check_small_files, read_json, reading_checkpoint
from proxygrm.core.errors import UserError

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"


def check_adapter(path: Path) -> None:
    """Raises UserError for the first problem found: the codes of `check_checkpoint`, and checkpoint.not-an-adapter."""
    with reading_checkpoint(path):
        check_folder(path)
        if not (path / CONFIG).exists() and (path / "config.json").exists():
            raise UserError(
                f"{path} is a whole checkpoint, not an adapter: it has config.json and no {CONFIG}",
                code="checkpoint.not-an-adapter",
                path=path,
            )
        config = read_json(path, CONFIG)
        if not isinstance(config, dict) or "peft_type" not in config:
            raise UserError(
                f"the adapter at {path} is damaged: {CONFIG} has no peft_type",
                code="checkpoint.damaged",
                path=path,
                file=CONFIG,
            )
        check_shard(path, _WEIGHTS)
        check_small_files(path)
