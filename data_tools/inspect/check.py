"""Every row of a file held against the rules of its kind: counts, and the first rows of each problem."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from data_tools.inspect.contradictions import Contradictions
from data_tools.inspect.kinds import kind_of
from data_tools.inspect.pictures import Opener
from data_tools.inspect.seen import Seen, rows_of
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import thinness, too_thin

FIRST = 5  # rows named for each problem
_REPEAT_IS_A_PROBLEM = ("pairs", "critiques")


@dataclass
class Problem:
    count: int = 0  # rows
    rows: list[dict[str, Any]] = field(default_factory=list)  # the first: file, row, id, detail


@dataclass
class Check:
    path: str
    kind: str
    rows: int = 0
    bad_rows: int = 0
    pictures: int = 0
    problems: dict[str, Problem] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)  # rows that are odd but not wrong
    contradictions: list[dict[str, Any]] = field(default_factory=list)  # the first: file, row, id, detail

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, reason: str, detail: str, row: Seen | None = None) -> None:
        problem = self.problems.setdefault(reason, Problem())
        problem.count += 1
        if len(problem.rows) < FIRST:
            where = _where(row) if row else {"file": self.path}
            problem.rows.append(where | {"detail": detail[:300]})

    def remark_opposite(self, row: Seen, file: str, number: int) -> None:
        row.remarks.append("contradictory_pair")
        if len(self.contradictions) < FIRST:
            earlier = f"{file} row {number}" if file != row.file else f"row {number}"
            self.contradictions.append(_where(row) | {"detail": f"says the opposite of {earlier}"})

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def _where(row: Seen) -> dict[str, Any]:
    return {"file": row.file, "row": row.number, "id": row.id}


def check(path: Path, images_root: Path | None = None, decode: bool = True) -> Check:
    """Look at every row. decode: read every pixel of the pictures; without, those that are plain by their heads are
    not decoded, and what breaks off is not found.

    A file that cannot be read, breaks off or is empty is a problem like others; UserError is for a path that is not
    there. Memory: a few hashes a row.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    found = Check(str(path), "unknown")
    remarks = Counter[str]()
    opener, seen, pairs = Opener(decode), set[int](), Contradictions()
    try:
        kind, files = kind_of(path)
        found.kind = kind.title
        for row in rows_of(path, kind, files, images_root):
            found.rows += 1
            found.pictures += len(row.pictures)
            for picture in row.pictures:
                looked = opener.look(picture)
                if isinstance(looked, str):
                    row.wrong("unreadable_picture", looked)
                    continue
                row.remarks += [f"image_{word}" for word in looked.changed]
                if too_thin(looked.width, looked.height):
                    name = picture.name if isinstance(picture, Path) else "the image"
                    row.wrong("stretched_picture", thinness(name, looked.width, looked.height))
            if row.id:
                key = xxhash.xxh3_64_intdigest(row.id.encode("utf-8", "surrogatepass"))
                if key not in seen:
                    seen.add(key)
                elif kind.name in _REPEAT_IS_A_PROBLEM:
                    row.wrong("repeated_id")
                else:
                    row.remarks.append("repeated_id")
            if opposite := pairs.opposite(row):
                found.remark_opposite(row, *opposite)
            for reason in dict(row.problems):
                found.add(reason, next(detail for name, detail in row.problems if name == reason), row)
            found.bad_rows += bool(row.problems)
            remarks.update(set(row.remarks))
        if not found.rows:
            found.add("no_rows", "")
    except UserError as error:
        found.add("unreadable_file", str(error))
    found.remarks = dict(sorted(remarks.items()))
    return found
