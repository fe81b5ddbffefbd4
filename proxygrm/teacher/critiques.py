"""Critique files: JSONL, one row a pair: {id, critique, verdict, reason, model}."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from proxygrm.critique import Label, parse
from proxygrm.errors import UserError
from proxygrm.json_lines import numbered_lines


@dataclass(frozen=True)
class CritiqueRow:
    id: str  # of the pair
    critique: str  # raw text
    verdict: Label | None
    reason: str | None  # why it is unusable (`critique.Problem` value), None when it is to the contract
    model: str


def critique_row(pair_id: str, text: str, model: str) -> CritiqueRow:
    critique = parse(text)
    return CritiqueRow(pair_id, text, critique.verdict, critique.reason, model)


def read_critiques(path: Path) -> list[CritiqueRow]:
    """All rows of a file. Raises UserError with the line number for anything that is not a whole row."""
    rows = []
    if not path.exists():
        raise UserError(f"{path} does not exist; distill the shard first")
    for number, line in numbered_lines(path):
        try:
            rows.append(CritiqueRow(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} line {number} is no critique ({error}); remove that line and rerun") from error
    return rows


def resume(path: Path, known_ids: Collection[str], model: str) -> list[CritiqueRow]:
    """Rows already there, after repairing a last line that a killed writer left torn.

    Raises UserError when the file belongs to other pairs, another number of shards or another model.
    """
    if not path.exists():
        return []
    _repair_tail(path)
    rows = read_critiques(path)
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
