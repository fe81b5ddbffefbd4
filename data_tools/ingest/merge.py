"""The merge of an ingestion: parts -> `pairs.parquet`, `ingest_dropped.jsonl` and the report.

Rows pass through as arrow tables, one batch at a time. Memory per row: two 8-byte hashes, to find repeats. Only rows
with a repeated id are converted to Python, because their order of responses depends on the final id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_tools.ingest import part as ingest_part
from data_tools.ingest.linked_images import LinkedImages
from data_tools.ingest.part import Job, key_of
from data_tools.ingest.scored import pair_scored
from data_tools.rows.pair_tables import add_counts, image_names
from data_tools.rows.preference import PairsWriter, arrange
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.shards import Shard


def merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """Raises UserError, and writes nothing under a final name, if too many rows are bad or none is usable."""
    files = [ingest_part.paths(shard, parts) for shard in shards]
    with Account(job.out / "ingest_dropped.jsonl", max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        account.check()
        scored = parts / "pairs-of-scored.parquet"
        pair_scored(job, [part["scored"] for part in files], scored, account)
        labels, images = _write(job, [*(part["pairs"] for part in files), scored], parts / "images", account)
        if not account.kept:
            first = job.files[0].path
            raise account.nothing_kept(first if len(job.files) == 1 else first.parent)
    options = {"options": dict(job.source.options)} if job.source.options else {}
    return {
        "source": job.source.name, **options, **account.summary(), "labels": labels, "images": images,
        "missing_images": job.missing, "files": [file.name for file in job.files],
    }  # fmt: skip


def _write(job: Job, parts: list[Path], images: Path, account: Account) -> tuple[dict[str, int], int]:
    """Write all pairs, each once and with a unique id; returns the rows by label and the number of images."""
    keys, ids = (np.concatenate([_column(part, name) for part in parts]) for name in ("key", "id_key"))
    new = first_of(keys)
    account.notes["duplicate"] += int((~new).sum()) if job.source.benchmark else 0
    keep = np.ones_like(new) if job.source.benchmark else new
    repeated = np.zeros_like(keep)
    repeated[keep] = ~first_of(ids[keep])
    namer = _Namer(np.unique(ids))
    account.notes["repeated_id"] += int(repeated.sum())
    labels = Counter[int]()
    account.kept = int(keep.sum())
    if not account.kept:
        return {"1": 0, "2": 0}, 0
    at = 0
    with LinkedImages(job.out) as linked, PairsWriter(job.out) as writer:
        for table in _tables(parts):
            span = slice(at, at + table.num_rows)
            at += table.num_rows
            if not keep[span].all():
                _exclude_duplicates(job, table.filter(pa.array(~keep[span])), account)
                table = table.filter(pa.array(keep[span]))
            if repeated[span].any():
                table = _renamed(table, repeated[span][keep[span]], namer)
            add_counts(table["label"], labels)
            linked.link(images, image_names(table))
            writer.add_table(table)
    return {"1": labels[1], "2": labels[2]}, writer.image_count


def first_of(keys: np.ndarray) -> np.ndarray:
    """True where a value occurs for the first time."""
    order = np.argsort(keys, kind="stable")
    sorted_ = keys[order]
    first: np.ndarray = np.ones(len(keys), dtype=bool)
    first[order[1:]] = sorted_[1:] != sorted_[:-1]
    return first


class _Namer:
    """New ids for repeated ones: "x" -> "x#2", "x#3", ..., never one that a row of the input has."""

    def __init__(self, taken: np.ndarray) -> None:
        self._taken, self._count = taken, dict[str, int]()

    def __call__(self, pair_id: str) -> str:
        count = self._count.get(pair_id, 1)
        while True:
            count += 1
            key = key_of(f"{pair_id}#{count}")
            position = int(np.searchsorted(self._taken, key))
            if position == len(self._taken) or int(self._taken[position]) != key:
                self._count[pair_id] = count
                return f"{pair_id}#{count}"


def _renamed(table: pa.Table, repeated: np.ndarray, namer: _Namer) -> pa.Table:
    columns = {name: table[name].to_pylist() for name in ("id", "response_1", "response_2", "label")}
    for i in np.flatnonzero(repeated).tolist():
        responses = columns["response_1"][i], columns["response_2"][i]
        chosen, rejected = responses if columns["label"][i] == 1 else reversed(responses)
        pair = arrange(namer(columns["id"][i]), "", "", chosen, rejected, (), "")
        for name in columns:
            columns[name][i] = getattr(pair, name)
    for name, values in columns.items():
        column = table.schema.get_field_index(name)
        table = table.set_column(column, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table


def _exclude_duplicates(job: Job, table: pa.Table, account: Account) -> None:
    for row in table.select(["id", "file", "row"]).to_pylist():
        account.exclude(RowLocation(job.files[row["file"]].name, row["row"]), row["id"], "duplicate", bad=False)


def _column(part: Path, name: str) -> np.ndarray:
    return pq.read_table(part, columns=[name])[name].to_numpy()


def _tables(parts: list[Path]) -> Iterator[pa.Table]:
    for part in parts:
        source = pq.ParquetFile(part)
        for group in range(source.num_row_groups):
            yield source.read_row_group(group)
