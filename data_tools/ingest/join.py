"""Joins pairs folders, so that filters see repeats across releases and a split has all sources in its sets.

Rows keep their order, ids and labels; images are linked, or copied on another file system. `OUT/join.json` has the
counts. No row is dropped: rows with the same texts in two releases are for `data filter` (near-duplicates).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.ingest.linked_images import LinkedImages
from data_tools.ingest.part import key_of
from data_tools.rows.pair_tables import add_counts, image_names
from data_tools.rows.preference import PairsWriter, pair_groups
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json


def join(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the pairs folder `out` and return its report. Memory: 8 bytes per id, one row group, and the image names.

    Raises UserError for an id in two folders, for a folder given twice, and if `out` is one of the folders.
    """
    inputs = [folder.resolve() for folder in folders]
    if len(inputs) < 2 or len(set(inputs)) < len(inputs):
        raise UserError(
            "give at least two pairs folders, each of them once",
            code="data.join-inputs", folders=[str(folder) for folder in folders],
        )  # fmt: skip
    if out.resolve() in inputs:
        raise UserError(f"--out {out} is one of the inputs; give another folder", code="option.out-is-input", path=out)
    check_ids(folders)
    labels, sources, rows = Counter[int](), Counter[str](), dict[str, int]()
    with LinkedImages(out) as linked, PairsWriter(out) as writer:
        for folder in folders:
            before = writer.count
            for table in pair_groups(folder):
                linked.link(folder / "images", image_names(table))
                writer.add_table(table)
                add_counts(table["label"], labels)
                add_counts(table["source"], sources)
            rows[str(folder)] = writer.count - before
    report = {
        "folders": rows, "kept": writer.count, "labels": {"1": labels[1], "2": labels[2]},
        "sources": dict(sorted(sources.items())), "images": len(linked),
    }  # fmt: skip
    write_json(out / "join.json", report)
    return report


def check_ids(folders: Sequence[Path]) -> None:
    """Raises UserError for an id in two folders."""
    keys = [np.array([key_of(i) for i in _ids(folder)], dtype=np.uint64) for folder in folders]
    distinct, counts = np.unique(np.concatenate(keys), return_counts=True)
    if not (repeated := set(distinct[counts > 1].tolist())):
        return
    folders_of: dict[str, list[str]] = {}
    for folder in folders:
        for pair_id in _ids(folder):
            if key_of(pair_id) in repeated:
                folders_of.setdefault(pair_id, []).append(str(folder))
    first = next(iter(folders_of))
    raise UserError(
        f"{len(folders_of):,} ids are in two folders (first: {first!r} in {' and '.join(folders_of[first])}); leave "
        "one folder out, or ingest its file again under another name: ids of your own data start with the file name",
        code="data.repeated-ids", count=len(folders_of), first=first, folders=folders_of[first],
    )  # fmt: skip


def _ids(folder: Path) -> list[str]:
    return [pair_id for table in pair_groups(folder, columns=["id"]) for pair_id in table["id"].to_pylist()]
