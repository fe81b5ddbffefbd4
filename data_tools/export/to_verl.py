"""Training rows for verl: parquet, written a table at a time. The only file that knows the layout of these rows.

verl removes `images` from a row before the reward function sees it, so `extra_info` carries what the proxy needs: the
texts, and the path of the image in the pairs folder, which every node can read.

An image is {"bytes", "path": null}, or {"image": path}. The second is not {"path": ...}: verl opens "bytes" even if it
is null, and passes the rest to qwen_vl_utils, which reads "image" (verl 0.9.1, `rl_dataset.py`). The size of images is
not limited here: verl and vLLM limit the pixels when they load them (`mm_processor_kwargs.max_pixels`; MAX_PIXELS for
SFT), so the same file works with every limit.
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

from data_tools.export.prompt_columns import grm_prompts, proxy_prompts, r1_prompts
from data_tools.rows.arrays import first_items, from_numpy, in_lists, regrouped, single_array
from data_tools.rows.image_bytes import ImageBytes
from proxygrm.core.files.whole_file import WholeFileWriter
from proxygrm.critique.contracts import PROXY_GRM, R1

DATA_SOURCE = "proxygrm"
ImageReader = Literal["bytes", "path"]
_ROWS, _BYTES = 2048, 16 << 20  # limits of a row group; a single larger row is still written
_WORDS = ("split", "id", "source", "question", "response_1", "response_2")
_FEW_VALUES = [
    "data_source", "ability", "prompt.list.element.role", "reward_model.style", "reward_model.ground_truth",
    "extra_info.split", "extra_info.source", "extra_info.label",
]  # fmt: skip


def verl_schema(images: ImageReader = "bytes", rubric: bool = False) -> pa.Schema:
    """The schema of the rows. rubric: rows of the proxy's task also have the rubric in `extra_info`."""
    text = pa.string()
    extra = [("index", pa.int64()), *((word, text) for word in _WORDS)]
    extra += [("label", pa.int64()), ("image", text), ("images", pa.list_(text))]
    extra += [("rubric", text)] if rubric else []
    image = [("bytes", pa.binary()), ("path", text)] if images == "bytes" else [("image", text)]
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", pa.list_(pa.struct([("role", text), ("content", text)]))),
            ("images", pa.list_(pa.struct(image))),
            ("ability", text),
            ("reward_model", pa.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pa.struct(extra)),
        ]
    )


class VerlWriter(WholeFileWriter):
    """Writes verl's parquet atomically: the file appears when the `with` block ends without an error.

    split: name in `extra_info`. rubrics: rows are of the proxy's task, and `write` needs a rubric for each. contract:
    whose instruction the prompts are, without rubrics.
    first: `extra_info.index` of the first row. Memory: the current table, and up to 16 MB of images at a time.
    """

    def __init__(
        self,
        path: Path,
        split: str,
        images: ImageReader = "bytes",
        rubrics: bool = False,
        first: int = 0,
        contract: str = PROXY_GRM,
    ) -> None:
        super().__init__(path)
        self._prompts = r1_prompts if contract == R1 else grm_prompts
        self.split, self.images, self.rubrics = split, images, rubrics
        self.count, self._first = 0, first
        self._reader = ImageBytes(_BYTES)
        self.schema = verl_schema(images, rubrics)

    @contextmanager
    def _opened(self, scratch: Path) -> Iterator[None]:
        with open_parquet(scratch, self.schema) as self._file:
            yield
            if not self.count:
                self._file.write_table(self.schema.empty_table())

    def write(self, pairs: pa.Table, rubrics: Sequence[str] | None = None) -> None:
        """Append rows of pairs (columns of a pairs file; `images` are absolute paths), in order.

        Raises UserError for an image that cannot be read, ValueError for an invalid label. A prompt has as many
        `<image>` tags as images: `prompt_columns` adds them, and defuses those in texts.
        """
        if self.rubrics != (rubrics is not None):
            raise ValueError("rubrics are needed for the proxy's task, and only there")
        for begin in range(0, pairs.num_rows, _ROWS):
            batch = pairs.slice(begin, _ROWS).combine_chunks()
            batch_rubrics = pa.array(rubrics[begin : begin + _ROWS], pa.string()) if rubrics is not None else None
            self._write(batch, batch_rubrics)

    def _write(self, pairs: pa.Table, rubrics: pa.Array | None) -> None:
        columns = {name: single_array(pairs[name]) for name in pairs.column_names}
        prompts, extra = self._texts(columns, rubrics)
        paths = columns["images"]
        for begin, end, sizes in self._cuts(paths):
            count = end - begin
            texts, extra_columns = prompts.slice(begin, count), [column.slice(begin, count) for column in extra]
            truth = columns["label"].slice(begin, count).cast(pa.string())
            arrays = [
                _same(DATA_SOURCE, count),
                in_lists(np.ones(count, dtype=np.int32), _struct([_same("user", count), texts], ["role", "content"])),
                self._images(paths.slice(begin, count), sizes),
                _same("judge", count),
                _struct([_same("rule", count), truth], ["style", "ground_truth"]),
                pa.StructArray.from_arrays(extra_columns, fields=list(self.schema.field("extra_info").type)),
            ]
            self._file.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.count += len(paths)

    def _texts(self, columns: dict[str, pa.Array], rubrics: pa.Array | None) -> tuple[pa.Array, list[pa.Array]]:
        """(prompts, columns of extra_info). Both places of the label are written from one column, so they agree."""
        label, paths = columns["label"], columns["images"]
        invalid = set(pc.unique(label).to_pylist()) - {1, 2}
        if invalid:
            raise ValueError(f"labels {sorted(invalid, key=str)}; they must be 1 or 2")
        question, response_1, response_2 = (columns[name] for name in ("question", "response_1", "response_2"))
        counts = pc.list_value_length(paths)
        prompts = (
            self._prompts(question, response_1, response_2, counts)
            if rubrics is None
            else proxy_prompts(question, response_1, response_2, rubrics, counts)
        )
        index: np.ndarray = np.arange(len(label), dtype=np.int64) + self._first + self.count
        extra = [
            from_numpy(index), _same(self.split, len(label)), columns["id"], columns["source"], question, response_1,
            response_2, label.cast(pa.int64()), first_items(paths), paths,
        ]  # fmt: skip
        return prompts, extra + ([rubrics] if rubrics is not None else [])

    def _cuts(self, paths: pa.Array) -> Iterator[tuple[int, int, list[int]]]:
        """Row ranges whose images fit into memory together; a single range if only paths are written."""
        if self.images == "bytes":
            yield from self._reader.cuts(paths)
        elif len(paths):
            yield 0, len(paths), []

    def _images(self, paths: pa.Array, sizes: list[int]) -> pa.Array:
        fields = list(self.schema.field("images").type.value_type)
        columns = [paths.flatten()]
        if self.images == "bytes":
            columns = [self._reader.read(columns[0].to_pylist(), sizes), pa.nulls(len(sizes), pa.string())]
        return regrouped(paths, pa.StructArray.from_arrays(columns, fields=fields))


def open_parquet(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A parquet writer that does not compress images (they are already), and uses dictionaries for few columns."""
    leaves: list[str] = []
    for field in schema:
        _leaves(field, field.name, leaves)
    compression: Any = {leaf: "NONE" if leaf.endswith(".bytes") else "SNAPPY" for leaf in leaves}
    repeated = [leaf for leaf in leaves if leaf in _FEW_VALUES]
    return pq.ParquetWriter(path, schema, compression=compression, use_dictionary=repeated, write_statistics=False)


def _leaves(field: pa.Field, path: str, leaves: list[str]) -> None:
    if pa.types.is_struct(field.type):
        for child in field.type:
            _leaves(child, f"{path}.{child.name}", leaves)
    elif pa.types.is_list(field.type):
        _leaves(field.type.value_field, f"{path}.list.element", leaves)
    else:
        leaves.append(path)


def _same(word: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(word), count)


def _struct(columns: list[pa.Array], names: list[str]) -> pa.Array:
    return pa.StructArray.from_arrays(columns, names)
