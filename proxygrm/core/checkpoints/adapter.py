"""Checks that a LoRA adapter, as peft saves it, is complete, and which checkpoint it belongs to. No torch."""

from __future__ import annotations

from pathlib import Path

from proxygrm.core.checkpoints.check import check_folder, check_shard, check_small_files, read_json, reading_checkpoint
from proxygrm.core.checkpoints.identity import checkpoint_identity
from proxygrm.core.errors import UserError

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
BASE_FILE = "base.json"
"""Written by our training: the identity of the checkpoint that it was trained on."""


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


def base_of(start: Path) -> dict[str, str]:
    """What BASE_FILE holds of an adapter that was trained on `start`."""
    return {"checkpoint": checkpoint_identity(start)}


def check_base(adapter: Path, start: Path) -> None:
    """Refuse (checkpoint.other-base) a checkpoint that the adapter was not trained on. Without a record of ours the
    folder that peft names is compared, where it is there; else nothing is known."""
    named = str(read_json(adapter, CONFIG).get("base_model_name_or_path") or "")
    if (adapter / BASE_FILE).is_file():
        base = read_json(adapter, BASE_FILE).get("checkpoint")
    elif named and (Path(named) / "config.json").is_file():
        base = checkpoint_identity(Path(named))
    else:
        return
    if base != checkpoint_identity(start):
        raise UserError(
            f"the adapter at {adapter} was trained on another checkpoint ({named or 'unknown'}) than {start}; merge it "
            "with that one",
            code="checkpoint.other-base",
            path=adapter,
            start=start,
            named=named,
        )
