"""JSONL with row numbers, for files in which every row counts."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import check_first_line

CUT_OFF = "cut off"


def numbered_lines(path: Path, checked: bool = True) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line with its end) of every line that is not blank, without a byte order mark.

    checked: raise UserError for a file that is not JSONL, as `check_first_line`. Raises OSError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                if checked:
                    check_first_line(line, path)
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, line


def value_of(line: bytes | str) -> Any:
    """The value on a line, NaN and lone surrogates included. Raises ValueError, also for too deep nesting."""
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def fault_of(line: bytes) -> str:
    """Why `value_of` cannot read it: CUT_OFF (a last line that a writer did not finish), "not UTF-8" or "not JSON"."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line)  # half a character may be the end of it
    except UnicodeDecodeError:
        return "not UTF-8"
    return "not JSON" if line.endswith(b"\n") else CUT_OFF


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(row number, value). Raises UserError (file.bad-row) for a row that is not JSON, by `fault_of`, and OSError."""
    for number, line in numbered_lines(path):
        try:
            row = value_of(line)
        except ValueError as error:
            raise UserError(
                f"{path} row {number} is {fault_of(line)} ({error})", code="file.bad-row", path=path, row=number
            ) from error
        yield number, row


def object_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, object). UserError for a line that is not a JSON object."""
    if not path.is_file():
        exists = path.exists()
        raise UserError(
            f"{path} {'is not a file' if exists else 'does not exist'}; pass a JSONL file",
            code="file.not-a-file" if exists else "file.missing",
            path=path,
        )
    for number, row in json_rows(path):
        if not isinstance(row, dict):
            raise UserError(
                f"{path} row {number} is not a JSON object", code="data.not-an-object", path=path, row=number
            )
        yield number, row
