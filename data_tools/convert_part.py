"""The part of one shard of a conversion, and how parts become one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from data_tools.account import Account, Where
from data_tools.arrays import from_numpy, one_array, regrouped
from data_tools.critique_index import index_critiques
from data_tools.pair_tables import pair_tables
from data_tools.picture_paths import MissingPicture, OutsideRoot, resolve
from data_tools.preference_blocks import Leave, preference_tables
from data_tools.source import Left
from data_tools.to_bench import bench_lines
from data_tools.to_swift import grm_lines, proxy_lines, write_jsonl
from data_tools.to_verl import VerlWriter, open_parquet
from proxygrm.whole_file import writing

if TYPE_CHECKING:
    from data_tools.convert import Job

_REMEMBERED = 50_000  # picture paths known to be good


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
    for table in pair_tables(job.source, span):
        account.read += table.num_rows
        account.kept += table.num_rows
        yield table


def _swift(job: Job, span: range, account: Account) -> Iterator[bytes]:
    """Lines of the pairs that the teacher judged right, to the contract."""
    ids = {pair_id for table in pair_tables(job.source, span, columns=("id",)) for pair_id in table["id"].to_pylist()}
    index = index_critiques(job.critiques, ids)
    lines = grm_lines if job.to == "swift-grm" else proxy_lines
    number = span.start
    with index.reader() as critiques:
        for table in pair_tables(job.source, span):
            keep, texts = [], []
            for pair_id, label in zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True):
                number += 1
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

    def leave(line: int, left: Left) -> None:
        row_id = left.id if isinstance(left.id, str) else "" if left.id is None else str(left.id)
        account.read += 1
        account.leave(
            Where(job.source.name, line), ascii(row_id)[1:-1], left.reason, bad=left.bad, detail=left.detail[:300]
        )

    pictures = _Pictures(job.root, opened=job.pictures == "bytes")
    keys = []
    for table in preference_tables(job.source, span, leave):
        found = pictures.found(table, leave)
        account.read += found.num_rows
        account.kept += found.num_rows
        row_ids = found["id"].cast(pa.binary()).to_pylist()
        keys.append(np.fromiter(map(xxhash.xxh3_64_intdigest, row_ids), np.uint64, found.num_rows))
        yield found
    with writing(ids), ids.open("wb") as file:
        np.save(file, np.concatenate(keys) if keys else np.zeros(0, np.uint64))


class _Pictures:
    """Paths as written -> absolute ones, of files below the root that are there (and, if `opened`, are pictures)."""

    def __init__(self, root: Path, opened: bool) -> None:
        self.root, self.opened = root, opened
        self._good: dict[str, str] = {}

    def found(self, table: pa.Table, leave: Leave) -> pa.Table:
        """The rows whose pictures are all good; the others leave."""
        lists = one_array(table["images"])
        flat, absolute, faults = lists.flatten().to_pylist(), [], {}
        for place, name in enumerate(flat):
            path = self._good.get(name)
            if path is None:
                fault = self._look(name)
                path = self._good.get(name, "")
                if fault:
                    faults[place] = fault
            absolute.append(path)
        rebuilt = regrouped(lists, pa.array(absolute, pa.string()))
        table = table.set_column(table.schema.get_field_index("images"), "images", rebuilt)
        if not faults:
            return table
        parents = pc.list_parent_indices(lists).to_pylist()
        wrong: dict[int, Left] = {}
        for place, fault in faults.items():
            wrong.setdefault(parents[place], fault)
        ids, lines = table["id"].to_pylist(), table["line"].to_pylist()
        for row, fault in sorted(wrong.items()):
            leave(lines[row], fault._replace(id=ids[row]))
        return table.filter(pa.array([row not in wrong for row in range(table.num_rows)]))

    def _look(self, name: str) -> Left | None:
        """Remember the path when it is good; a reason when it is not."""
        if len(self._good) >= _REMEMBERED:
            self._good.clear()
        plain = not name.startswith("/") and ".." not in name and not self.opened
        path = f"{self.root}/{name}"
        if not plain or not os.path.isfile(path):  # noqa: PTH113 - ten times as fast, for 200k paths
            try:
                path = str(resolve(name, self.root))
            except MissingPicture as error:
                return Left("missing_picture", str(error))
            except OutsideRoot as error:
                return Left("picture_outside_root", str(error))
        if self.opened:
            fault = _unreadable(path)
            if fault:
                return Left("unreadable_picture", fault)
        self._good[name] = path
        return None


def _unreadable(path: str) -> str:
    """Why the file is no picture, by its head; "" when it is one."""
    from PIL import Image

    try:
        with Image.open(path):
            return ""
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)


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
