"""What one filter run is asked to do: for its shards (`run.py`) and for its merge (`merge.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_tools.filters.settings import FilterSettings
from data_tools.steps.account import Where


@dataclass(frozen=True)
class Job:
    """What to filter; pickles, so that a shard can run in a process of its own."""

    pairs: Path
    out: Path
    settings: FilterSettings
    critiques: tuple[Path, ...]  # files
    against: tuple[Path, ...]  # pairs folders of benchmarks

    @property
    def needs_signatures(self) -> bool:
        return self.settings.similarity is not None or bool(
            self.against and self.settings.decontamination.near_text is not None
        )


def where(position: int) -> Where:
    return Where("pairs.parquet", position + 1)
