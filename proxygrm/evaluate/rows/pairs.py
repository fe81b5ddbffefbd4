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
from proxygrm.core.ids import has_id, id_text, loads
from proxygrm.core.images.fields import images_of
from proxygrm.core.images.settle import UnreadableImage, examine, image_of
from proxygrm.core.labels import BadLabel, as_label
from proxygrm.core.pairs import label_for, read_pairs
from proxygrm.evaluate.rows.categories import category_of
from proxygrm.evaluate.rows.text import rows_text

NOT_GIVEN = "image that is not given"
"""The file name of an image that a row mentions without a path: no such file exists."""


@dataclass(frozen=True)
class EvalPair:
    """One pair. `images` are absolute paths, in order; ids may repeat (as in benchmarks). `released`: the path of the
    first image as written in the file of pairs, below the folder of images; some categories depend on it."""

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

    Image paths in a JSONL are relative to its folder, or to `images_dir`. UserError for a path that is neither, and for
    an invalid row (with its line number).
    """
    path = Path(path)
    if (path / "pairs.parquet").is_file():
        return _from_folder(path)
    refuse_saved_dataset(path, "a folder with pairs.parquet or a JSONL file")
    if path.is_file():
        return _from_jsonl(path, images_dir or path.parent)
    raise UserError(
        f"no pairs at {path}: pass a folder with pairs.parquet or a JSONL file", code="data.no-pairs", path=path
    )


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
                "rejected (or response_1, response_2 and label), and image or images",
                code="data.bad-pair",
                path=path,
                row=number,
                reason=str(error),
            ) from error
    if not pairs:
        raise UserError(f"{path} has no pairs", code="data.no-pairs", path=path)
    return pairs


def _from_row(row: Any, images_dir: Path, file: str) -> EvalPair:
    if not isinstance(row, dict):
        raise TypeError("it is not a JSON object")
    if row.get("video"):
        raise ValueError("it has a video, which cannot be judged; `proxygrm data ingest` reads its frames")
    if not has_id(row.get("id")):
        raise TypeError(f"id is {row.get('id')!r}, neither text nor number")
    id_, source = id_text(row["id"]), str(row.get("source") or file)
    question_field = "question" if row.get("question") is not None else "prompt"
    names, label = (question_field, "response_1", "response_2"), row.get("label")
    if "response_1" not in row and "response_2" not in row:
        label = label_for(id_)
        names = (question_field, *(("chosen", "rejected") if label == 1 else ("rejected", "chosen")))
    else:
        try:
            label = as_label(label)
        except BadLabel:
            raise ValueError(f"label is {label!r}, not 1 or 2") from None
    images = image_names(row)
    question, response_1, response_2 = (_text(row, name) for name in names)
    return EvalPair(
        id=id_,
        question=question,
        response_1=response_1,
        response_2=response_2,
        label=label,
        images=image_files(images, images_dir),
        source=source,
        category=str(row.get("category") or "") or category_of(source, id_),
        group=str(row.get("group") or ""),
        released=_below(images[0], images_dir) if images else "",
    )


def image_names(row: Mapping[str, Any]) -> list[str]:
    """The image paths of a JSON row, "" for an image without a path. Raises ValueError."""
    names = images_of(row)
    if any(isinstance(name, bytes) for name in names):
        raise ValueError("an image is embedded in the row instead of a path; `proxygrm data ingest` reads those")
    return [name if isinstance(name, str) else "" for name in names]


def image_files(names: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Absolute paths; an empty or impossible one becomes a path that does not exist."""
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


def with_images(pairs: Sequence[EvalPair], missing_images: str, required: bool = False) -> list[EvalPair]:
    """The pairs to judge: with "drop", those whose images all exist. required: a pair that names no image lacks one."""
    pairs = [replace(p, images=(Path(NOT_GIVEN).absolute(),)) if required and not p.images else p for p in pairs]
    if missing_images != "drop":
        return pairs
    exists: dict[Path, bool] = {path: path.is_file() for pair in pairs for path in pair.images}
    return [pair for pair in pairs if all(exists[path] for path in pair.images)]


def check_pairs(pairs: Sequence[EvalPair], missing_images: str) -> int:
    """As `check_images` of the pairs; UserError when there is none."""
    if not pairs:
        raise UserError("there are no pairs to judge", code="data.no-pairs")
    return check_images([pair.images for pair in pairs], missing_images, may_drop=True)


def check_images(
    images: Sequence[Sequence[Path]], missing_images: str, numbers: Sequence[int] = (), may_drop: bool = False
) -> int:
    """Number of missing images. UserError, with the rows, when they are refused or when a file is not an image that can
    be decoded. images: of each row; numbers: of the rows, by default from 1; may_drop: whether the caller takes
    "drop"."""
    rows: dict[Path, list[int]] = defaultdict(list)
    for number, of_row in zip(numbers or range(1, len(images) + 1), images, strict=True):
        for image in of_row:
            rows[image].append(number)
    missing = sorted(path for path in rows if not path.is_file())
    if missing and missing_images == "refuse":
        raise UserError(
            f"{len(missing)} of {len(rows)} images are missing ({rows_text(_rows_of(missing, rows))}), first "
            f"{missing[0]}; put the files in place, or pass --missing-images blank to judge without them"
            + (", or drop to leave their rows out" if may_drop else ""),
            code="image.missing",
            path=missing[0],
            rows=_rows_of(missing, rows),
            count=len(missing),
            total=len(rows),
        )
    existing = sorted(rows.keys() - {*missing})
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as threads:  # Pillow decodes without Python's lock
        faults = dict(zip(existing, threads.map(_fault_of, existing), strict=True))
    if invalid := [path for path in existing if faults[path]]:
        raise UserError(
            f"{len(invalid)} of {len(rows)} files are not images ({rows_text(_rows_of(invalid, rows))}), first "
            f"{invalid[0]} ({faults[invalid[0]]}); fix them, or leave these rows out",
            code="image.unreadable",
            path=invalid[0],
            rows=_rows_of(invalid, rows),
            count=len(invalid),
            total=len(rows),
        )
    return len(missing)


def _rows_of(paths: Sequence[Path], rows: dict[Path, list[int]]) -> list[int]:
    return sorted({number for path in paths for number in rows[path]})


def _fault_of(path: Path) -> str:
    info = path.stat()
    return _fault(path, info.st_size, info.st_mtime_ns)


@lru_cache(maxsize=50_000)  # a run in shards checks its pairs more than once
def _fault(path: Path, size: int, changed: int) -> str:
    """Why the file is not an image; decodes all of it, because truncation shows only then."""
    try:
        examine(image_of(path))
    except UnreadableImage as error:
        return str(error)
    return ""
