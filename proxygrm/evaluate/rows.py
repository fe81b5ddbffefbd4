"""A JSONL file that survives a kill: whole rows count, a torn last row is cut off, nothing is done twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from proxygrm.errors import UserError

Row = dict[str, Any]

WRITE_EVERY_S = 1.0
_ERRORS = "backslashreplace"  # half a surrogate pair becomes its JSON escape, and comes back as it was


class RowFile:
    """Appends rows and remembers what an earlier attempt wrote.

    `made_by` says what the rows depend on; it stands in the first line. A file made by something else is
    refused, because half of its rows would come from another model or other settings.
    """

    def __init__(self, path: Path, made_by: Row) -> None:
        self.path = path
        self.made_by = made_by
        self.rows: list[Row] = []
        self.torn_bytes = 0
        self._unwritten: list[Row] = []
        self._written = time.monotonic()

    def __enter__(self) -> RowFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._recover()
        self._file = self.path.open("a", encoding="utf-8", errors=_ERRORS)
        if self._file.tell() == 0:
            self._write([{"made_by": self.made_by}])
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        try:
            self._flush()
        finally:
            self._file.close()

    def append(self, row: Row) -> None:
        """Kept now, on disk within about a second, and in any case when the file is closed."""
        self.rows.append(row)
        self._unwritten.append(row)
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self._flush()

    def _flush(self) -> None:
        rows, self._unwritten = self._unwritten, []
        self._write(rows)
        self._written = time.monotonic()

    def _write(self, rows: Iterable[Row]) -> None:
        try:
            self._file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror}; free space and start again, it resumes"
            ) from error

    def _recover(self) -> None:
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        self.torn_bytes = len(data) - len(whole)
        if self.torn_bytes:
            os.truncate(self.path, len(whole))
        try:
            rows = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UserError(f"{self.path} is damaged ({error}); delete it and start again") from error
        if not rows:
            return
        before = rows[0].get("made_by")
        if before != self.made_by:
            changed = [k for k in self.made_by if (before or {}).get(k) != self.made_by[k]]
            raise UserError(
                f"{self.path} was begun with another {', '.join(changed) or 'layout'}; "
                "delete it to start again, or choose another output folder"
            )
        self.rows = rows[1:]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """The whole file at once: a reader sees the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8", errors=_ERRORS) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; free space and start again") from error
