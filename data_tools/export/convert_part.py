"""Writes the part of one shard of a conversion, and joins parquet parts into one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data_tools.export.preference_blocks import preference_tables
from data_tools.export.settled_images import SettledImages
from data_tools.export.to_bench import bench_lines
from data_tools.export.to_swift import LINES, preference_lines, write_jsonl
from data_tools.export.to_verl import VerlWriter, open_parquet
from data_tools.rows.arrays import from_numpy, single_array
from data_tools.rows.critique_index import index_critiques
from data_tools.rows.pair_tables import pair_tables
from data_tools.rows.shown_order import in_shown_order
from data_tools.sources.base import Excluded
from data_tools.steps.account import Account, RowLocation
from proxygrm.core.files.whole_file import writing

if TYPE_CHECKING:
    from data_tools.export.convert import Job


def write_part(job: Job, span: range, part: dict[str, Path], account: Account) -> None:
    """Write the rows of `span` (rows, or bytes) in the layout of the target; the index of verl's rows starts at 0."""
    if job.for_verl:
        tables = _from_lines(job, span, part["ids"], account) if job.from_lines else _counted(job, span, account)
        with VerlWriter(part["rows"], job.split, job.images, contract=job.contract) as writer:
            for table in tables:
                writer.write(table)
    elif job.to == "bench":
        folder = job.out.parent
        write_jsonl(part["rows"], (line for t in _counted(job, span, account) for line in bench_lines(t, folder)))
    elif job.to == "swift-rm":
        write_jsonl(part["rows"], (line for table in _counted(job, span, account) for line in preference_lines(table)))
    else:
        write_jsonl(part["rows"], _swift(job, span, account))


def _counted(job: Job, span: range, account: Account) -> Iterator[pa.Table]:
    for table in _tables(job, span, account):
        account.read += table.num_rows
        account.kept += table.num_rows
        yield table


def _tables(job: Job, span: range, account: Account) -> Iterator[pa.Table]:
    """Tables of a pairs folder, with a column `line` of row numbers, without rows whose images consumers refuse."""
    images = SettledImages(job.image_folder, None, job.missing)
    at = span.start
    for table in pair_tables(job.source, span):
        ids, first = table["id"], at + 1

        def exclude(row: int, excluded: Excluded, ids: pa.ChunkedArray = ids, first: int = first) -> None:
            _exclude(job, account, first + row, excluded._replace(id=ids[row].as_py()))

        lines: np.ndarray = np.arange(first, first + table.num_rows, dtype=np.int64)
        at += table.num_rows
        yield images.settled(table.append_column("line", from_numpy(lines)), exclude, account.notes)


def _exclude(job: Job, account: Account, line: int, excluded: Excluded) -> None:
    row_id = "" if excluded.id is None else str(excluded.id)
    account.read += 1
    where = RowLocation(job.source.name, line)
    account.exclude(where, ascii(row_id)[1:-1], excluded.reason, bad=excluded.bad, detail=excluded.detail[:300])


def _swift(job: Job, span: range, account: Account) -> Iterator[bytes]:
    """Lines of the pairs that the teacher judged right in a well-formed critique."""
    ids = {pair_id for table in pair_tables(job.source, span, columns=("id",)) for pair_id in table["id"].to_pylist()}
    index = index_critiques(job.critiques, ids, job.contract)
    with index.reader() as critiques:
        for table in _tables(job, span, account):
            keep, texts, swapped = [], [], []
            columns = (table[name].to_pylist() for name in ("line", "id", "label"))
            for number, pair_id, label in zip(*columns, strict=True):
                critique = index.critiques.get(pair_id)
                fault = critique.fault(label) if critique else "no_critique"
                if critique and not fault and critique.verdict != label:
                    fault = "teacher_wrong"
                keep.append(not fault)
                if fault:
                    account.exclude(RowLocation(job.source.name, number), pair_id, fault, bad=False)
                else:
                    texts.append(critiques.text(pair_id))
                    swapped.append(critique is not None and critique.swapped)
            account.read += len(keep)
            account.kept += len(texts)
            yield from LINES[job.to](in_shown_order(table.filter(pa.array(keep)), swapped), texts)


def _from_lines(job: Job, span: range, ids: Path, account: Account) -> Iterator[pa.Table]:
    """Tables with absolute image paths; rows that are not pairs, or lack their images, are counted."""
    images = SettledImages(job.image_folder, job.root, job.missing)
    keys = []
    for table in preference_tables(job.source, span, partial(_exclude, job, account)):
        row_ids, lines = table["id"], table["line"]

        def exclude(row: int, excluded: Excluded, ids: pa.ChunkedArray = row_ids, at: pa.ChunkedArray = lines) -> None:
            _exclude(job, account, at[row].as_py(), excluded._replace(id=ids[row].as_py()))

        kept = images.settled(table, exclude, account.notes)
        account.read += kept.num_rows
        account.kept += kept.num_rows
        kept_ids = kept["id"].cast(pa.binary()).to_pylist()
        keys.append(np.fromiter(map(xxhash.xxh3_64_intdigest, kept_ids), np.uint64, kept.num_rows))
        yield kept
    with writing(ids), ids.open("wb") as file:
        np.save(file, np.concatenate(keys) if keys else np.zeros(0, np.uint64))


def count_repeated(files: Sequence[Path]) -> int:
    """Number of rows whose id an earlier row has (by 64-bit hashes)."""
    keys = np.concatenate([np.load(file) for file in files])
    return len(keys) - len(np.unique(keys))


def join_parquet(parts: Sequence[Path], out: Path) -> None:
    """Join parts of verl's rows; `extra_info.index` is renumbered from 0."""
    schema = pq.read_schema(parts[0])
    at = 0
    with writing(out), open_parquet(out, schema) as writer:
        for part in parts:
            source = pq.ParquetFile(part)
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, use_threads=False)
                if table.num_rows:
                    writer.write_table(_indexed(table, at))
                    at += table.num_rows


def _indexed(table: pa.Table, first: int) -> pa.Table:
    column = table.schema.get_field_index("extra_info")
    extra = single_array(table["extra_info"])
    kind = extra.type
    children = [extra.field(i) for i in range(kind.num_fields)]
    index: np.ndarray = np.arange(first, first + len(extra), dtype=np.int64)
    children[kind.get_field_index("index")] = from_numpy(index)
    rebuilt = pa.StructArray.from_arrays(children, fields=list(kind))
    return table.set_column(column, table.schema.field(column), rebuilt)
