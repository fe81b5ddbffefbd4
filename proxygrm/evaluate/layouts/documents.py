"""Result files as `Document`s: .xlsx, .tsv, .csv, JSON lines, one JSON array, one JSON object."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.files.user_text import check_encoding
from proxygrm.evaluate.layouts.base import Document, shown
from proxygrm.evaluate.layouts.xlsx import read_sheet, write_sheet

DELIMITERS = {".tsv": "\t", ".csv": ","}
TABLES = (".xlsx", *DELIMITERS)
OWN = ("rewards", "verdict", "made_by")
"""Each marks a line that `rows.answers` reads: upstream's, this suite's, and the first line of a row file."""


def open_foreign(path: Path) -> Document | None:
    """None for JSON lines that `rows.answers` reads, and for a file that it is to refuse: missing, empty, not JSON."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if path.suffix.lower() != ".xlsx":
        check_encoding(start[:4], path)
    if path.suffix.lower() in TABLES:
        return _table(path)
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith((b"{", b"[")):
        return None
    line = _first_line(path)
    if isinstance(line, dict) and any(name in line for name in OWN) and "vlreward_score" not in line:
        return None
    try:
        whole = value_of(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        if start.startswith(b"["):
            raise UserError(
                f"{path} is not a complete JSON array ({error}); copy or write it again", code="file.damaged", path=path
            ) from error
        return _json_lines(path) if isinstance(line, dict) else None
    if isinstance(whole, list):
        return Document(path, rows=whole)
    if "vlreward_score" in whole or {"chosen", "rejected"} == whole.keys():  # a JSONL of one line
        return Document(path, rows=[whole])
    return Document(path, fields=whole) if isinstance(whole, dict) else None


def _first_line(path: Path) -> Any:
    with path.open("rb") as file:
        for line in file:
            if text := line.removeprefix(b"\xef\xbb\xbf").strip():
                try:
                    return value_of(text)
                except ValueError:
                    return None
    return None


def _json_lines(path: Path) -> Document:
    """A line that is not JSON is a row of text."""
    rows, numbers = [], []
    for number, line in numbered_lines(path):
        numbers.append(number)
        try:
            rows.append(value_of(line))
        except ValueError:
            rows.append(line.decode(errors="replace"))
    return Document(path, rows=rows, numbers=numbers)


def _table(path: Path) -> Document:
    """Rows without a value are none; one with more values than there are columns stays a list."""
    cells = read_sheet(path) if path.suffix.lower() == ".xlsx" else _delimited(path)
    names = [str(name or "") for name in next(cells, [])]
    twice = sorted(name for name, count in Counter(filter(None, names)).items() if count > 1)
    if twice:
        raise UserError(
            f"{path} has {len(twice)} columns twice: {', '.join(twice)[:160]}; keep one of each",
            code="eval.repeated-columns",
            path=path,
            columns=twice,
        )
    rows: list[Any] = []
    numbers = []
    for number, row in enumerate(cells, 2):
        if any(cell is not None for cell in row):
            numbers.append(number)
            missing = [None] * (len(names) - len(row))
            beyond = any(cell is not None for cell in row[len(names) :])
            rows.append(row if beyond else dict(zip(names, [*row, *missing], strict=False)))
    return Document(path, rows=rows or [dict.fromkeys(names)], numbers=numbers or [2])


def _delimited(path: Path) -> Iterator[list[Any]]:
    csv.field_size_limit(1 << 30)  # a cell may hold an image
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.reader(file, delimiter=DELIMITERS[path.suffix.lower()]):
                yield [cell or None for cell in row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a table: {error}; save it again as UTF-8", code="file.damaged", path=path
        ) from error


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """As one of `TABLES`, by the suffix."""
    suffix, names = path.suffix.lower(), list(rows[0])
    cells = [names, *([row[name] for name in names] for row in rows)]
    if suffix == ".xlsx":
        write_sheet(path, cells)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=DELIMITERS[suffix], lineterminator="\n").writerows(cells)


def unknown_layout(document: Document, known: Sequence[str]) -> UserError:
    return UserError(
        f"{document.path} has none of the known layouts ({', '.join(known)}, or a JSONL of {{id, rewards, reverse}} or "
        f"of judgement rows): its first row is {shown(document.first)}",
        code="eval.unknown-layout",
        path=document.path,
        row=document.first,
    )
