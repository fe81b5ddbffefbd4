"""Which checkpoint it is, by its content: a copy in another folder is the same one. No torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from proxygrm.core.checkpoints.check import reading_checkpoint
from proxygrm.core.errors import UserError

_WEIGHT_SAMPLE_BYTES = 1 << 16


def no_checkpoint(folder: Path) -> UserError:
    return UserError(f"no checkpoint at {folder}: it has no config.json", code="checkpoint.missing", path=folder)


def checkpoint_identity(model: Path) -> str:
    """16 hex digits over the small files, and over the size and last bytes of each weight file."""
    digest = hashlib.sha256()
    with reading_checkpoint(model):
        if not (model / "config.json").is_file():
            raise no_checkpoint(model)
        for path in [*sorted(model.glob("*.safetensors")), model / "config.json"]:
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                file.seek(max(0, size - _WEIGHT_SAMPLE_BYTES))
                digest.update(file.read())
    return digest.hexdigest()[:16]
