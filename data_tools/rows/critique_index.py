"""Where each pair's critique stands, without keeping the texts: a teacher writes gigabytes for 200k pairs."""

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
from proxygrm.teacher.critiques import Written, read_line

Pool = Literal["right", "wrong"]


class Found(NamedTuple):
    """The first critique of a pair, read again: the contract of today counts, not of the day of distilling."""

    file: int
    offset: int  # of its line, in bytes
    verdict: int | None
    reason: str | None  # why it is unusable, a value of `Problem`
    remarks: tuple[str, ...]  # values of `Problem` about a usable one

    def pool(self, label: int) -> Pool | None:
        """Whether the teacher judged a pair with this label right; None: see `fault`."""
        return None if self.fault(label) else "right" if self.verdict == label else "wrong"

    def fault(self, label: int) -> str | None:
        """Why the pair is of no use. A right critique whose rubric names the winner would teach the leak; a wrong
        one is kept, because RL uses only the pair."""
        if self.reason is None and self.verdict == label and Problem.NAMES_WINNER.value in self.remarks:
            return Problem.NAMES_WINNER.value
        return self.reason


@dataclass
class CritiqueIndex:
    files: list[Path]
    found: dict[str, Found] = field(default_factory=dict)  # pair id -> its critique
    rows: int = 0
    repeated: int = 0
    teachers: Counter[str] = field(default_factory=Counter)

    def reader(self) -> CritiqueReader:
        return CritiqueReader(self)


def index_critiques(files: Sequence[Path], wanted: Collection[str] | None = None) -> CritiqueIndex:
    """Read the files in order of name; of several critiques of a pair the first counts.

    wanted: look only at the critiques of these pairs (all rows are counted).
    Raises UserError with the line number for anything that is not a whole row, and for files without any.
    """
    index = CritiqueIndex(sorted(files))
    for number, path in enumerate(index.files):
        try:
            with path.open("rb") as lines:
                at = 0
                for line_number, line in enumerate(lines, 1):
                    if line_number == 1:
                        check_first_line(line, path)
                    if line.strip():
                        _take(index, number, at, read_line(line, path, line_number), wanted)
                    at += len(line)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); distill the shard first") from error
    if not index.rows:
        raise UserError(f"no critiques in {', '.join(map(str, files)) or 'no file'}; distill first")
    return index


def _take(index: CritiqueIndex, file: int, offset: int, row: Written, wanted: Collection[str] | None) -> None:
    index.rows += 1
    index.teachers[row.model] += 1
    if wanted is not None and row.id not in wanted:
        return
    if row.id in index.found:
        index.repeated += 1
        return
    critique = parse(row.critique)
    remarks = tuple(problem.value for problem in critique.problems) if critique.reason is None else ()
    index.found[row.id] = Found(file, offset, critique.verdict, critique.reason, remarks)


class CritiqueReader:
    """Texts by pair id, from the files; a context manager."""

    def __init__(self, index: CritiqueIndex) -> None:
        self._index, self._open = index, dict[int, IO[bytes]]()

    def __enter__(self) -> CritiqueReader:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def text(self, pair_id: str) -> str:
        found = self._index.found[pair_id]
        if found.file not in self._open:
            self._open[found.file] = self._index.files[found.file].open("rb")
        file = self._open[found.file]
        file.seek(found.offset)
        text: str = json.loads(file.readline())["critique"]
        return text
