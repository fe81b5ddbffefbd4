"""The merge of a filter run: what needs all rows, and the result.

Row groups of the input pass one at a time; in memory for every row are its position, and what similarity needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_tools.filters.difficulty import Difficulty, read_samples
from data_tools.filters.job import Job, where
from data_tools.filters.minhash import PLACES
from data_tools.filters.similarity import near_duplicates
from data_tools.ingest.link_picture import LinkedPictures
from data_tools.rows.preference import PairsWriter, pair_groups
from data_tools.steps.account import Account
from proxygrm.core.files.whole_file import writing


def merge(job: Job, max_bad: float, files: list[dict[str, Path]], parts: Path) -> dict[str, Any]:
    """Raises UserError, and writes nothing under a final name, when too many rows are bad."""
    found: dict[str, Any] = {}
    with Account(job.out / "filter_dropped.jsonl", max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        account.check()
        rows = np.concatenate([np.fromfile(part["rows"], dtype=np.int64) for part in files])
        stay: Any = np.ones(len(rows), dtype=bool)
        if job.critiques:
            found["difficulty"] = _by_difficulty(job, rows, stay, account)
        if job.settings.similarity is not None:
            signs = parts / "signatures.u32"
            _put_together([part["signs"] for part in files], signs)
            _by_similarity(job, rows, stay, signs, account)
            signs.unlink()
        account.kept = int(stay.sum())
        labels, pictures = _write(job, rows[stay])
    return {
        "pairs": str(job.pairs),
        "against": [str(folder) for folder in job.against],
        "critiques": [str(file) for file in job.critiques],
        "settings": asdict(job.settings),
        **account.summary(), "labels": labels, "pictures": pictures, **found,
    }  # fmt: skip


def _by_difficulty(job: Job, rows: Any, stay: Any, account: Account) -> dict[str, object]:
    difficulty = Difficulty(read_samples(job.critiques), job.settings.difficulty)
    at = 0
    for start, table in _tables(job.pairs, ["id", "label"]):
        end = at + int((rows[at:] < start + table.num_rows).sum())
        if end > at:
            chosen = table.take(rows[at:end] - start)
            for row, pair in zip(range(at, end), chosen.to_pylist(), strict=True):
                fault = difficulty.fault(pair["id"], pair["label"])
                if fault:
                    stay[row] = False
                    account.leave(where(int(rows[row])), pair["id"], fault[0], bad=False, detail=fault[1])
        at = end
    return difficulty.report()


def _by_similarity(job: Job, rows: Any, stay: Any, signs: Path, account: Account) -> None:
    """Rows that left before this filter keep no other from staying."""
    assert job.settings.similarity is not None
    if not stay.any():
        return
    left = rows[stay]
    mapped: Any = np.memmap(signs, dtype=np.uint32, mode="r", shape=(len(rows), PLACES))
    same: dict[str, str] = {}  # one object a name
    pictures = []
    for start, table in _tables(job.pairs, ["images"]):
        inside = left[np.searchsorted(left, start) : np.searchsorted(left, start + table.num_rows)] - start
        for names in table["images"].take(pa.array(inside)).to_pylist():
            pictures.append(tuple(same.setdefault(name, name) for name in names))
    signs_left = mapped if stay.all() else mapped[stay]
    found = near_duplicates(signs_left, pictures, job.pairs / "images", job.settings.similarity)
    wanted = np.unique(np.concatenate([left[found.rows], left[found.keepers]]))
    ids: dict[int, str] = {}
    for start, table in _tables(job.pairs, ["id"]):
        inside = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + table.num_rows)]
        ids.update(zip(inside.tolist(), table["id"].take(pa.array(inside - start)).to_pylist(), strict=True))
    pairs = zip(left[found.rows].tolist(), left[found.keepers].tolist(), found.similarity.tolist(), strict=True)
    for row, keeper, similarity in pairs:
        detail = f"similarity {similarity:.2f} to {ids[keeper]}"
        account.leave(where(row), ids[row], "near_duplicate", bad=False, detail=detail)
    stay[np.flatnonzero(stay)[found.rows]] = False


def _write(job: Job, rows: Any) -> tuple[dict[str, int], int]:
    """The rows at these positions, and their pictures; rows by label, and the number of pictures."""
    labels = {"1": 0, "2": 0}
    with LinkedPictures(job.out) as linked, PairsWriter(job.out) as writer:
        for start, table in _tables(job.pairs, None):
            inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + table.num_rows)] - start
            if len(inside):
                table = table.take(pa.array(inside))
                linked.link(job.pairs / "images", pc.unique(pc.list_flatten(table["images"])).to_pylist())
                for counted in pc.value_counts(table["label"]).to_pylist():
                    labels[str(counted["values"])] += counted["counts"]
                writer.add_table(table)
    return labels, len(linked)


def _tables(pairs: Path, columns: list[str] | None) -> Iterator[tuple[int, Any]]:
    """(position of the first row, the row group) in file order."""
    at = 0
    for table in pair_groups(pairs, columns=columns):
        yield at, table
        at += table.num_rows


def _put_together(parts: Sequence[Path], target: Path) -> None:
    with writing(target), target.open("wb") as whole:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, whole, 1 << 20)
