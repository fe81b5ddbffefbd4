"""The part of one shard: rows of the release -> validated solutions, stored images, and counts of all rows.

Beside its rows (`rows.jsonl`) a part has an index, from which the merge finds duplicates and pairs without reading the
rows, and the names that its images had in the release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from data_tools.ingest.image_paths import ImageReader
from data_tools.ingest.part import key_of, text_fault
from data_tools.ingest.raw_rows import RawFile, read_span
from data_tools.rows.preference import ImageStore
from data_tools.solutions.pairing import question_key
from data_tools.solutions.release import EXPECTED, Annotation
from data_tools.solutions.settings import SolutionOptions
from data_tools.sources.base import Excluded
from data_tools.sources.visualprm import RawSolution, read
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.shards import Shard
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.files.whole_file import whole_file, write_json, writing
from proxygrm.core.images.fields import NoImage
from proxygrm.core.unicode_text import is_unicode
from proxygrm.process.solutions import IMAGES, Solution

BAD_VERDICT = "bad_verdict"
COLUMNS = (("conversations", "image"), ("steps_with_score", "image", "question"))
INDEX: np.dtype[Any] = np.dtype(
    [("question", "u8"), ("steps", "u8"), ("row_key", "u8"), ("right", "i1"), ("outcome", "?"),
     ("file", "i4"), ("row", "i8")]
)  # fmt: skip
"""Of each row in `rows.jsonl`. question: of the question and its images; right: 1, -1, or 0 for unknown."""
NAMES: np.dtype[Any] = np.dtype([("name", "u8"), ("subset", "u8")])


@dataclass(frozen=True)
class Job:
    """What to read; picklable, because shards run in separate processes."""

    annotations: tuple[Annotation, ...]
    files: tuple[RawFile, ...]
    """Of the annotations."""
    options: SolutionOptions
    out: Path

    @property
    def units(self) -> int:
        return sum(file.units for file in self.files)


class Images:
    """Stores the images of each subset from its own folder."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._readers: dict[Path, ImageReader] = {}
        self.names: set[tuple[int, int]] = set()
        """Hashes of the paths in the release, and of the subsets."""

    def store_all(self, row: RawSolution, annotation: Annotation) -> tuple[list[str], set[str]] | Excluded:
        """(names in the store, notes) as `ImageReader.store_all`, or why the row cannot be used."""
        names, notes = list[str](), set[str]()
        for image in row.images:
            folder, name = annotation.all_images, image
            if isinstance(image, str):
                try:
                    folder, name = annotation.place(image)
                except LookupError as error:
                    return Excluded("no_image_folder", str(error))
                self.names.add((key_of(image.encode("utf-8", "replace").decode()), key_of(annotation.subset)))
            if folder not in self._readers:
                self._readers[folder] = ImageReader(self._store, folder, "drop")
            stored = self._readers[folder].store_all([name])
            if isinstance(stored, Excluded):
                return stored
            names += stored[0]
            notes |= stored[1]
        return names, notes


def paths(shard: Shard, parts: Path) -> dict[str, Path]:
    """The files of a shard's part; `account` is written last."""
    names = {"rows": "rows.jsonl", "index": "index.npy", "names": "names.npy", "log": "dropped.jsonl",
             "counts": "counts.json", "account": "account.json"}  # fmt: skip
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def done(shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in paths(shard, parts).values())


def run(job: Job, shard: Shard, parts: Path) -> None:
    part, images = paths(shard, parts), Images(ImageStore(parts))  # the merge links those of the kept rows
    index = list[tuple[Any, ...]]()
    counts: dict[str, Counter[str]] = {"read": Counter(), "verdicts": Counter()}
    with Account(part["log"], max_bad=1.0) as account, whole_file(part["rows"]) as scratch, scratch.open("wb") as rows:
        for file, number, raw in _rows(job, shard):
            account.read += 1
            annotation = job.annotations[file]
            counts["read"][annotation.subset] += 1
            result = raw if isinstance(raw, Excluded) else _solution(raw, annotation, number, job, images, account)
            if isinstance(result, Excluded):
                if result.reason == BAD_VERDICT:
                    counts["verdicts"][result.detail] += 1
                where = RowLocation(annotation.name, number)
                account.exclude(where, "", result.reason, bad=result.bad, detail=result.detail[:300])
                continue
            solution, outcome = result
            with writing(part["rows"]):
                rows.write(orjson.dumps(solution.row(), option=orjson.OPT_APPEND_NEWLINE))
            index.append((*_keys(solution), outcome, file, number))
            account.kept += 1
    sync_tree([parts / IMAGES])  # on disk before the account says so
    _save(part["index"], np.array(index, INDEX))
    _save(part["names"], np.array(sorted(images.names), NAMES))
    write_json(part["counts"], counts)
    write_json(part["account"], account.summary())


def _rows(job: Job, shard: Shard) -> Iterator[tuple[int, int, dict[str, Any] | Excluded]]:
    return read_span(job.files, shard.span(job.units), COLUMNS, ("answer",), EXPECTED)


def _solution(
    raw: dict[str, Any], annotation: Annotation, number: int, job: Job, images: Images, account: Account
) -> tuple[Solution, bool] | Excluded:
    """(the solution, whether its one label is of the whole response), or why the row is none."""
    try:
        row = read(raw, job.options, annotation.of_outcomes)
    except NoImage as error:
        return Excluded("bad_image", str(error))
    if isinstance(row, Excluded):
        return row
    if fault := text_fault((row.question, *row.steps)):
        return fault._replace(reason=fault.reason.replace("response", "step"))
    if not row.images:
        return Excluded("no_image", bad=False)
    if row.answer is not None and not is_unicode(row.answer):
        return Excluded("not_unicode", "a lone surrogate in the answer")
    stored = images.store_all(row, annotation)
    if isinstance(stored, Excluded):
        return stored
    names, notes = stored
    account.notes.update([*notes, *row.notes])
    scores = None if row.scores is None else tuple(row.scores)
    name = f"{annotation.subset}:{annotation.name}:{number}"
    paths = tuple(f"{IMAGES}/{name}" for name in names)
    solution = Solution(name, annotation.subset, row.question, paths, tuple(row.steps), tuple(row.labels), scores,
                        row.right, row.answer)  # fmt: skip
    return solution, row.outcome


def _keys(solution: Solution) -> tuple[int, int, int, int]:
    """The first four values of a row of INDEX."""
    steps = key_of(*solution.steps)
    question = question_key(solution)
    whole = key_of(str(question), str(steps), repr((solution.labels, solution.scores, solution.right)))
    right = 0 if solution.right is None else 1 if solution.right else -1
    return question, steps, whole, right


def _save(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as scratch, scratch.open("wb") as file:
        np.save(file, array)
