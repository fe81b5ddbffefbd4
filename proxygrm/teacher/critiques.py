"""Critique files: JSONL, one row per pair, or per try at a pair: {id, critique, verdict, reason, model}.

A row needs only id and critique, so that users can bring their own. The recorded verdict and reason are for people who
read the file: code gets them from the critique itself, by the present contract. Where it is not the default, a row also
says its `contract`, which `attempt` it is, whether the responses were `swapped`, and the `seed` that was sent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.files.whole_file import may_write
from proxygrm.core.labels import Label
from proxygrm.critique.contracts import CONTRACTS, KINDS, PROXY_GRM
from proxygrm.serving.chat.answer import NO_TEXT

ALWAYS = ("id", "critique", "verdict", "reason", "model")
"""The fields that every written row has."""
UNNAMED = "unnamed"
"""The model of rows that do not name one."""


@dataclass(frozen=True)
class CritiqueRow:
    id: str
    """Of the pair."""
    critique: str
    """Raw text."""
    verdict: Label | None
    """In the order in which the teacher saw the responses."""
    reason: str | None
    """Why it is unusable (a word of its contract), None when it is well-formed."""
    model: str
    contract: str = PROXY_GRM
    """What the teacher was asked for, one of `contracts.CONTRACTS`."""
    attempt: int = 1
    """Which try at the pair it is."""
    swapped: bool = False
    """Whether the teacher saw the pair's responses in the other order."""
    seed: int | None = None
    """Sent to the teacher; None for none."""

    @property
    def choice(self) -> Label | None:
        """The verdict in the pair's own order."""
        return in_pair_order(self.verdict, self.swapped)

    def right(self, label: Label) -> bool:
        """Whether it is well-formed and decides for the better response. label: of the pair."""
        return self.reason is None and self.choice == label


def in_pair_order(verdict: Label | None, swapped: bool) -> Label | None:
    if verdict is None or not swapped:
        return verdict
    return 2 if verdict == 1 else 1


def critique_row(
    pair_id: str,
    text: str,
    model: str,
    cause: str | None = None,
    contract: str = PROXY_GRM,
    attempt: int = 1,
    swapped: bool = False,
    seed: int | None = None,
) -> CritiqueRow:
    """cause: why there is no text (`chat.answer.NO_TEXT`)."""
    reading = KINDS[contract].read(text)
    reason = cause if cause in NO_TEXT and not text.strip() else reading.reason
    return CritiqueRow(pair_id, text, reading.verdict, reason, model, contract, attempt, swapped, seed)


class RowFields(NamedTuple):
    """The fields of a row that are read: the others follow from the critique. As the arguments of `critique_row`."""

    id: str
    critique: str
    model: str
    cause: str | None = None
    """Recorded for a critique without text."""
    contract: str = PROXY_GRM
    attempt: int = 1
    swapped: bool = False
    seed: int | None = None


def read_line(line: bytes, path: Path, number: int, contract: str = PROXY_GRM) -> RowFields:
    """contract: of a row that does not name one. UserError, with the line number, for anything that is not a complete
    row."""
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
        model = UNNAMED if model is None else model
        attempt, swapped = row.get("attempt", 1), row.get("swapped", False)
        found = RowFields(
            row["id"], row["critique"], model, cause, row.get("contract", contract), attempt, swapped, row.get("seed")
        )
        if not all(isinstance(text, str) for text in found[:3]):
            raise ValueError("id, critique and model must be strings")
        if found.contract not in CONTRACTS:
            raise ValueError(f"contract must be one of {', '.join(CONTRACTS)}")
        if type(attempt) is not int or attempt < 1 or type(swapped) is not bool:
            raise ValueError("attempt must be a number from 1, swapped true or false")
        found.critique.encode()  # JSON may contain a lone surrogate, the files written from it may not
    except ValueError as error:
        raise UserError(
            f"{path} line {number} is not a critique ({error}); remove that line and rerun",
            code="critique.bad-row",
            path=path,
            row=number,
            reason=str(error),
        ) from error
    return found


def read_critiques(path: Path) -> Iterator[CritiqueRow]:
    """The rows of a file. Raises UserError as `read_line` does."""
    if not path.exists():
        raise UserError(f"{path} does not exist; distill the shard first", code="file.missing", path=path)
    for number, line in numbered_lines(path):
        yield critique_row(*read_line(line, path, number))


def resume(path: Path, known_ids: Collection[str], model: str, contract: str = PROXY_GRM) -> list[CritiqueRow]:
    """Rows already in the file, after removing an incomplete last line that a killed writer left.

    Raises UserError when the file belongs to other pairs, another number of shards, another model or another contract.
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
    by_other_contract = next((row for row in rows if row.contract != contract), None)
    if by_other_contract:
        raise UserError(
            f"{path} holds answers by contract {by_other_contract.contract!r}, not {contract!r}; use another folder, "
            "or remove the file",
            code="critique.other-contract",
            path=path,
            contract=by_other_contract.contract,
        )
    return rows


def append(path: Path, rows: Iterable[CritiqueRow]) -> None:
    """Add complete lines and sync them to the disk."""
    data = "".join(json.dumps(_written(row)) + "\n" for row in rows)
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


def _written(row: CritiqueRow) -> dict[str, Any]:
    """Its fields, without those that say what is so anyway."""
    unsaid = {each.name: each.default for each in fields(row)}
    return {name: value for name, value in asdict(row).items() if name in ALWAYS or value != unsaid[name]}


def _repair_tail(path: Path) -> None:
    """Remove a last line without its newline: it may be half a row, and another request is cheap."""
    data = path.read_bytes()
    complete = data.rfind(b"\n") + 1
    if complete < len(data):
        with path.open("r+b") as file:
            file.truncate(complete)
            os.fsync(file.fileno())
