"""A JSONL file that survives a kill: complete rows count, a truncated last row is removed, nothing is done twice."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files import lock
from proxygrm.core.files.whole_file import may_write, whole_file

Row = dict[str, Any]

WRITE_EVERY_S = 1.0
_ERRORS = "backslashreplace"  # a lone surrogate becomes its JSON escape, and is read back unchanged


class RowFile:
    """Appends rows and remembers what an earlier attempt wrote.

    `made_by` is what the rows depend on; it is the first line. A file with another `made_by` is refused, because half
    of its rows would come from another model or other settings; so is one that another process is writing. A file
    without rows (its judge never answered) is started again.
    """

    def __init__(self, path: Path, made_by: Row) -> None:
        self.path = path
        self.made_by = made_by
        self.rows: list[Row] = []
        self.truncated_bytes = 0
        self._unwritten: list[Row] = []
        self._written = time.monotonic()
        self._resources = ExitStack()

    def __enter__(self) -> RowFile:
        with ExitStack() as resources:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = resources.enter_context(self.path.open("a", encoding="utf-8", errors=_ERRORS))
            except OSError as error:
                raise UserError(
                    f"cannot write to {self.path.parent}: {error.strerror}; choose another folder",
                    code="file.cannot-write",
                    path=self.path.parent,
                    reason=error.strerror,
                ) from error
            busy = f"another process is writing {self.path}"
            resources.enter_context(
                lock.held(self.path.with_name(f".{self.path.name}.lock"), busy, "let it finish, or stop it")
            )
            self._recover()
            if self.path.stat().st_size == 0:
                self._write([{"made_by": self.made_by}])
            self._resources = resources.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        with self._resources:
            self._flush()

    def append(self, row: Row) -> None:
        """Written within about a second, and in any case when the file is closed."""
        self.rows.append(row)
        self._unwritten.append(row)
        if time.monotonic() - self._written > WRITE_EVERY_S:
            self._flush()

    def _flush(self) -> None:
        rows, self._unwritten = self._unwritten, []
        self._write(rows)
        self._written = time.monotonic()

    def _write(self, rows: Iterable[Row]) -> None:
        may_write(self.path)
        try:
            self._file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror}; free space and start again, it resumes",
                code="file.cannot-write",
                path=self.path,
                reason=error.strerror,
            ) from error

    def _recover(self) -> None:
        self.rows, self.truncated_bytes = _complete_rows(self.path, self.made_by)
        if self.truncated_bytes:
            os.truncate(self.path, self.path.stat().st_size - self.truncated_bytes)


def read_rows(path: Path, made_by: Row) -> list[Row]:
    """The complete rows of a `RowFile` that may be growing; writes nothing. UserError as there."""
    return _complete_rows(path, made_by)[0]


def _complete_rows(path: Path, made_by: Row) -> tuple[list[Row], int]:
    """(rows, bytes to remove): what follows the last complete row, or all of a file that has another `made_by` and no
    rows."""
    data = path.read_bytes()
    complete = data[: data.rfind(b"\n") + 1]
    try:
        rows = [json.loads(line) for line in complete.splitlines()]
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); delete it and start again", code="file.damaged", path=path, reason=str(error)
        ) from error
    if len(rows) == 1 and rows[0].get("made_by") not in (None, made_by):
        return [], len(data)
    if rows and rows[0].get("made_by") != made_by:
        before = rows[0].get("made_by") or {}
        changed = [name for name in made_by if before.get(name) != made_by[name]]
        raise UserError(
            f"{path} was started with another {', '.join(changed) or 'layout'}; "
            "delete it to start again, or choose another output folder",
            code="file.made-by-other",
            path=path,
            changed=changed,
        )
    return rows[1:], len(data) - len(complete)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file atomically: a reader sees the old rows or the new ones."""
    try:
        with whole_file(path) as scratch, scratch.open("w", encoding="utf-8", errors=_ERRORS) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; free space and start again",
            code="file.cannot-write",
            path=path,
            reason=error.strerror,
        ) from error
