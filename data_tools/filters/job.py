"""The parameters of a filter run, for its shards (`run.py`) and its merge (`merge.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_tools.filters.settings import FilterSettings
from data_tools.steps.account import RowLocation


@dataclass(frozen=True)
class Job:
    """What to filter; picklable, because shards run in separate processes."""

    pairs: Path
    out: Path
    settings: FilterSettings
    critiques: tuple[Path, ...]  # files
    against: tuple[Path, ...]  # pairs folders of benchmarks


def row_location(position: int) -> RowLocation:
    """The location of the pair at this position (from 0) of the pairs file."""
    return RowLocation("pairs.parquet", position + 1)
