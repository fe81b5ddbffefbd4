"""What a stage says of the space it takes (`Stage.disk`), in the terms in which the stages after it need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobs.engine.downloads import size_of
from proxygrm.core.checkpoints.parameters import parameters_of


class Unknown(Exception):
    """Why nobody can say."""


@dataclass(frozen=True)
class Amount:
    """How much of something there is, or will be."""

    size: int
    """Bytes."""
    rows: int = 0
    """Of a data set; 0 where nobody knows."""
    parameters: int = 0
    """Of a model: the numbers that its weights consist of; 0 for what is not a model."""


Needs = Callable[[str], Amount]
"""Label of a need -> how much it is. Raises Unknown."""


@dataclass(frozen=True)
class Space:
    """What a stage is expected to write."""

    size: int
    """Bytes at the most at a time, in its folder."""
    makes: Mapping[str, Amount] = field(default_factory=dict)
    """Of its artifacts, by path, what later stages ask for."""


TOKEN = 4
"""Bytes of a token, as text: rather more than in English, less than in Chinese."""
CHECKPOINT = 100_000
"""Bytes of a checkpoint's other files, which only count for tiny models."""


def training(checkpoint: int, keep: int, steps: int | None, every: int) -> int:
    """Bytes of a training that keeps the last checkpoints: one more while it is written, and no more than it saves and
    one where it is told to stop. The model is published as hard links to the last one. steps: None where only the
    number of epochs is known. every: steps between two saves."""
    most = keep + 1 if steps is None else min(keep + 1, -(-steps // every) + 1)
    return most * (checkpoint + CHECKPOINT)


def measured(path: Path) -> Amount:
    """Of what exists. Raises Unknown."""
    try:
        return Amount(size_of(path), _rows(path), parameters_of(path))
    except OSError as error:
        raise Unknown(f"{path} cannot be read: {error.strerror}") from error


def _rows(path: Path) -> int:
    """Rows of a parquet file, or of those of a data folder."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.suffix == ".parquet" else []
    if not files:
        return 0
    import pyarrow
    from pyarrow import parquet

    try:
        return sum(parquet.read_metadata(file).num_rows for file in files)
    except (OSError, pyarrow.ArrowException) as error:
        raise Unknown(f"{path} cannot be read: {error}") from error
