"""Concatenation of the files of a step's parts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from proxygrm.core.files.whole_file import writing


def concatenate_files(parts: Sequence[Path], target: Path) -> None:
    """Write the bytes of `parts`, in order, to `target`."""
    with writing(target), target.open("wb") as joined:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, joined, 1 << 20)
