"""The generic preference JSONL (layout: `data_tools.sources.preference_jsonl`) as tables of pairs, one block at a time.

Regular rows are read by arrow's JSON reader and checked column by column. Rows that it cannot read, or that a check
marks as odd, are read one by one by `preference_jsonl.read`, which decides; so the result equals that of reading every
row this way. Ids, sources and labels are those of `proxygrm data ingest preference-jsonl`, but repeated ids stay.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from data_tools.export.prompt_columns import SPACE
from data_tools.ingest.part import text_fault
from data_tools.rows.arrays import from_numpy, in_lists, single_array, to_numpy
from data_tools.rows.line_blocks import Block, line_blocks
from data_tools.rows.preference import label_for
from data_tools.sources import preference_jsonl
from data_tools.sources.base import Excluded, slug
from proxygrm.core.ids import BadId, has_id, id_text, loads
from proxygrm.core.images.fields import NO_PATH, NoImage

OnExcluded = Callable[[int, Excluded], None]  # (line number, why the row is not a pair)
SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("id", "source", "question", "response_1", "response_2")),
     ("label", pa.int8()), ("images", pa.list_(pa.string())), ("line", pa.int64())]
)  # fmt: skip
_RAW = pa.schema(
    [*((name, pa.string()) for name in ("id", "source", "question", "chosen", "rejected")),
     ("images", pa.list_(pa.string())), ("line", pa.int64())]
)  # fmt: skip
_KINDS = {str: pa.string(), int: pa.int64(), list: pa.list_(pa.string())}
_SEVERAL_KINDS = ("id", "image", "images", "label")
_FEW = 16  # so few lines are not read by arrow again


def preference_tables(path: Path, span: range, exclude: OnExcluded, name: str = "") -> Iterator[pa.Table]:
    """Tables of SCHEMA of the lines that start within `span` (bytes); `images` are the paths as written, and "" for an
    image that a row names without giving it.

    exclude: called for every line that is not a pair. name: source of rows without one, by default the file's name.
    """
    name = name or slug(path.stem) or "preference"
    for block in line_blocks(path, span):
        table = _read(block, exclude)
        if table.num_rows:
            yield _arranged(table, name)


def _read(block: Block, exclude: OnExcluded) -> pa.Table:
    """Rows of _RAW. A block that arrow cannot read is halved, until few lines are left around the odd one."""
    table = _columns(block)
    if table is not None:
        odd = _odd(table)
        if not odd.any():
            return table.drop_columns(["odd"])
        lines = dict(block.lines())
        numbers = [int(n) for n in table["line"].filter(from_numpy(odd)).to_pylist()]
        slow = _read_lines([(n, lines[n]) for n in numbers], exclude, block.data.endswith(b"\n"), numbers[-1])
        both = pa.concat_tables([table.drop_columns(["odd"]).filter(from_numpy(~odd)), slow])
        return both.sort_by("line")
    halves = block.halves() if block.data.count(b"\n", 0, -1) >= _FEW else None
    if halves is None:
        lines_ = block.lines()
        last = lines_[-1][0] if lines_ else 0
        return _read_lines(lines_, exclude, block.data.endswith(b"\n"), last)
    return pa.concat_tables([_read(half, exclude) for half in halves])


def _columns(block: Block) -> pa.Table | None:
    """The block as read by arrow, with a column "odd" of rows to read again; None if it must be read line by line."""
    schema = _layout(block.data)
    if schema is None:
        return None
    read = pj.ReadOptions(use_threads=False, block_size=len(block.data) + 1)
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(io.BytesIO(block.data), read_options=read, parse_options=parse)
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    lines = table.num_rows
    line = from_numpy(np.arange(block.first, block.first + lines))
    if lines != block.data.count(b"\n") + (not block.data.endswith(b"\n")):
        numbers = [number for number, _ in block.lines()]
        if len(numbers) != lines:  # two objects on a line
            return None
        line = pa.array(numbers, pa.int64())
    columns = {field: table[field] for field in schema.names}
    nulls = pa.nulls(lines, pa.string())
    odd = from_numpy(np.zeros(lines, dtype=bool))
    if "video" in columns:
        odd = pc.or_(odd, _given(columns["video"]))
    question = pc.coalesce(columns.get("question", nulls), columns.get("prompt", nulls))
    if "chosen" in columns:
        chosen, rejected = columns["chosen"], columns["rejected"]
    else:
        label = columns["label"].cast(pa.string())
        first = pc.equal(label, "1")
        chosen, rejected = (
            pc.if_else(first, columns[if_1], columns[if_2])
            for if_1, if_2 in (("response_1", "response_2"), ("response_2", "response_1"))
        )
        odd = pc.or_(odd, pc.invert(pc.fill_null(pc.or_(first, pc.equal(label, "2")), False)))
    id_ = columns["id"].cast(pa.string()) if "id" in columns else nulls
    images, odd_images = _images(columns, lines)
    odd = pc.or_(odd, odd_images)
    arrays = [
        pc.if_else(_given(id_), id_, line.cast(pa.string())),
        columns.get("source", nulls), question, chosen, rejected, images, line,
    ]  # fmt: skip
    return pa.Table.from_arrays([*arrays, odd], [*_RAW.names, "odd"])


def _layout(data: bytes) -> pa.Schema | None:
    """The columns for arrow to read, from the first line; None if that line is not regular."""
    end = data.find(b"\n")
    try:
        row = orjson.loads(data if end < 0 else data[:end])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict):
        return None
    if "chosen" in row and "rejected" in row:
        needed: tuple[str, ...] = ("chosen", "rejected")
    elif {"response_1", "response_2", "label"} <= set(row) and b'"chosen"' not in data and b'"rejected"' not in data:
        needed = ("response_1", "response_2", "label")
        if isinstance(row["label"], list):
            return None
    else:
        return None
    fields = []
    for name in (*needed, "id", "source", "question", "prompt", "image", "images", "video"):
        kind: Any = pa.string()
        if name in _SEVERAL_KINDS:
            kind = _KINDS.get(type(row.get(name)), pa.string())
        fields.append((name, kind))
    return pa.schema(fields)  # a row in the other layout has null texts


def _images(columns: dict[str, Any], lines: int) -> tuple[pa.Array, Any]:
    """(lists of paths, rows to read again): `images` if it names any, else `image`."""
    paths = {name: single_array(columns[name]) for name in ("images", "image")}
    odd: np.ndarray = np.zeros(lines, dtype=bool)
    for name, column in paths.items():
        if pa.types.is_list(column.type):
            texts = column.flatten()
            unusual = pc.or_(pc.invert(_given(texts)), _no_path(texts))
            odd[np.unique(to_numpy(pc.list_parent_indices(column).filter(unusual)))] = True
        else:
            given = _given(column)
            odd |= to_numpy(_no_path(column))
            column = in_lists(to_numpy(given), column.filter(given))
        paths[name] = pc.coalesce(column, pa.scalar([], pa.list_(pa.string())))
    has_images, has_image = (pc.greater(pc.list_value_length(paths[name]), 0) for name in ("images", "image"))
    both = pc.and_(has_images, has_image)
    return pc.if_else(has_images, paths["images"], paths["image"]), pc.or_(from_numpy(odd), both)


def _no_path(texts: Any) -> Any:
    return pc.fill_null(pc.match_substring_regex(texts.cast(pa.string()), NO_PATH), False)


def _given(texts: Any) -> Any:
    return pc.fill_null(pc.not_equal(texts.cast(pa.string()), ""), False)


def _odd(table: pa.Table) -> np.ndarray:
    """Rows whose texts are missing, empty or equal after Python's `strip`, and those marked before."""
    odd = table["odd"]
    trimmed = [pc.utf8_trim(table[name], characters=SPACE) for name in ("question", "chosen", "rejected")]
    for text in trimmed:
        odd = pc.or_(odd, pc.invert(_given(text)))
    odd = pc.or_(odd, pc.fill_null(pc.equal(trimmed[1], trimmed[2]), True))
    return to_numpy(odd)


def _read_lines(lines: list[tuple[int, bytes]], exclude: OnExcluded, complete: bool, last: int) -> pa.Table:
    """Rows of _RAW, read one by one. complete: the line with number `last` has a line end."""
    rows = []
    for number, line in lines:
        row = _row(number, line, complete or number != last)
        if isinstance(row, Excluded):
            exclude(number, row)
        else:
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=_RAW)


def _row(number: int, line: bytes, complete: bool) -> dict[str, Any] | Excluded:
    try:
        row = loads(line)
    except orjson.JSONDecodeError as error:
        return Excluded("not_json" if complete else "cut_off", str(error))
    if not isinstance(row, dict):
        return Excluded("not_an_object", type(row).__name__)
    try:
        pair = preference_jsonl.read(row)
    except NoImage as error:
        return Excluded("bad_image", str(error), id=row.get("id"))
    if isinstance(pair, Excluded):
        return pair
    texts = {"question": pair.question, "chosen": pair.chosen, "rejected": pair.rejected}
    if fault := text_fault(list(texts.values())):
        return fault._replace(id=pair.id)
    if pair.chosen.strip() == pair.rejected.strip():
        return Excluded("same_responses", bad=False, id=pair.id)
    try:
        id_ = id_text(pair.id) if has_id(pair.id) else str(number)
    except BadId as error:
        return Excluded("bad_id", str(error), id=pair.id)
    if any(isinstance(image, bytes) for image in pair.images):
        return Excluded("bad_image", "the row has the bytes of its image; ingest the file first", id=pair.id)
    paths = [image if isinstance(image, str) else "" for image in pair.images]
    return {**texts, "id": id_, "source": pair.source, "images": paths, "line": number}


def _arranged(table: pa.Table, name: str) -> pa.Table:
    """chosen, rejected -> response_1, response_2 and the label, by the hash of the id (`label_for`)."""
    sources = single_array(table["source"]).dictionary_encode()
    words = pa.array([slug(source) or name for source in sources.dictionary.to_pylist()], pa.string())
    source = pc.fill_null(words.take(sources.indices), name)
    ids = pc.binary_join_element_wise(source, table["id"], ":")
    label = pa.array(map(label_for, ids.to_pylist()), pa.int8())
    first = pc.equal(label, 1)
    response_1, response_2 = (
        pc.if_else(first, table[if_1], table[if_2]) for if_1, if_2 in (("chosen", "rejected"), ("rejected", "chosen"))
    )
    arrays = [ids, source, table["question"], response_1, response_2, label, table["images"], table["line"]]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
