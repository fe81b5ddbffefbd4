"""Whether a checkpoint is a scalar reward model (one number for a response) or generates text, by its config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.check import read_json
from proxygrm.core.errors import UserError

HEAD = "reward_head"
"""Key of config.json: layers, activation and length_normalisation of the head that this suite trained."""
_ARCHITECTURES = ("ForSequenceClassification", "RewardModel")
"""Ends of the names that a scalar model's `architectures` have."""


def is_scalar(config: Any) -> bool:
    """config: the content of config.json."""
    if not isinstance(config, dict):
        return False
    names = config.get("architectures") or ()
    return bool(config.get(HEAD)) or any(str(name).endswith(_ARCHITECTURES) for name in names)


def is_scalar_checkpoint(path: Path) -> bool:
    """False for a folder without config.json. Raises UserError for one that cannot be read."""
    return (path / "config.json").is_file() and is_scalar(read_json(path, "config.json"))


def refuse_scalar(path: Path, wanted: str) -> None:
    """wanted: what the checkpoint is to do, for the message. Raises UserError (checkpoint.scalar)."""
    if is_scalar_checkpoint(path):
        raise UserError(
            f"{path} is a scalar reward model, which scores a response and writes no text; {wanted} needs a checkpoint "
            "that generates. `proxygrm eval run --judge` scores pairs with it",
            code="checkpoint.scalar",
            path=path,
        )
