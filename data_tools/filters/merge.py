"""The merge of a filter run: the filters that need all rows, and the result.

Row groups of the input are read one at a time. Memory per row: its position, and what similarity needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_tools.filters.difficulty import Difficulty, read_samples
from data_tools.filters.job import Job, row_location
from data_tools.filters.minhash import NUM_HASHES
from data_tools.filters.similarity import near_duplicates
from data_tools.ingest.linked_images import LinkedImages
from data_tools.rows.pair_tables import add_counts, image_names
from data_tools.rows.preference import PairsWriter, pair_groups
from data_tools.steps.account import Account
from data_tools.steps.concatenate import concatenate_files


def merge(job: Job, max_bad: float, files: list[dict[str, Path]], parts: Path) -> dict[str, Any]:
    """Raises UserError, and writes nothing under a final name, if too many rows are bad."""
    extra: dict[str, Any] = {}
    with Account(job.out / "filter_dropped.jsonl", max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        account.check()
        rows = np.concatenate([np.fromfile(part["rows"], dtype=np.int64) for part in files])
        keep: Any = np.ones(len(rows), dtype=bool)
        if job.critiques:
            extra["difficulty"] = _by_difficulty(job, rows, keep, account)
        if job.settings.similarity is not None:
            signatures = parts / "signatures.u32"
            concatenate_files([part["signatures"] for part in files], signatures)
            _by_similarity(job, rows, keep, signatures, account)
            signatures.unlink()
        account.kept = int(keep.sum())
        labels, images = _write(job, rows[keep])
    return {
        "pairs": str(job.pairs),
        "against": [str(folder) for folder in job.against],
        "critiques": [str(file) for file in job.critiques],
        "settings": asdict(job.settings),
        **account.summary(), "labels": labels, "images": images, **extra,
    }  # fmt: skip


def _by_difficulty(job: Job, rows: Any, keep: Any, account: Account) -> dict[str, object]:
    difficulty = Difficulty(read_samples(job.critiques), job.settings.difficulty)
    at = 0
    for start, table in tables(job.pairs, ["id", "label"]):
        end = at + int((rows[at:] < start + table.num_rows).sum())
        if end > at:
            chosen = table.take(rows[at:end] - start)
            for row, pair in zip(range(at, end), chosen.to_pylist(), strict=True):
                fault = difficulty.fault(pair["id"], pair["label"])
                if fault:
                    keep[row] = False
                    account.exclude(row_location(int(rows[row])), pair["id"], fault[0], bad=False, detail=fault[1])
        at = end
    return difficulty.report()


def _by_similarity(job: Job, rows: Any, keep: Any, signatures: Path, account: Account) -> None:
    """Rows dropped by earlier filters do not make others near-duplicates."""
    assert job.settings.similarity is not None
    if not keep.any():
        return
    remaining = rows[keep]
    mapped: Any = np.memmap(signatures, dtype=np.uint32, mode="r", shape=(len(rows), NUM_HASHES))
    interned: dict[str, str] = {}  # one string object per name
    images = []
    for start, table in tables(job.pairs, ["images"]):
        for names in table["images"].take(pa.array(positions_in(table, start, remaining))).to_pylist():
            images.append(tuple(interned.setdefault(name, name) for name in names))
    remaining_signatures = mapped if keep.all() else mapped[keep]
    duplicates = near_duplicates(remaining_signatures, images, job.pairs / "images", job.settings.similarity)
    wanted = np.unique(np.concatenate([remaining[duplicates.rows], remaining[duplicates.keepers]]))
    ids: dict[int, str] = {}
    for start, table in tables(job.pairs, ["id"]):
        inside = positions_in(table, start, wanted)
        ids.update(zip((inside + start).tolist(), table["id"].take(pa.array(inside)).to_pylist(), strict=True))
    columns = (remaining[duplicates.rows], remaining[duplicates.keepers], duplicates.similarity)
    for row, keeper, similarity in zip(*(column.tolist() for column in columns), strict=True):
        detail = f"similarity {similarity:.2f} to {ids[keeper]}"
        account.exclude(row_location(row), ids[row], "near_duplicate", bad=False, detail=detail)
    keep[np.flatnonzero(keep)[duplicates.rows]] = False


def _write(job: Job, rows: Any) -> tuple[dict[str, int], int]:
    """Write the rows at these positions and their images; returns the rows by label, and the number of images."""
    labels = Counter[int]()
    with LinkedImages(job.out) as linked, PairsWriter(job.out) as writer:
        for start, table in tables(job.pairs, None):
            inside = positions_in(table, start, rows)
            if len(inside):
                table = table.take(pa.array(inside))
                linked.link(job.pairs / "images", image_names(table))
                add_counts(table["label"], labels)
                writer.add_table(table)
    return {"1": labels[1], "2": labels[2]}, len(linked)


def positions_in(table: pa.Table, start: int, rows: Any) -> Any:
    """Positions in the table, whose first row is `start`, of those of the sorted `rows` that are in it."""
    first, last = (int(np.searchsorted(rows, edge)) for edge in (start, start + table.num_rows))
    return rows[first:last] - start


def tables(pairs: Path, columns: list[str] | None) -> Iterator[tuple[int, Any]]:
    """(position of the first row, the row group) in file order."""
    at = 0
    for table in pair_groups(pairs, columns=columns):
        yield at, table
        at += table.num_rows
