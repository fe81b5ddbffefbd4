"""Several pairs folders -> one, so that filters see repeats across releases and a split has all sources in its sets.

Rows keep their order, ids and labels; pictures are linked, or copied on another file system. `OUT/join.json` counts.
Nothing is left out here: rows that say the same in two releases are for `data filter` (near-duplicates).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from data_tools.ingest.link_picture import LinkedPictures
from data_tools.ingest.part import key_of
from data_tools.rows.preference import PairsWriter, pair_groups
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json


def join(folders: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the pairs folder `out` and return its report. In memory: 8 bytes an id, one row group, pictures' names.

    Raises UserError for an id that stands in two folders, for a folder given twice, and for `out` among them.
    """
    places = [folder.resolve() for folder in folders]
    if len(places) < 2 or len(set(places)) < len(places):
        raise UserError("give two pairs folders or more, each once")
    if out.resolve() in places:
        raise UserError(f"--out {out} must be a folder other than those that are joined")
    _check_ids(folders)
    labels, sources, rows = Counter[int](), Counter[str](), dict[str, int]()
    with LinkedPictures(out) as linked, PairsWriter(out) as writer:
        for folder in folders:
            before = writer.count
            for table in pair_groups(folder):
                linked.link(folder / "images", pc.unique(pc.list_flatten(table["images"])).to_pylist())
                writer.add_table(table)
                _count(table["label"], labels)
                _count(table["source"], sources)
            rows[str(folder)] = writer.count - before
    report = {
        "folders": rows, "kept": writer.count, "labels": {"1": labels[1], "2": labels[2]},
        "sources": dict(sorted(sources.items())), "pictures": len(linked),
    }  # fmt: skip
    write_json(out / "join.json", report)
    return report


def _check_ids(folders: Sequence[Path]) -> None:
    keys = [np.array([key_of(i) for i in _ids(folder)], dtype=np.uint64) for folder in folders]
    found, often = np.unique(np.concatenate(keys), return_counts=True)
    if not (twice := set(found[often > 1].tolist())):
        return
    homes: dict[str, list[str]] = {}
    for folder in folders:
        for pair_id in _ids(folder):
            if key_of(pair_id) in twice:
                homes.setdefault(pair_id, []).append(str(folder))
    first = next(iter(homes))
    raise UserError(
        f"{len(homes):,} ids stand in two folders (first: {first!r} in {' and '.join(homes[first])}); leave one folder "
        "out, or ingest its file again under another name: ids of your own data begin with it"
    )


def _ids(folder: Path) -> list[str]:
    return [pair_id for table in pair_groups(folder, columns=["id"]) for pair_id in table["id"].to_pylist()]


def _count(column: Any, counter: Counter[Any]) -> None:
    for counted in pc.value_counts(column).to_pylist():
        counter[counted["values"]] += counted["counts"]
