"""Examines a batch of rows one by one: quality, then whether they are in a benchmark; and computes their signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_tools.filters.batches import texts_of
from data_tools.filters.decontamination import BenchmarkIndex, Hit
from data_tools.filters.minhash import signatures
from data_tools.filters.quality import BAD_REASONS, Fault, image_fault, text_fault
from data_tools.filters.settings import FilterSettings
from data_tools.rows.preference import PreferencePair


@dataclass(frozen=True)
class Examined:
    """A batch: for each row its fault, and the positions and signatures (if wanted) of the rows without one."""

    faults: list[Fault | Hit | None]
    passed: list[int]
    signatures: Any


def examine(
    batch: Sequence[PreferencePair], folder: Path, settings: FilterSettings, against: tuple[Path, ...]
) -> Examined:
    """folder: the pairs folder of the batch. against: pairs folders of benchmarks."""
    faults: list[Fault | Hit | None] = [_quality_fault(pair, folder, settings) for pair in batch]
    passed = [row for row, fault in enumerate(faults) if fault is None]
    wanted = needs_signatures(settings, against)
    found = signatures([texts_of(batch[row]) for row in passed]) if wanted else None
    if against:
        hits = _benchmarks(against, settings).find([batch[row] for row in passed], found, folder / "images")
        for row, hit in zip(passed, hits, strict=True):
            faults[row] = hit
    keep = [faults[row] is None for row in passed]
    return Examined(
        faults,
        [row for row, kept in zip(passed, keep, strict=True) if kept],
        None if found is None else found[keep],
    )


def needs_signatures(settings: FilterSettings, against: Sequence[Path]) -> bool:
    return settings.similarity is not None or bool(against and settings.decontamination.near_text is not None)


def is_bad(fault: Fault | Hit) -> bool:
    """Whether the row is broken, not only unwanted."""
    return fault.reason in BAD_REASONS


def _quality_fault(pair: PreferencePair, folder: Path, settings: FilterSettings) -> Fault | None:
    if settings.quality is None:
        return None
    fault = text_fault(pair, settings.quality)
    for name in pair.images:
        fault = fault or image_fault(folder / "images" / name, settings.quality)
    return fault


@lru_cache(maxsize=1)
def _benchmarks(against: tuple[Path, ...], settings: FilterSettings) -> BenchmarkIndex:
    """Built once per process, for all its shards."""
    return BenchmarkIndex(against, settings.decontamination)
