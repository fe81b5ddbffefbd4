"""Raw rows of released files, a span at a time: parquet, JSON lines, or one JSON array.

What is cut in shards is counted in *units*: rows of parquet, bytes of JSON. A shard takes the rows that start within
its units, so every row belongs to exactly one shard, whatever their number. Row numbers are true ones (from 1: rows
of parquet, lines of JSON lines, elements of an array).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.sources.base import Left
from proxygrm.core.errors import UserError, barred
from proxygrm.core.files.saved_dataset import refuse_saved_dataset
from proxygrm.core.files.user_text import check_encoding
from proxygrm.core.ids import loads

SUFFIXES = ((".parquet",), (".jsonl", ".ndjson"), (".json",))  # of a folder, the first kind that is there is read
_BATCH = 64  # parquet rows in memory, pictures included
_CHUNK = 1 << 20
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class RawFile:
    path: Path
    name: str  # as reports name it, relative to what was given
    kind: str  # "parquet", "lines" or "array"
    units: int


def list_files(path: Path, give: str, not_in: Path | None = None) -> list[tuple[Path, str]]:
    """(file, name) of a file, or of all of a folder in order of name. Raises UserError when there is none.

    not_in: a folder that is left out (the result may lie beside its input).
    """
    if path.is_file():
        refuse_saved_dataset(path, give)
        if path.suffix.lower() not in {suffix for kind in SUFFIXES for suffix in kind}:
            raise UserError(f"{path} is neither .parquet nor .jsonl nor .json; give {give}")
        return [(path, path.name)]
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give {give}")
    everything = sorted(path.rglob("*"))
    suffixes_ = tuple(suffix for kind in SUFFIXES for suffix in kind)
    if lost := [link for link in everything if link.suffix.lower() in suffixes_ and not link.exists()]:
        raise UserError(f"{lost[0]} is a link to a file that is not there; download the release again")
    inside = [file for file in everything if file.is_file()]
    refuse_saved_dataset(path, give, inside)
    if not_in is not None:
        inside = [file for file in inside if not file.resolve().is_relative_to(not_in.resolve())]
    for suffixes in SUFFIXES:
        found = [file for file in inside if file.suffix.lower() in suffixes]
        if found:
            return [(file, file.relative_to(path).as_posix()) for file in found]
    raise UserError(f"{path}: no parquet file and no JSON file there; give {give}")


def survey(
    path: Path, give: str, columns: Sequence[Sequence[str]], limit: int | None = None, not_in: Path | None = None
) -> list[RawFile]:
    """The files to read, with their units; `limit`: only the first rows of all. Raises UserError for a bad file."""
    files, left = [], limit
    for file, name in list_files(path, give, not_in):
        if left == 0:
            break
        kind = _kind(file)
        if kind == "parquet":
            rows = _open_parquet(file, columns, give).metadata.num_rows
            units = rows if left is None else min(rows, left)
            left = None if left is None else left - units
        elif left is None:
            units = file.stat().st_size
        else:
            starts = _starts(file, kind, left + 1)
            units = starts[left] if len(starts) > left else file.stat().st_size
            left -= min(left, len(starts))
        files.append(RawFile(file, name, kind, units))
    return files


def read_span(
    files: Sequence[RawFile], span: range, columns: Sequence[Sequence[str]], optional: Sequence[str], give: str
) -> Iterator[tuple[int, int, dict[str, Any] | Left]]:
    """(index of the file, row number, row) of every row that starts within `span` of all files' units put together.

    A row that cannot be read is a `Left`; a file that cannot be read on is a UserError.
    """
    before = 0
    for index, file in enumerate(files):
        first, last = max(span.start - before, 0), min(span.stop - before, file.units)
        before += file.units
        if first >= last:
            continue
        if file.kind == "parquet":
            rows = _parquet_rows(file.path, range(first, last), columns, optional, give)
        elif file.kind == "lines":
            rows = _line_rows(file.path, range(first, last))
        else:
            rows = _array_rows(file.path, range(first, last))
        for number, row in rows:
            yield index, number, row


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return "parquet"
    with file.open("rb") as opened:
        start = opened.read(4096)
    check_encoding(start[:4], file)
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "array" if suffix == ".json" and start.startswith(b"[") else "lines"


def _starts(file: Path, kind: str, most: int) -> list[int]:
    """Where the first `most` rows start, for `limit`."""
    if kind == "lines":
        return [at for _, at, _, _ in islice(_lines(file, 0, None), most)]
    return [at for _, at, _ in islice(_elements(file), most)]


# --- parquet


def _open_parquet(file: Path, columns: Sequence[Sequence[str]], give: str):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        why = barred(error) or f"it is not whole parquet ({error}); fetch it again"
        raise UserError(f"{file} cannot be read: {why}") from error
    missing = [[name for name in layout if name not in source.schema_arrow.names] for layout in columns]
    if all(missing):
        fewest = min(missing, key=len)
        raise UserError(f"{file} is not in the expected layout: it lacks {', '.join(fewest)}; give {give}")
    return source


def _parquet_rows(
    file: Path, span: range, columns: Sequence[Sequence[str]], optional: Sequence[str], give: str
) -> Iterator[tuple[int, dict[str, Any] | Left]]:
    import pyarrow as pa

    source = _open_parquet(file, columns, give)
    names = source.schema_arrow.names
    wanted = [name for layout in columns if set(layout) <= set(names) for name in layout]
    wanted = list(dict.fromkeys([*wanted, *(name for name in optional if name in names)]))
    groups, at, start = [], 0, None
    for group in range(source.num_row_groups):
        rows = source.metadata.row_group(group).num_rows
        if at < span.stop and at + rows > span.start:
            groups.append(group)
            start = at if start is None else start
        at += rows
    at = start or 0
    try:
        for batch in source.iter_batches(batch_size=_BATCH, row_groups=groups, columns=wanted):
            first, last = max(span.start - at, 0), min(span.stop - at, batch.num_rows)
            if first < last:
                yield from _python_rows(batch.slice(first, last - first), at + first + 1)
            at += batch.num_rows
            if at >= span.stop:
                return
    except (pa.ArrowException, OSError) as error:
        why = barred(error) or f"it is damaged ({error}); fetch it again"
        raise UserError(f"{file} cannot be read after row {at}: {why}") from error


def _python_rows(batch: Any, number: int) -> Iterator[tuple[int, dict[str, Any] | Left]]:
    try:
        yield from enumerate(batch.to_pylist(), number)
    except UnicodeDecodeError:  # some row of the batch: find it
        for i in range(batch.num_rows):
            try:
                yield number + i, batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield number + i, Left("not_unicode", str(error))


# --- JSON lines


def _lines(file: Path, start: int, stop: int | None) -> Iterator[tuple[int, int, bytes, bool]]:
    """(line number, offset, line, is whole) of the lines, not blank, that start in [start, stop)."""
    with file.open("rb") as opened:
        number = 1
        if start:
            number += _newlines(opened, start - 1)
            opened.seek(start - 1)
            number += opened.readline().endswith(b"\n")  # the line that holds start - 1 belongs to the shard before
        at = opened.tell()
        while stop is None or at < stop:
            line = opened.readline()
            if not line:
                return
            if line.strip():
                yield number, at, line, line.endswith(b"\n")
            number += 1
            at += len(line)


def _newlines(opened: Any, upto: int) -> int:
    count = 0
    while upto > 0:
        chunk = opened.read(min(upto, _CHUNK))
        if not chunk:
            break
        count += chunk.count(b"\n")
        upto -= len(chunk)
    return count


def _line_rows(file: Path, span: range) -> Iterator[tuple[int, dict[str, Any] | Left]]:
    import orjson

    for number, at, line, whole in _lines(file, span.start, span.stop):
        text = line.removeprefix(b"\xef\xbb\xbf") if at == 0 else line
        try:
            row = loads(text)
        except orjson.JSONDecodeError as error:
            yield number, Left("not_json" if whole else "cut_off", str(error))
            continue
        yield number, row if isinstance(row, dict) else Left("not_an_object", type(row).__name__)


# --- one JSON array


def _array_rows(file: Path, span: range) -> Iterator[tuple[int, dict[str, Any] | Left]]:
    for number, at, row in _elements(file):
        if at >= span.stop:
            return
        if at >= span.start:
            yield number, row if isinstance(row, dict) else Left("not_an_object", type(row).__name__)


def _elements(file: Path) -> Iterator[tuple[int, int, Any]]:
    """(number, start in characters, value) of the elements of an array, read in pieces: one element in memory.

    Raises UserError where the text stops being an array: nothing after that place can be trusted.
    """
    decode = json.JSONDecoder().raw_decode
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        text, before, at, number = opened.read(_CHUNK), 0, 0, 0  # before: characters already thrown away
        at = _skip(text, at) + 1  # the opening bracket
        while True:
            at = _skip(text, at)
            if at < len(text) and text[at] == "]":
                rest = text[at + 1 :] + opened.read(_CHUNK)
                if rest.strip():
                    raise UserError(
                        f"{file} goes on after its array ends ({rest.strip()[:40]!r}); give one array a file"
                    )
                return
            try:
                value, end = decode(text, at)
                # A number, or a value at the very end, may go on in the next piece: the comma or bracket must be seen.
                end = _skip(text, end)
                if end >= len(text):
                    raise ValueError("the file ends inside the array")
            except (ValueError, RecursionError) as error:
                more = opened.read(max(_CHUNK, len(text) - at))
                if not more:
                    raise UserError(
                        f"{file} breaks off or is not JSON in element {number + 1}, "
                        f"character {before + at} ({error}); fetch it again"
                    ) from error
                before, text, at = before + at, text[at:] + more, 0
                continue
            number += 1
            yield number, before + at, value
            if text[end] not in ",]":
                raise UserError(f"{file} is not a JSON array: no comma after element {number}; fetch it again")
            at = end + (text[end] == ",")
            if at > _CHUNK:
                before, text, at = before + at, text[at:], 0


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
