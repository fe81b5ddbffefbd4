"""Pairs as arrow tables, one row group at a time, for steps that work on columns instead of `PreferencePair`s."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_tools.rows.arrays import from_numpy, regrouped, single_array
from data_tools.rows.preference import pair_groups
from proxygrm.core.files.whole_file import writing

_CHUNK = 512  # rows read together from a spilled file


def pair_tables(path: Path, span: range | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The pairs of a folder in file order, `images` as absolute paths; `span`: only these positions (contiguous).

    Raises UserError if `path` is not a pairs folder, or its file is damaged.
    """
    folder = images_folder(path)
    for table in pair_groups(path, span, columns):
        if "images" in table.column_names:
            column = table.schema.get_field_index("images")
            table = table.set_column(column, "images", absolute_paths(table["images"], folder))
        yield table


def images_folder(path: Path) -> Path:
    """The folder of images of a pairs folder (or of the pairs file in it)."""
    folder = path.parent if path.suffix == ".parquet" else path
    return folder.resolve() / "images"


def absolute_paths(images: pa.ChunkedArray, folder: Path) -> pa.Array:
    """Lists of file names -> lists of paths in `folder`."""
    names = single_array(images)
    return regrouped(names, pc.binary_join_element_wise(pa.scalar(f"{folder}/"), names.flatten(), pa.scalar("")))


def image_names(table: pa.Table) -> list[str]:
    """The names in the column `images`, each once."""
    names: list[str] = pc.unique(pc.list_flatten(table["images"])).to_pylist()
    return names


def add_counts(column: pa.ChunkedArray, counts: Counter[Any]) -> None:
    """Add how often each value occurs in the column."""
    for counted in pc.value_counts(column).to_pylist():
        counts[counted["values"]] += counted["counts"]


class Spill:
    """Rows written to disk in the order in which they arrive, and read back in any other.

    Memory: one row group while writing, `_CHUNK` rows while reading (the file is memory-mapped, so the system can
    drop pages that were read).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: pa.RecordBatchFileWriter | None = None
        self._starts = [0]

    def __enter__(self) -> Spill:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def add(self, table: pa.Table) -> None:
        with writing(self.path):
            if self._file is None:
                self._file = pa.ipc.new_file(os.fspath(self.path), table.schema)
            for batch in table.combine_chunks().to_batches():
                self._file.write_batch(batch)
                self._starts.append(self._starts[-1] + batch.num_rows)

    def close(self) -> None:
        if self._file is not None:
            with writing(self.path):
                self._file.close()

    def in_order(self, rows: Sequence[int]) -> Iterator[pa.Table]:
        """The rows of these numbers (from 0, in the order of `add`), in this order, in chunks."""
        if not rows:
            return
        self.close()
        with pa.memory_map(os.fspath(self.path)) as mapped:
            reader = pa.ipc.open_file(mapped)
            starts = np.array(self._starts)
            for begin in range(0, len(rows), _CHUNK):
                wanted = np.asarray(rows[begin : begin + _CHUNK])
                batch_of = np.searchsorted(starts, wanted, side="right") - 1
                tables, positions = [], []
                for batch in np.unique(batch_of):
                    in_batch = np.flatnonzero(batch_of == batch)
                    tables.append(reader.get_batch(int(batch)).take(from_numpy(wanted[in_batch] - starts[batch])))
                    positions.append(in_batch)
                restore = np.argsort(np.concatenate(positions))
                yield pa.Table.from_batches(tables).combine_chunks().take(from_numpy(restore))
