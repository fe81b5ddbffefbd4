"""The generic preference JSONL (layout: `data_tools.sources.preference_jsonl`) as tables of pairs, a block at a time.

Rows in good order are read by arrow's JSON reader and checked column by column. Whatever it refuses, or a check finds
odd, goes through `preference_jsonl.read` row by row, which decides: so the result is that of the slow way alone. Ids,
sources and labels are those that `proxygrm data ingest preference-jsonl` gives, but repeated ids stay as they are.
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
from data_tools.rows.arrays import from_numpy, in_lists, one_array, to_numpy
from data_tools.rows.line_blocks import Block, line_blocks
from data_tools.rows.preference import label_for
from data_tools.sources import preference_jsonl
from data_tools.sources.base import Left, slug
from proxygrm.core.ids import BadId, given, id_text, loads
from proxygrm.core.images.fields import NO_PATH, NoPicture

Leave = Callable[[int, Left], None]  # (line number, why the row is no pair)
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
_FEW = 16  # lines that are not worth another try


def preference_tables(path: Path, span: range, leave: Leave, name: str = "") -> Iterator[pa.Table]:
    """Tables of SCHEMA of the lines that start within `span` (bytes); `images` are the paths as written, and "" for an
    image that a row names without giving it.

    name: source of rows that name none (by default the file's); leave: called for every line that is no pair.
    """
    name = name or slug(path.stem) or "preference"
    for block in line_blocks(path, span):
        table = _read(block, leave)
        if table.num_rows:
            yield _arranged(table, name)


def _read(block: Block, leave: Leave) -> pa.Table:
    """Rows of _RAW. A block that arrow refuses is cut in two, until the odd line stands almost alone."""
    table = _columns(block)
    if table is not None:
        odd = _odd(table)
        if not odd.any():
            return table.drop_columns(["odd"])
        lines = dict(block.lines())
        numbers = [int(n) for n in table["line"].filter(from_numpy(odd)).to_pylist()]
        slow = _plain([(n, lines[n]) for n in numbers], leave, block.data.endswith(b"\n"), numbers[-1])
        both = pa.concat_tables([table.drop_columns(["odd"]).filter(from_numpy(~odd)), slow])
        return both.sort_by("line")
    halves = block.halves() if block.data.count(b"\n", 0, -1) >= _FEW else None
    if halves is None:
        lines_ = block.lines()
        last = lines_[-1][0] if lines_ else 0
        return _plain(lines_, leave, block.data.endswith(b"\n"), last)
    return pa.concat_tables([_read(half, leave) for half in halves])


def _columns(block: Block) -> pa.Table | None:
    """The block by arrow, with a column "odd" of rows to look at; None when it has to be read line by line."""
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
    have = {field: table[field] for field in schema.names}
    nothing = pa.nulls(lines, pa.string())
    odd = from_numpy(np.zeros(lines, dtype=bool))
    if "video" in have:
        odd = pc.or_(odd, _given(have["video"]))
    question = pc.coalesce(have.get("question", nothing), have.get("prompt", nothing))
    if "chosen" in have:
        chosen, rejected = have["chosen"], have["rejected"]
    else:
        label = have["label"].cast(pa.string())
        first = pc.equal(label, "1")
        chosen, rejected = (
            pc.if_else(first, have[one], have[two])
            for one, two in (("response_1", "response_2"), ("response_2", "response_1"))
        )
        odd = pc.or_(odd, pc.invert(pc.fill_null(pc.or_(first, pc.equal(label, "2")), False)))
    id_ = have["id"].cast(pa.string()) if "id" in have else nothing
    pictures, odd_pictures = _pictures(have, lines)
    odd = pc.or_(odd, odd_pictures)
    arrays = [
        pc.if_else(_given(id_), id_, line.cast(pa.string())),
        have.get("source", nothing), question, chosen, rejected, pictures, line,
    ]  # fmt: skip
    return pa.Table.from_arrays([*arrays, odd], [*_RAW.names, "odd"])


def _layout(data: bytes) -> pa.Schema | None:
    """The columns to ask arrow for, from the first line; None when it is not in good order."""
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
    return pa.schema(fields)  # a row of the other layout shows by its null texts


def _pictures(have: dict[str, Any], lines: int) -> tuple[pa.Array, Any]:
    """(lists of paths, rows to look at): `images` where it names any, else `image`."""
    found = {name: one_array(have[name]) for name in ("images", "image")}
    odd: np.ndarray = np.zeros(lines, dtype=bool)
    for name, column in found.items():
        if pa.types.is_list(column.type):
            texts = column.flatten()
            strange = pc.or_(pc.invert(_given(texts)), _no_path(texts))
            odd[np.unique(to_numpy(pc.list_parent_indices(column).filter(strange)))] = True
        else:
            given = _given(column)
            odd |= to_numpy(_no_path(column))
            column = in_lists(to_numpy(given), column.filter(given))
        found[name] = pc.coalesce(column, pa.scalar([], pa.list_(pa.string())))
    some, one = (pc.greater(pc.list_value_length(found[name]), 0) for name in ("images", "image"))
    return pc.if_else(some, found["images"], found["image"]), pc.or_(from_numpy(odd), pc.and_(some, one))


def _no_path(texts: Any) -> Any:
    return pc.fill_null(pc.match_substring_regex(texts.cast(pa.string()), NO_PATH), False)


def _given(texts: Any) -> Any:
    return pc.fill_null(pc.not_equal(texts.cast(pa.string()), ""), False)


def _odd(table: pa.Table) -> np.ndarray:
    """Rows whose texts are missing, empty or equal, as Python's `strip` sees them; and those marked before."""
    odd = table["odd"]
    trimmed = [pc.utf8_trim(table[name], characters=SPACE) for name in ("question", "chosen", "rejected")]
    for text in trimmed:
        odd = pc.or_(odd, pc.invert(_given(text)))
    odd = pc.or_(odd, pc.fill_null(pc.equal(trimmed[1], trimmed[2]), True))
    return to_numpy(odd)


def _plain(lines: list[tuple[int, bytes]], leave: Leave, whole: bool, last: int) -> pa.Table:
    """Rows of _RAW, one by one; whole: the line of number `last` has its end."""
    rows = []
    for number, line in lines:
        row = _row(number, line, whole or number != last)
        if isinstance(row, Left):
            leave(number, row)
        else:
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=_RAW)


def _row(number: int, line: bytes, whole: bool) -> dict[str, Any] | Left:
    try:
        row = loads(line)
    except orjson.JSONDecodeError as error:
        return Left("not_json" if whole else "cut_off", str(error))
    if not isinstance(row, dict):
        return Left("not_an_object", type(row).__name__)
    try:
        found = preference_jsonl.read(row)
    except NoPicture as error:
        return Left("bad_picture", str(error), id=row.get("id"))
    if isinstance(found, Left):
        return found
    texts = {"question": found.question, "chosen": found.chosen, "rejected": found.rejected}
    for name, text in texts.items():
        kind = "question" if name == "question" else "response"
        if text is not None and not isinstance(text, str):
            return Left("not_text", f"{kind} is {type(text).__name__}", id=found.id)
        if not text or not text.strip():
            return Left(f"empty_{kind}", id=found.id)
    if found.chosen.strip() == found.rejected.strip():
        return Left("same_responses", bad=False, id=found.id)
    try:
        id_ = id_text(found.id) if given(found.id) else str(number)
    except BadId as error:
        return Left("bad_id", str(error), id=found.id)
    if any(isinstance(picture, bytes) for picture in found.pictures):
        return Left("bad_picture", "its bytes stand in the row; ingest the file first, which takes them", id=found.id)
    paths = [picture if isinstance(picture, str) else "" for picture in found.pictures]
    return {**texts, "id": id_, "source": found.source, "images": paths, "line": number}


def _arranged(table: pa.Table, name: str) -> pa.Table:
    """chosen, rejected -> response_1, response_2 and the label, by the hash of the id (`label_for`)."""
    sources = one_array(table["source"]).dictionary_encode()
    words = pa.array([slug(source) or name for source in sources.dictionary.to_pylist()], pa.string())
    source = pc.fill_null(words.take(sources.indices), name)
    ids = pc.binary_join_element_wise(source, table["id"], ":")
    label = pa.array(map(label_for, ids.to_pylist()), pa.int8())
    first = pc.equal(label, 1)
    one, two = (
        pc.if_else(first, table[better], table[worse])
        for better, worse in (("chosen", "rejected"), ("rejected", "chosen"))
    )
    arrays = [ids, source, table["question"], one, two, label, table["images"], table["line"]]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
