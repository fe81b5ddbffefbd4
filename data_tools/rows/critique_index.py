"""The file and offset of each pair's critique, without the texts: a teacher writes gigabytes for 200k pairs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import check_first_line
from proxygrm.critique.contract import Problem
from proxygrm.critique.contracts import KINDS, PROXY_GRM
from proxygrm.teacher.critiques import RowFields, in_pair_order, read_line

Pool = Literal["right", "wrong"]


class IndexedCritique(NamedTuple):
    """The critique of a pair that counts, parsed now: the current contract counts, not that at the time of
    distillation."""

    file: int
    offset: int  # of its line, in bytes
    verdict: int | None  # in the pair's own order
    reason: str | None  # why it is unusable, a word of its contract
    remarks: tuple[str, ...]  # about a usable one
    attempt: int = 1  # which try it was
    swapped: bool = False  # the teacher saw the responses in the other order

    def pool(self, label: int) -> Pool | None:
        """Whether the teacher judged a pair with this label right; None if the critique is unusable (see `fault`)."""
        return None if self.fault(label) else "right" if self.verdict == label else "wrong"

    def fault(self, label: int) -> str | None:
        """Why the pair cannot be used. A right critique whose rubric names the winner would teach the leak; a wrong
        one is kept, because RL uses only the pair."""
        if self.reason is None and self.verdict == label and Problem.NAMES_WINNER.value in self.remarks:
            return Problem.NAMES_WINNER.value
        return self.reason


@dataclass
class CritiqueIndex:
    files: list[Path]
    critiques: dict[str, IndexedCritique] = field(default_factory=dict)  # by pair id
    rows: int = 0
    repeated: int = 0
    teachers: Counter[str] = field(default_factory=Counter)

    def reader(self) -> CritiqueReader:
        return CritiqueReader(self)


def index_critiques(
    files: Sequence[Path], wanted: Collection[str] | None = None, contract: str = PROXY_GRM
) -> CritiqueIndex:
    """Read the files in order of their names. Of several tries at a pair the last usable one counts, because a teacher
    that is right is not asked again; of several critiques by the same try the first.

    wanted: index only the critiques of these pairs (all rows are counted). contract: of the critiques.
    Raises UserError with the line number for a line that is not a complete row, and for files without rows; also for
    critiques by another contract.
    """
    index = CritiqueIndex(sorted(files))
    for number, path in enumerate(index.files):
        try:
            with path.open("rb") as lines:
                offset = 0
                for line_number, line in enumerate(lines, 1):
                    if line_number == 1:
                        check_first_line(line, path)
                    if line.strip():
                        row = read_line(line, path, line_number, contract)
                        if row.contract != contract:
                            raise UserError(
                                f"{path} line {line_number} is by contract {row.contract!r}, not {contract!r}; give "
                                "the critiques of a teacher that was asked for that",
                                code="critique.other-contract", path=path, contract=row.contract,
                            )  # fmt: skip
                        _add(index, number, offset, row, wanted)
                    offset += len(line)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}); distill the shard first",
                code="file.unreadable", path=path, reason=error.strerror,
            ) from error  # fmt: skip
    if not index.rows:
        raise UserError(
            f"no critiques in {', '.join(map(str, files)) or 'no file'}; distill first",
            code="critique.none", files=[str(file) for file in files],
        )  # fmt: skip
    return index


def _add(index: CritiqueIndex, file: int, offset: int, row: RowFields, wanted: Collection[str] | None) -> None:
    index.rows += 1
    index.teachers[row.model] += 1
    if wanted is not None and row.id not in wanted:
        return
    earlier = index.critiques.get(row.id)
    if earlier and earlier.attempt == row.attempt:
        index.repeated += 1
        return
    reading = KINDS[row.contract].read(row.critique)
    verdict = in_pair_order(reading.verdict, row.swapped)
    read = IndexedCritique(file, offset, verdict, reading.reason, reading.remarks, row.attempt, row.swapped)
    if earlier is None or (read.reason is None, read.attempt) > (earlier.reason is None, earlier.attempt):
        index.critiques[row.id] = read


class CritiqueReader:
    """Reads critiques by pair id from the files; a context manager."""

    def __init__(self, index: CritiqueIndex) -> None:
        self._index, self._files = index, dict[int, IO[bytes]]()

    def __enter__(self) -> CritiqueReader:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def text(self, pair_id: str) -> str:
        critique = self._index.critiques[pair_id]
        if critique.file not in self._files:
            self._files[critique.file] = self._index.files[critique.file].open("rb")
        file = self._files[critique.file]
        file.seek(critique.offset)
        text: str = json.loads(file.readline())["critique"]
        return text
