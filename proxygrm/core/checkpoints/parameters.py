"""The size of a model, from the headers of its files of weights."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

MAX_HEADER = 100 << 20


def parameters_of(folder: Path) -> int:
    """How many numbers the weights of a checkpoint consist of; 0 for a folder without safetensors, and for damaged ones
    (the checkpoint's own check names those)."""
    if not folder.is_dir():
        return 0
    try:
        return sum(_numbers(file) for file in folder.glob("*.safetensors"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        return 0


def header_of(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: {tensor: {dtype, shape, data_offsets}}, and perhaps __metadata__. OSError,
    struct.error or ValueError for another file."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(min(length, MAX_HEADER)))
    return header


def _numbers(file: Path) -> int:
    return sum(math.prod(entry["shape"]) for name, entry in header_of(file).items() if name != "__metadata__")
