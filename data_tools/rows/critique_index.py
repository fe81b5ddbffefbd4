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
from proxygrm.critique.contract import Problem, parse
from proxygrm.teacher.critiques import RowFields, read_line

Pool = Literal["right", "wrong"]


class IndexedCritique(NamedTuple):
    """The first critique of a pair, parsed now: the current contract counts, not that at the time of distillation."""

    file: int
    offset: int  # of its line, in bytes
    verdict: int | None
    reason: str | None  # why it is unusable, a value of `Problem`
    remarks: tuple[str, ...]  # values of `Problem` about a usable one

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


def index_critiques(files: Sequence[Path], wanted: Collection[str] | None = None) -> CritiqueIndex:
    """Read the files in order of their names; of several critiques of a pair the first counts.

    wanted: index only the critiques of these pairs (all rows are counted).
    Raises UserError with the line number for a line that is not a complete row, and for files without rows.
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
                        _add(index, number, offset, read_line(line, path, line_number), wanted)
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
    if row.id in index.critiques:
        index.repeated += 1
        return
    critique = parse(row.critique)
    remarks = tuple(problem.value for problem in critique.problems) if critique.reason is None else ()
    index.critiques[row.id] = IndexedCritique(file, offset, critique.verdict, critique.reason, remarks)


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
