"""Checks every row of a file against the rules of its kind: counts, and the first rows with each problem."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from data_tools.inspect.contradictions import Contradictions
from data_tools.inspect.images import ImageInspector
from data_tools.inspect.inspected_rows import InspectedRow, rows_of
from data_tools.inspect.kinds import kind_of
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import thinness, too_thin

FIRST = 5  # rows reported for each problem
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
    images: int = 0
    problems: dict[str, Problem] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)  # rows that are unusual but not wrong
    contradictions: list[dict[str, Any]] = field(default_factory=list)  # the first: file, row, id, detail

    @property
    def ok(self) -> bool:
        return not self.problems

    def add(self, reason: str, detail: str, row: InspectedRow | None = None) -> None:
        problem = self.problems.setdefault(reason, Problem())
        problem.count += 1
        if len(problem.rows) < FIRST:
            where = _where(row) if row else {"file": self.path}
            problem.rows.append(where | {"detail": detail[:300]})

    def add_contradiction(self, row: InspectedRow, file: str, number: int) -> None:
        row.remarks.append("contradictory_pair")
        if len(self.contradictions) < FIRST:
            earlier = f"{file} row {number}" if file != row.file else f"row {number}"
            self.contradictions.append(_where(row) | {"detail": f"says the opposite of {earlier}"})

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


def _where(row: InspectedRow) -> dict[str, Any]:
    return {"file": row.file, "row": row.number, "id": row.id}


def check(path: Path, images_root: Path | None = None, decode: bool = True) -> Check:
    """Check every row. decode: read every pixel of the images; otherwise images whose headers need no change are not
    decoded, and truncated ones are not found.

    A file that cannot be read, is truncated or is empty counts as a problem; UserError is raised only for a missing
    path. Memory: a few hashes per row.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist", code="file.missing", path=path)
    result = Check(str(path), "unknown")
    remarks = Counter[str]()
    inspector, id_keys, contradictions = ImageInspector(decode), set[int](), Contradictions()
    try:
        kind, files = kind_of(path, images_root)
        result.kind = kind.title
        for row in rows_of(path, kind, files, images_root):
            result.rows += 1
            result.images += len(row.images)
            for image in row.images:
                info = inspector.inspect(image)
                if isinstance(info, str):
                    row.add_problem("unreadable_image", info)
                    continue
                row.remarks += [f"image_{word}" for word in info.changed]
                if too_thin(info.width, info.height):
                    name = image.name if isinstance(image, Path) else "the image"
                    row.add_problem("stretched_image", thinness(name, info.width, info.height))
            if row.id:
                key = xxhash.xxh3_64_intdigest(row.id.encode("utf-8", "surrogatepass"))
                if key not in id_keys:
                    id_keys.add(key)
                elif kind.name in _REPEAT_IS_A_PROBLEM:
                    row.add_problem("repeated_id")
                else:
                    row.remarks.append("repeated_id")
            if earlier := contradictions.find(row):
                result.add_contradiction(row, *earlier)
            for reason in dict(row.problems):
                result.add(reason, next(detail for name, detail in row.problems if name == reason), row)
            result.bad_rows += bool(row.problems)
            remarks.update(set(row.remarks))
        if not result.rows:
            result.add("no_rows", "")
    except UserError as error:
        result.add("unreadable_file", str(error))
    result.remarks = dict(sorted(remarks.items()))
    return result
