"""The part of one shard of a conversion, and how parts become one file."""

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
from data_tools.export.settled_files import SettledFiles
from data_tools.export.to_bench import bench_lines
from data_tools.export.to_swift import grm_lines, proxy_lines, write_jsonl
from data_tools.export.to_verl import VerlWriter, open_parquet
from data_tools.rows.arrays import from_numpy, one_array
from data_tools.rows.critique_index import index_critiques
from data_tools.rows.pair_tables import pair_tables
from data_tools.sources.base import Left
from data_tools.steps.account import Account, Where
from proxygrm.core.files.whole_file import writing

if TYPE_CHECKING:
    from data_tools.export.convert import Job


def write_part(job: Job, span: range, part: dict[str, Path], account: Account) -> None:
    """The rows of `span` (of rows, or bytes) in the target's layout; the index of verl's rows begins at 0."""
    if job.to == "verl":
        tables = _from_lines(job, span, part["ids"], account) if job.from_lines else _counted(job, span, account)
        with VerlWriter(part["rows"], job.split, job.pictures) as writer:
            for table in tables:
                writer.write(table)
    elif job.to == "bench":
        beside = job.out.parent
        write_jsonl(part["rows"], (line for t in _counted(job, span, account) for line in bench_lines(t, beside)))
    else:
        write_jsonl(part["rows"], _swift(job, span, account))


def _counted(job: Job, span: range, account: Account) -> Iterator[pa.Table]:
    for table in _tables(job, span, account):
        account.read += table.num_rows
        account.kept += table.num_rows
        yield table


def _tables(job: Job, span: range, account: Account) -> Iterator[pa.Table]:
    """Of a pairs folder, with a column `line` of row numbers; rows whose images a consumer would refuse leave."""
    files = SettledFiles(job.images, None, job.missing)
    at = span.start
    for table in pair_tables(job.source, span):
        ids, first = table["id"], at + 1

        def leave(row: int, left: Left, ids: pa.ChunkedArray = ids, first: int = first) -> None:
            _leave(job, account, first + row, left._replace(id=ids[row].as_py()))

        lines: np.ndarray = np.arange(first, first + table.num_rows, dtype=np.int64)
        at += table.num_rows
        yield files.settled(table.append_column("line", from_numpy(lines)), leave, account.notes)


def _leave(job: Job, account: Account, line: int, left: Left) -> None:
    row_id = left.id if isinstance(left.id, str) else "" if left.id is None else str(left.id)
    account.read += 1
    account.leave(
        Where(job.source.name, line), ascii(row_id)[1:-1], left.reason, bad=left.bad, detail=left.detail[:300]
    )


def _swift(job: Job, span: range, account: Account) -> Iterator[bytes]:
    """Lines of the pairs that the teacher judged right, to the contract."""
    ids = {pair_id for table in pair_tables(job.source, span, columns=("id",)) for pair_id in table["id"].to_pylist()}
    index = index_critiques(job.critiques, ids)
    lines = grm_lines if job.to == "swift-grm" else proxy_lines
    with index.reader() as critiques:
        for table in _tables(job, span, account):
            keep, texts = [], []
            columns = (table[name].to_pylist() for name in ("line", "id", "label"))
            for number, pair_id, label in zip(*columns, strict=True):
                found = index.found.get(pair_id)
                fault = found.fault(label) if found else "no_critique"
                if found and not fault and found.verdict != label:
                    fault = "teacher_wrong"
                keep.append(not fault)
                if fault:
                    account.leave(Where(job.source.name, number), pair_id, fault, bad=False)
                else:
                    texts.append(critiques.text(pair_id))
            account.read += len(keep)
            account.kept += len(texts)
            yield from lines(table.filter(pa.array(keep)), texts)


def _from_lines(job: Job, span: range, ids: Path, account: Account) -> Iterator[pa.Table]:
    """Tables with absolute picture paths; rows that are no pair, or whose pictures are not there, are counted."""

    files = SettledFiles(job.images, job.root, job.missing)
    keys = []
    for table in preference_tables(job.source, span, partial(_leave, job, account)):
        row_ids, lines = table["id"], table["line"]

        def leave(row: int, left: Left, ids: pa.ChunkedArray = row_ids, lines: pa.ChunkedArray = lines) -> None:
            _leave(job, account, lines[row].as_py(), left._replace(id=ids[row].as_py()))

        found = files.settled(table, leave, account.notes)
        account.read += found.num_rows
        account.kept += found.num_rows
        hashed = found["id"].cast(pa.binary()).to_pylist()
        keys.append(np.fromiter(map(xxhash.xxh3_64_intdigest, hashed), np.uint64, found.num_rows))
        yield found
    with writing(ids), ids.open("wb") as file:
        np.save(file, np.concatenate(keys) if keys else np.zeros(0, np.uint64))


def count_repeated(files: Sequence[Path]) -> int:
    """Rows whose id another row before them has (by hashes of 64 bits)."""
    keys = np.concatenate([np.load(file) for file in files])
    return len(keys) - len(np.unique(keys))


def join_parquet(parts: Sequence[Path], out: Path) -> None:
    """One file of verl's rows; `extra_info.index` counts through."""
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
    place = table.schema.get_field_index("extra_info")
    extra = one_array(table["extra_info"])
    kind = extra.type
    children = [extra.field(i) for i in range(kind.num_fields)]
    index: np.ndarray = np.arange(first, first + len(extra), dtype=np.int64)
    children[kind.get_field_index("index")] = from_numpy(index)
    rebuilt = pa.StructArray.from_arrays(children, fields=list(kind))
    return table.set_column(place, table.schema.field(place), rebuilt)
