"""Critique files: JSONL, one row a pair: {id, critique, verdict, reason, model}.

A row needs only id and critique, so that people can bring their own. The recorded verdict and reason are for readers
of the file: whoever reads it here gets what the critique itself says, by the contract of today.
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
from proxygrm.serving.chat_answer import NO_TEXT, ChatAnswer

UNNAMED = "unnamed"  # the model of rows that do not say who wrote them


@dataclass(frozen=True)
class CritiqueRow:
    id: str  # of the pair
    critique: str  # raw text
    verdict: Label | None
    reason: str | None  # why it is unusable (`critique.Problem` value), None when it is to the contract
    model: str


def critique_row(pair_id: str, text: str, model: str, cause: str | None = None) -> CritiqueRow:
    """cause: why there is no text (`chat_answer.NO_TEXT`)."""
    critique = parse(text)
    reason = cause if cause in NO_TEXT and not text.strip() else critique.reason
    return CritiqueRow(pair_id, text, critique.verdict, reason, model)


def answered_row(pair_id: str, answer: ChatAnswer, model: str) -> CritiqueRow:
    return critique_row(pair_id, answer.text, model, answer.cause)


class Written(NamedTuple):
    """What a row must say: the rest follows from the critique."""

    id: str
    critique: str
    model: str
    cause: str | None = None  # recorded for a critique without text


def read_line(line: bytes, path: Path, number: int) -> Written:
    """Raises UserError, with the line number, for anything that is not a whole row."""
    try:
        row = value_of(line)
        if not isinstance(row, dict):
            raise ValueError("not a JSON object")
        lacking = [name for name in ("id", "critique") if row.get(name) is None]
        if lacking:
            raise ValueError(f"it has no {' and no '.join(lacking)}")
        model = row.get("model")
        reason = row.get("reason")
        cause = reason if isinstance(reason, str) else None
        written = Written(row["id"], row["critique"], UNNAMED if model is None else model, cause)
        if not all(isinstance(text, str) for text in written[:3]):
            raise ValueError("id, critique and model must be texts")
        written.critique.encode()  # a lone surrogate can stand in JSON, but in none of the files to write
    except ValueError as error:
        raise UserError(f"{path} line {number} is no critique ({error}); remove that line and rerun") from error
    return written


def read_critiques(path: Path) -> Iterator[CritiqueRow]:
    """All rows of a file, one after the other. Raises UserError as `read_line` does."""
    if not path.exists():
        raise UserError(f"{path} does not exist; distill the shard first")
    for number, line in numbered_lines(path):
        yield critique_row(*read_line(line, path, number))


def resume(path: Path, known_ids: Collection[str], model: str) -> list[CritiqueRow]:
    """Rows already there, after repairing a last line that a killed writer left torn.

    Raises UserError when the file belongs to other pairs, another number of shards or another model.
    """
    if not path.exists():
        return []
    _repair_tail(path)
    rows = list(read_critiques(path))
    stranger = next((row for row in rows if row.id not in known_ids), None)
    if stranger:
        raise UserError(
            f"{path} holds {stranger.id!r}, which is not in this shard; the pairs or the number of shards changed: "
            "use another folder, or remove the file"
        )
    other = next((row for row in rows if row.model != model), None)
    if other:
        raise UserError(f"{path} was written by {other.model!r}, not {model!r}; use another folder, or remove the file")
    return rows


def append(path: Path, rows: Iterable[CritiqueRow]) -> None:
    """Add whole lines and sync them to the disk."""
    data = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    may_write(path)
    try:
        with path.open("ab") as file:
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); make room or rights, and run again") from error


def _repair_tail(path: Path) -> None:
    """Cut a last line without its newline: it may be half a row, and asking again costs one request."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
