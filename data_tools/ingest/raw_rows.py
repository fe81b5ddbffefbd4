"""Reads raw rows of released files, one span at a time: parquet, JSON lines, or one JSON array.

Shards are spans of *units*: rows of parquet, bytes of JSON. A shard takes the rows that start within its units, so
every row belongs to exactly one shard. Row numbers are those in the file (from 1: rows of parquet, lines of JSON lines,
elements of an array).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.ingest.json_array import array_elements
from data_tools.sources.base import Excluded
from proxygrm.core.errors import UserError, unreadable_reason
from proxygrm.core.files.saved_dataset import refuse_saved_dataset
from proxygrm.core.files.user_text import check_encoding
from proxygrm.core.ids import loads

SUFFIXES = ((".parquet",), (".jsonl", ".ndjson"), (".json",))  # of a folder, only the first kind found is read
ARCHIVE = re.compile(r"\.(?:zip|z[0-9]{2}|7z|rar|tar|tgz|tar\.gz)(?:[._][a-z]{1,3}|[._][0-9]{1,3})?$", re.I)
_BATCH = 64  # parquet rows in memory, images included
_CHUNK = 1 << 20


@dataclass(frozen=True)
class RawFile:
    path: Path
    name: str  # for reports: relative to the input path
    kind: str  # "parquet", "lines" or "array"
    units: int
    more: tuple[tuple[str, Any], ...] = ()  # fields that each of its rows has in addition


def list_files(path: Path, expected: str, exclude: Path | None = None, pattern: str = "") -> list[tuple[Path, str]]:
    """(file, name) of a file, or of all files of a folder in order of their names. Raises UserError if there is none.

    expected: describes the expected input, for errors. exclude: a folder to skip (the output may be inside the input).
    pattern: of a folder, only files whose name fits it, or one of several separated by "|".
    """
    if path.is_file():
        refuse_saved_dataset(path, expected)
        if path.suffix.lower() not in {suffix for kind in SUFFIXES for suffix in kind}:
            if ARCHIVE.search(path.name):
                raise not_unpacked(f"{path} is an archive or a part of one", path, [path.name], expected)
            raise UserError(
                f"{path} is neither .parquet nor .jsonl nor .json; give {expected}", code="file.bad-suffix", path=path
            )
        return [(path, path.name)]
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give {expected}", code="file.missing", path=path)
    entries = sorted(path.rglob("*"))
    all_suffixes = tuple(suffix for kind in SUFFIXES for suffix in kind)
    if broken := [link for link in entries if link.suffix.lower() in all_suffixes and not link.exists()]:
        raise UserError(
            f"{broken[0]} is a link to a missing file; download the release again",
            code="file.broken-link", path=broken[0],
        )  # fmt: skip
    files = [file for file in entries if file.is_file()]
    refuse_saved_dataset(path, expected, files)
    if pattern:
        files = [file for file in files if any(fnmatch(file.name, each) for each in pattern.split("|"))]
    if exclude is not None:
        files = [file for file in files if not file.resolve().is_relative_to(exclude.resolve())]
    for suffixes in SUFFIXES:
        of_kind = [file for file in files if file.suffix.lower() in suffixes]
        if of_kind:
            return [(file, file.relative_to(path).as_posix()) for file in of_kind]
    if packed := [entry.name for entry in entries if ARCHIVE.search(entry.name)]:
        raise not_unpacked(f"{path} has no parquet or JSON file, but {packed[0]}", path, packed, expected)
    which = f" named {pattern}" if pattern else ""
    raise UserError(
        f"{path} has neither a parquet nor a JSON file{which}; give {expected}", code="data.no-files", path=path
    )


def not_unpacked(what: str, path: Path, archives: list[str], expected: str) -> UserError:
    """The error for a release whose archives are not unpacked."""
    return UserError(
        f"{what}: unpack it first (the parts of a split archive are joined in the order of their names: cat NAME.zip_* "
        f"> NAME.zip); give {expected}",
        code="data.packed", path=path, archives=archives,
    )  # fmt: skip


def scan_files(
    path: Path,
    expected: str,
    columns: Sequence[Sequence[str]],
    limit: int | None = None,
    exclude: Path | None = None,
    pattern: str = "",
) -> list[RawFile]:
    """The files to read, with their units; limit: number of rows to read. Raises UserError for a damaged file."""
    files, remaining = [], limit
    for file, name in list_files(path, expected, exclude, pattern):
        if remaining == 0:
            break
        kind = _kind(file)
        if kind == "parquet":
            rows = _open_with_layout(file, columns, expected).metadata.num_rows
            units = rows if remaining is None else min(rows, remaining)
            remaining = None if remaining is None else remaining - units
        elif remaining is None:
            units = file.stat().st_size
        else:
            starts = _starts(file, kind, remaining + 1)
            units = starts[remaining] if len(starts) > remaining else file.stat().st_size
            remaining -= min(remaining, len(starts))
        files.append(RawFile(file, name, kind, units))
    return files


def read_span(
    files: Sequence[RawFile], span: range, columns: Sequence[Sequence[str]], optional: Sequence[str], expected: str
) -> Iterator[tuple[int, int, dict[str, Any] | Excluded]]:
    """(index of the file, row number, row) of every row that starts within `span` of the units of all files.

    A row that cannot be read is an `Excluded`; a file that cannot be read further raises UserError.
    """
    before = 0
    for index, file in enumerate(files):
        first, last = max(span.start - before, 0), min(span.stop - before, file.units)
        before += file.units
        if first >= last:
            continue
        if file.kind == "parquet":
            rows = _parquet_rows(file.path, range(first, last), columns, optional, expected)
        elif file.kind == "lines":
            rows = _line_rows(file.path, range(first, last))
        else:
            rows = _array_rows(file.path, range(first, last))
        more = dict(file.more)
        for number, row in rows:
            yield index, number, row | more if more and isinstance(row, dict) else row


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
    """Offsets at which the first `most` rows start, for `limit`."""
    if kind == "lines":
        return [at for _, at, _, _ in islice(_lines(file, 0, None), most)]
    return [at for _, at, _ in islice(array_elements(file), most)]


# --- parquet


def open_parquet_file(file: Path) -> Any:
    """A `pyarrow.parquet.ParquetFile`. Raises UserError if the file cannot be read, or is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, "", error, f"it is not a complete parquet file ({error}); download it again") from error


def _unreadable(file: Path, where: str, error: BaseException, damage: str) -> UserError:
    """The error of the system if it is one; otherwise the file is damaged."""
    reason = unreadable_reason(error)
    code = "file.unreadable" if reason else "file.damaged"
    return UserError(f"{file} cannot be read{where}: {reason or damage}", code=code, path=file)


def _open_with_layout(file: Path, columns: Sequence[Sequence[str]], expected: str) -> Any:
    source = open_parquet_file(file)
    missing = [[name for name in layout if name not in source.schema_arrow.names] for layout in columns]
    if all(missing):
        fewest = min(missing, key=len)
        raise UserError(
            f"{file} does not have the expected layout: it lacks {', '.join(fewest)}; give {expected}",
            code="data.missing-columns", path=file, missing=list(fewest),
        )  # fmt: skip
    return source


def _parquet_rows(
    file: Path, span: range, columns: Sequence[Sequence[str]], optional: Sequence[str], expected: str
) -> Iterator[tuple[int, dict[str, Any] | Excluded]]:
    import pyarrow as pa

    source = _open_with_layout(file, columns, expected)
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
        raise _unreadable(file, f" after row {at}", error, f"it is damaged ({error}); download it again") from error


def _python_rows(batch: Any, number: int) -> Iterator[tuple[int, dict[str, Any] | Excluded]]:
    try:
        yield from enumerate(batch.to_pylist(), number)
    except UnicodeDecodeError:  # read row by row to find the bad one
        for i in range(batch.num_rows):
            try:
                yield number + i, batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield number + i, Excluded("not_unicode", str(error))


# --- JSON lines


def _lines(file: Path, start: int, stop: int | None) -> Iterator[tuple[int, int, bytes, bool]]:
    """(line number, offset, line, whether it is complete) of the non-blank lines that start in [start, stop)."""
    with file.open("rb") as opened:
        number = 1
        if start:
            number += _count_newlines(opened, start - 1)
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


def _count_newlines(opened: Any, size: int) -> int:
    count = 0
    while size > 0:
        chunk = opened.read(min(size, _CHUNK))
        if not chunk:
            break
        count += chunk.count(b"\n")
        size -= len(chunk)
    return count


def _line_rows(file: Path, span: range) -> Iterator[tuple[int, dict[str, Any] | Excluded]]:
    import orjson

    for number, at, line, complete in _lines(file, span.start, span.stop):
        text = line.removeprefix(b"\xef\xbb\xbf") if at == 0 else line
        try:
            row = loads(text)
        except orjson.JSONDecodeError as error:
            yield number, Excluded("not_json" if complete else "cut_off", str(error))
            continue
        yield number, row if isinstance(row, dict) else Excluded("not_an_object", type(row).__name__)


# --- one JSON array


def _array_rows(file: Path, span: range) -> Iterator[tuple[int, dict[str, Any] | Excluded]]:
    for number, at, row in array_elements(file):
        if at >= span.stop:
            return
        if at >= span.start:
            yield number, row if isinstance(row, dict) else Excluded("not_an_object", type(row).__name__)
