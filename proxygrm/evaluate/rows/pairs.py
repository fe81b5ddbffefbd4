"""The pairs to judge: from a pairs folder, or straight from a benchmark's JSONL."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines
from proxygrm.core.files.saved_dataset import refuse_saved_dataset
from proxygrm.core.ids import given, id_text, loads
from proxygrm.core.images.fields import images_of
from proxygrm.core.images.settle import UnreadableImage, examine, image_of
from proxygrm.core.labels import BadLabel, as_label
from proxygrm.core.pairs import label_for, read_pairs
from proxygrm.evaluate.rows.answers import rows_text
from proxygrm.evaluate.rows.categories import category_of

NOT_GIVEN = "image that is not given"
"""A file name for an image that a row names without giving it: there is no such file."""


@dataclass(frozen=True)
class EvalPair:
    """One pair. `images` are absolute paths, in the order shown; ids may repeat (benchmarks' do). `released`: the
    path of the first one as the file of pairs says it, below the folder of pictures; categories are cut from it."""

    id: str
    question: str
    response_1: str
    response_2: str
    label: int
    images: tuple[Path, ...] = ()
    source: str = ""
    category: str = ""
    group: str = ""
    released: str = ""


def load_pairs(path: Path, images_dir: Path | None = None) -> list[EvalPair]:
    """A pairs folder, or a JSONL of {id, prompt, chosen, rejected, image} as R1-Reward and others use it, or of the
    fields that `data_tools.sources.preference_jsonl` reads.

    Pictures of a JSONL are looked up beside it or in `images_dir`. Raises UserError for a path that is neither,
    and for a broken row (with its line number).
    """
    path = Path(path)
    if (path / "pairs.parquet").is_file():
        return _from_folder(path)
    refuse_saved_dataset(path, "a folder with pairs.parquet or a JSONL file")
    if path.is_file():
        return _from_jsonl(path, images_dir or path.parent)
    raise UserError(f"no pairs at {path}: give a folder with pairs.parquet or a JSONL file")


def _from_folder(folder: Path) -> list[EvalPair]:
    return [
        EvalPair(
            id=pair.id,
            question=pair.question,
            response_1=pair.response_1,
            response_2=pair.response_2,
            label=pair.label,
            images=tuple(pair.image_paths(folder)),
            source=pair.source,
            category=pair.category or category_of(pair.source, pair.id),
            group=pair.group,
        )
        for pair in read_pairs(folder)
    ]


def _from_jsonl(path: Path, images_dir: Path) -> list[EvalPair]:
    pairs = []
    for number, line in numbered_lines(path):
        try:
            pairs.append(_from_row(loads(line), images_dir, path.stem))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path} line {number} is not a pair: {error}; a row has id, prompt (or question), chosen and "
                "rejected (or response_1, response_2 and label), and image or images"
            ) from error
    if not pairs:
        raise UserError(f"{path} holds no pairs")
    return pairs


def _from_row(row: Any, images_dir: Path, file: str) -> EvalPair:
    if not isinstance(row, dict):
        raise TypeError("it is not a JSON object")
    if row.get("video"):
        raise ValueError("it has a video, which cannot be judged; `proxygrm data ingest` reads its frames")
    if not given(row.get("id")):
        raise TypeError(f"id is {row.get('id')!r}, neither text nor number")
    id_, source = id_text(row["id"]), str(row.get("source") or file)
    question = "question" if row.get("question") is not None else "prompt"
    names, label = (question, "response_1", "response_2"), row.get("label")
    if "response_1" not in row and "response_2" not in row:
        label = label_for(id_)
        names = (question, *(("chosen", "rejected") if label == 1 else ("rejected", "chosen")))
    else:
        try:
            label = as_label(label)
        except BadLabel:
            raise ValueError(f"label is {label!r}, not 1 or 2") from None
    images = image_names(row)
    asked, first, second = (_text(row, name) for name in names)
    return EvalPair(
        id=id_,
        question=asked,
        response_1=first,
        response_2=second,
        label=label,
        images=image_files(images, images_dir),
        source=source,
        category=str(row.get("category") or "") or category_of(source, id_),
        group=str(row.get("group") or ""),
        released=_below(images[0], images_dir) if images else "",
    )


def image_names(row: Mapping[str, Any]) -> list[str]:
    """Paths as a row of JSON names its images, "" for one that is named but not given. Raises ValueError."""
    names = images_of(row)
    if any(isinstance(name, bytes) for name in names):
        raise ValueError("an image stands in the row, not as a path; `proxygrm data ingest` takes those")
    return [name if isinstance(name, str) else "" for name in names]


def image_files(names: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Absolute paths; one that is not given, or that no file can have, is a file that is not there."""
    return tuple(_image_file(name, folder) for name in names)


def _image_file(name: str, folder: Path) -> Path:
    path = (folder / (name or NOT_GIVEN)).absolute()
    try:
        path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return (folder / NOT_GIVEN).absolute()
    return path


def _below(name: str, folder: Path) -> str:
    path = Path(name)
    return str(path.relative_to(folder.absolute())) if path.is_relative_to(folder.absolute()) else name


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {'empty' if value == '' else type(value).__name__}, not a text")
    return value


def with_images(pairs: Sequence[EvalPair], missing_images: str, needed: bool = False) -> list[EvalPair]:
    """The pairs to judge: with "drop", those whose images are all there. needed: a pair without an image lacks it."""
    pairs = [replace(p, images=(Path(NOT_GIVEN).absolute(),)) if needed and not p.images else p for p in pairs]
    if missing_images != "drop":
        return pairs
    there: dict[Path, bool] = {path: path.is_file() for pair in pairs for path in pair.images}
    return [pair for pair in pairs if all(there[path] for path in pair.images)]


def check_pairs(pairs: Sequence[EvalPair], missing_images: str) -> int:
    """Number of pictures that are not there. UserError, with the rows (from 1), when they are refused, when a file is
    not an image that can be decoded, or when there is no pair."""
    if not pairs:
        raise UserError("there are no pairs to judge")
    rows: dict[Path, list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs, 1):
        for image in pair.images:
            rows[image].append(number)
    missing = sorted(path for path in rows if not path.is_file())
    if missing and missing_images == "refuse":
        raise UserError(
            f"{len(missing)} of {len(rows)} pictures are missing ({_rows(rows, missing)}), first {missing[0]}; "
            "put them there, or pass --missing-images blank to judge without seeing them, or drop to leave their rows "
            "out"
        )
    there = sorted(rows.keys() - {*missing})
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:  # Pillow decodes without Python's lock
        faults = dict(zip(there, threads.map(_fault_of, there), strict=True))
    if broken := [path for path in there if faults[path]]:
        raise UserError(
            f"{len(broken)} of {len(rows)} files are no pictures ({_rows(rows, broken)}), first {broken[0]} "
            f"({faults[broken[0]]}); mend them, or leave these rows out"
        )
    return len(missing)


def _rows(rows: dict[Path, list[int]], paths: Sequence[Path]) -> str:
    return rows_text(sorted({number for path in paths for number in rows[path]}))


def _fault_of(path: Path) -> str:
    info = path.stat()
    return _fault(path, info.st_size, info.st_mtime_ns)


@lru_cache(maxsize=50_000)  # a run in shards checks its pairs more than once
def _fault(path: Path, size: int, changed: int) -> str:
    """Why the file is not an image; decodes it whole, because one that breaks off shows only then."""
    try:
        examine(image_of(path))
    except UnreadableImage as error:
        return str(error)
    return ""
