"""Training rows for verl: parquet, written a table at a time. The one place that knows what such a row holds.

verl takes `images` out of a row before the reward function sees it, so `extra_info` carries what the proxy needs:
the texts, and the picture's path in the pairs folder, which every node can read.

A picture is {"bytes", "path": null}, or {"image": path}. The second is not {"path": ...}: verl opens what is under
"bytes" even when it is null, and hands the rest to qwen_vl_utils, which reads "image" (verl 0.9.1, `rl_dataset.py`).
How large a picture may be is not decided here: verl and vLLM bound the pixels when they load it
(`mm_processor_kwargs.max_pixels`; SFT by MAX_PIXELS), so the same file serves every bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_tools.export.prompt_columns import grm_prompts, proxy_prompts
from data_tools.rows.arrays import first_items, from_numpy, in_lists, one_array, regrouped
from data_tools.rows.picture_bytes import PictureBytes
from proxygrm.core.files.whole_file import WholeFileWriter

DATA_SOURCE = "proxygrm"
Pictures = Literal["bytes", "path"]
_ROWS, _BYTES = 2048, 16 << 20  # a row group is no longer than either, a single larger row aside
_WORDS = ("split", "id", "source", "question", "response_1", "response_2")
_FEW_VALUES = [
    "data_source", "ability", "prompt.list.element.role", "reward_model.style", "reward_model.ground_truth",
    "extra_info.split", "extra_info.source", "extra_info.label",
]  # fmt: skip


def verl_schema(pictures: Pictures = "bytes", rubric: bool = False) -> pa.Schema:
    """rubric: rows of the proxy's own task carry the rubric that they show."""
    text = pa.string()
    extra = [("index", pa.int64()), *((word, text) for word in _WORDS)]
    extra += [("label", pa.int64()), ("image", text), ("images", pa.list_(text))]
    extra += [("rubric", text)] if rubric else []
    picture = [("bytes", pa.binary()), ("path", text)] if pictures == "bytes" else [("image", text)]
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", pa.list_(pa.struct([("role", text), ("content", text)]))),
            ("images", pa.list_(pa.struct(picture))),
            ("ability", text),
            ("reward_model", pa.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pa.struct(extra)),
        ]
    )


class VerlWriter(WholeFileWriter):
    """Writes verl's parquet: whole or not at all, under its name when the `with` block ends without an error.

    split: goes into `extra_info`. rubrics: rows are the proxy's own task, and `write` wants a rubric for each.
    first: `extra_info.index` of the first row. Memory: the table at hand, and pictures up to 16 MB at a time.
    """

    def __init__(
        self, path: Path, split: str, pictures: Pictures = "bytes", rubrics: bool = False, first: int = 0
    ) -> None:
        super().__init__(path)
        self.split, self.pictures, self.rubrics = split, pictures, rubrics
        self.count, self._first = 0, first
        self._reader = PictureBytes(_BYTES)
        self.schema = verl_schema(pictures, rubrics)

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        with open_parquet(scratch, self.schema) as self._file:
            yield
            if not self.count:
                self._file.write_table(self.schema.empty_table())

    def write(self, pairs: pa.Table, rubrics: Sequence[str] | None = None) -> None:
        """Rows of pairs (columns of a pairs file; `images` are absolute paths), in order.

        Raises UserError for a picture that cannot be read, ValueError for a label that is none. A prompt has as many
        `<image>` tags as pictures: `prompt_columns` puts them there, and leaves none in a text.
        """
        if self.rubrics != (rubrics is not None):
            raise ValueError("rubrics are given exactly for the proxy's own task")
        for begin in range(0, pairs.num_rows, _ROWS):
            batch = pairs.slice(begin, _ROWS).combine_chunks()
            given = pa.array(rubrics[begin : begin + _ROWS], pa.string()) if rubrics is not None else None
            self._write(batch, given)

    def _write(self, pairs: pa.Table, rubrics: pa.Array | None) -> None:
        columns = {name: one_array(pairs[name]) for name in pairs.column_names}
        prompts, extra = self._texts(columns, rubrics)
        paths = columns["images"]
        for begin, end, sizes in self._cuts(paths):
            count = end - begin
            texts, own = prompts.slice(begin, count), [column.slice(begin, count) for column in extra]
            truth = columns["label"].slice(begin, count).cast(pa.string())
            arrays = [
                _same(DATA_SOURCE, count),
                in_lists(np.ones(count, dtype=np.int32), _struct([_same("user", count), texts], ["role", "content"])),
                self._pictures(paths.slice(begin, count), sizes),
                _same("judge", count),
                _struct([_same("rule", count), truth], ["style", "ground_truth"]),
                pa.StructArray.from_arrays(own, fields=list(self.schema.field("extra_info").type)),
            ]
            self._file.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.count += len(paths)

    def _texts(self, columns: dict[str, pa.Array], rubrics: pa.Array | None) -> tuple[pa.Array, list[pa.Array]]:
        """(prompts, columns of extra_info). What reads the label reads one column: it cannot differ."""
        label, paths = columns["label"], columns["images"]
        wrong = set(pc.unique(label).to_pylist()) - {1, 2}
        if wrong:
            raise ValueError(f"labels {sorted(wrong, key=str)}; they must be 1 or 2")
        question, one, two = (columns[name] for name in ("question", "response_1", "response_2"))
        numbers = pc.list_value_length(paths)
        prompts = (
            grm_prompts(question, one, two, numbers)
            if rubrics is None
            else proxy_prompts(question, one, two, rubrics, numbers)
        )
        index: np.ndarray = np.arange(len(label), dtype=np.int64) + self._first + self.count
        extra = [
            from_numpy(index), _same(self.split, len(label)), columns["id"], columns["source"], question, one, two,
            label.cast(pa.int64()), first_items(paths), paths,
        ]  # fmt: skip
        return prompts, extra + ([rubrics] if rubrics is not None else [])

    def _cuts(self, paths: pa.Array) -> Iterator[tuple[int, int, list[int]]]:
        """Row ranges whose pictures fit into memory together; one range when only their paths are written."""
        if self.pictures == "bytes":
            yield from self._reader.cuts(paths)
        elif len(paths):
            yield 0, len(paths), []

    def _pictures(self, paths: pa.Array, sizes: list[int]) -> pa.Array:
        fields = list(self.schema.field("images").type.value_type)
        columns = [paths.flatten()]
        if self.pictures == "bytes":
            columns = [self._reader.read(columns[0].to_pylist(), sizes), pa.nulls(len(sizes), pa.string())]
        return regrouped(paths, pa.StructArray.from_arrays(columns, fields=fields))


def open_parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Compression where it pays: not for pictures, which are compressed, and dictionaries for short words only."""
    leaves: list[str] = []
    for field in schema:
        _leaves(field, field.name, leaves)
    packed: Any = {leaf: "NONE" if leaf.endswith(".bytes") else "SNAPPY" for leaf in leaves}
    few = [leaf for leaf in leaves if leaf in _FEW_VALUES]
    return pq.ParquetWriter(path, schema, compression=packed, use_dictionary=few, write_statistics=False)


def _leaves(field: pa.Field, path: str, found: list[str]) -> None:
    if pa.types.is_struct(field.type):
        for child in field.type:
            _leaves(child, f"{path}.{child.name}", found)
    elif pa.types.is_list(field.type):
        _leaves(field.type.value_field, f"{path}.list.element", found)
    else:
        found.append(path)


def _same(word: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(word), count)


def _struct(columns: list[pa.Array], names: list[str]) -> pa.Array:
    return pa.StructArray.from_arrays(columns, names)
