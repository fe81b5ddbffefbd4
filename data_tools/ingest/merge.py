"""The merge of an ingestion: parts -> `pairs.parquet`, `ingest_dropped.jsonl` and the report.

Rows pass as arrow tables, a batch at a time. In memory for every row: two hashes of 8 bytes, to find what stands
twice. Only rows with a repeated id are taken apart, because their order is decided by their final id.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_tools.ingest import part as ingest_part
from data_tools.ingest.link_picture import LinkedPictures
from data_tools.ingest.part import Job, key_of
from data_tools.ingest.scored import pair_scored
from data_tools.rows.preference import PairsWriter, arrange
from data_tools.steps.account import Account, Where
from data_tools.steps.shards import Shard
from proxygrm.core.errors import UserError


def merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """Raises UserError, and writes nothing under a final name, when too many rows are bad or none is left."""
    files = [ingest_part.paths(shard, parts) for shard in shards]
    with Account(job.out / "ingest_dropped.jsonl", max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        account.check()
        scored = parts / "pairs-of-scored.parquet"
        pair_scored(job, [part["scored"] for part in files], scored, account)
        labels, pictures = _write(job, [*(part["pairs"] for part in files), scored], parts / "images", account)
        if not account.kept:
            left = account.summary()
            raise UserError(f"none of {account.read} rows could be used ({left['bad'] | left['dropped']})")
    return {
        "source": job.source.name, **account.summary(), "labels": labels, "pictures": pictures,
        "missing_images": job.missing, "files": [file.name for file in job.files],
    }  # fmt: skip


def _write(job: Job, parts: list[Path], images: Path, account: Account) -> tuple[dict[str, int], int]:
    """All pairs, each once and with an id of its own; returns rows by label and the number of pictures."""
    keys, ids = (np.concatenate([_column(part, name) for part in parts]) for name in ("key", "id_key"))
    new = first_of(keys)
    account.notes["duplicate"] += int((~new).sum()) if job.source.benchmark else 0
    keep = np.ones_like(new) if job.source.benchmark else new
    repeated = np.zeros_like(keep)
    repeated[keep] = ~first_of(ids[keep])
    namer = _Namer(np.unique(ids))
    account.notes["repeated_id"] += int(repeated.sum())
    labels: dict[str, int] = {"1": 0, "2": 0}
    account.kept = int(keep.sum())
    if not account.kept:
        return labels, 0
    at = 0
    with LinkedPictures(job.out) as linked, PairsWriter(job.out) as writer:
        for table in _tables(parts):
            here = slice(at, at + table.num_rows)
            at += table.num_rows
            if not keep[here].all():
                _log(job, table.filter(pa.array(~keep[here])), account)
                table = table.filter(pa.array(keep[here]))
            if repeated[here].any():
                table = _renamed(table, repeated[here][keep[here]], namer)
            for counted in pc.value_counts(table["label"]).to_pylist():
                labels[str(counted["values"])] += counted["counts"]
            linked.link(images, pc.unique(pc.list_flatten(table["images"])).to_pylist())
            writer.add_table(table)
    return labels, writer.picture_count


def first_of(keys: np.ndarray) -> np.ndarray:
    """True where a value stands for the first time."""
    order = np.argsort(keys, kind="stable")
    sorted_ = keys[order]
    first: np.ndarray = np.ones(len(keys), dtype=bool)
    first[order[1:]] = sorted_[1:] != sorted_[:-1]
    return first


class _Namer:
    """Ids for repeated ones: "x" -> "x#2", "x#3", ..., never one that some row has of itself."""

    def __init__(self, taken: np.ndarray) -> None:
        self._taken, self._count = taken, dict[str, int]()

    def __call__(self, pair_id: str) -> str:
        count = self._count.get(pair_id, 1)
        while True:
            count += 1
            key = key_of(f"{pair_id}#{count}")
            place = int(np.searchsorted(self._taken, key))
            if place == len(self._taken) or int(self._taken[place]) != key:
                self._count[pair_id] = count
                return f"{pair_id}#{count}"


def _renamed(table: pa.Table, repeated: np.ndarray, namer: _Namer) -> pa.Table:
    columns = {name: table[name].to_pylist() for name in ("id", "response_1", "response_2", "label")}
    for i in np.flatnonzero(repeated).tolist():
        one, two, label = columns["response_1"][i], columns["response_2"][i], columns["label"][i]
        chosen, rejected = (one, two) if label == 1 else (two, one)
        pair = arrange(namer(columns["id"][i]), "", "", chosen, rejected, (), "")
        for name in columns:
            columns[name][i] = getattr(pair, name)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table


def _log(job: Job, table: pa.Table, account: Account) -> None:
    for row in table.select(["id", "file", "row"]).to_pylist():
        account.leave(Where(job.files[row["file"]].name, row["row"]), row["id"], "duplicate", bad=False)


def _column(part: Path, name: str) -> np.ndarray:
    return pq.read_table(part, columns=[name])[name].to_numpy()


def _tables(parts: list[Path]) -> Iterator[pa.Table]:
    for part in parts:
        source = pq.ParquetFile(part)
        for group in range(source.num_row_groups):
            yield source.read_row_group(group)
