"""Critique files: JSONL, one row per pair: {id, critique, verdict, reason, model}.

A row needs only id and critique, so that users can bring their own. The recorded verdict and reason are for people who
read the file: code gets them from the critique itself, by the present contract.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.files.whole_file import may_write
from proxygrm.core.labels import Label
from proxygrm.critique.contract import parse
from proxygrm.serving.chat.answer import NO_TEXT, ChatAnswer

UNNAMED = "unnamed"
"""The model of rows that do not name one."""


@dataclass(frozen=True)
class CritiqueRow:
    id: str
    """Of the pair."""
    critique: str
    """Raw text."""
    verdict: Label | None
    reason: str | None
    """Why it is unusable (`critique.Problem` value), None when it is well-formed."""
    model: str


def critique_row(pair_id: str, text: str, model: str, cause: str | None = None) -> CritiqueRow:
    """cause: why there is no text (`chat.answer.NO_TEXT`)."""
    critique = parse(text)
    reason = cause if cause in NO_TEXT and not text.strip() else critique.reason
    return CritiqueRow(pair_id, text, critique.verdict, reason, model)


def answered_row(pair_id: str, answer: ChatAnswer, model: str) -> CritiqueRow:
    return critique_row(pair_id, answer.text, model, answer.cause)


class RowFields(NamedTuple):
    """The fields of a row that are read: the others follow from the critique."""

    id: str
    critique: str
    model: str
    cause: str | None = None
    """Recorded for a critique without text."""


def read_line(line: bytes, path: Path, number: int) -> RowFields:
    """UserError, with the line number, for anything that is not a complete row."""
    try:
        row = value_of(line)
        if not isinstance(row, dict):
            raise ValueError("not a JSON object")
        missing = [name for name in ("id", "critique") if row.get(name) is None]
        if missing:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        model = row.get("model")
        reason = row.get("reason")
        cause = reason if isinstance(reason, str) else None
        fields = RowFields(row["id"], row["critique"], UNNAMED if model is None else model, cause)
        if not all(isinstance(text, str) for text in fields[:3]):
            raise ValueError("id, critique and model must be strings")
        fields.critique.encode()  # JSON may contain a lone surrogate, the files written from it may not
    except ValueError as error:
        raise UserError(
            f"{path} line {number} is not a critique ({error}); remove that line and rerun",
            code="critique.bad-row",
            path=path,
            row=number,
            reason=str(error),
        ) from error
    return fields


def read_critiques(path: Path) -> Iterator[CritiqueRow]:
    """The rows of a file. Raises UserError as `read_line` does."""
    if not path.exists():
        raise UserError(f"{path} does not exist; distill the shard first", code="file.missing", path=path)
    for number, line in numbered_lines(path):
        yield critique_row(*read_line(line, path, number))


def resume(path: Path, known_ids: Collection[str], model: str) -> list[CritiqueRow]:
    """Rows already in the file, after removing an incomplete last line that a killed writer left.

    Raises UserError when the file belongs to other pairs, another number of shards or another model.
    """
    if not path.exists():
        return []
    _repair_tail(path)
    rows = list(read_critiques(path))
    unknown = next((row for row in rows if row.id not in known_ids), None)
    if unknown:
        raise UserError(
            f"{path} holds {unknown.id!r}, which is not in this shard; the pairs or the number of shards changed: "
            "use another folder, or remove the file",
            code="critique.other-shard",
            path=path,
            id=unknown.id,
        )
    by_other_model = next((row for row in rows if row.model != model), None)
    if by_other_model:
        raise UserError(
            f"{path} was written by {by_other_model.model!r}, not {model!r}; use another folder, or remove the file",
            code="critique.other-model",
            path=path,
            model=by_other_model.model,
        )
    return rows


def append(path: Path, rows: Iterable[CritiqueRow]) -> None:
    """Add complete lines and sync them to the disk."""
    data = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    may_write(path)
    try:
        with path.open("ab") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); free disk space or correct the permissions, and run again",
            code="file.cannot-write",
            path=path,
            reason=error.strerror,
        ) from error


def _repair_tail(path: Path) -> None:
    """Remove a last line without its newline: it may be half a row, and another request is cheap."""
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    if complete < len(data):
        with path.open("r+b") as file:
            file.truncate(complete)
            os.fsync(file.fileno())
