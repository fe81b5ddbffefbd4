"""The pairs to judge: from a pairs folder, or straight from a benchmark's JSONL."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.errors import UserError
from proxygrm.evaluate.categories import category_of
from proxygrm.evaluate.score_rows import rows_text
from proxygrm.ids import given, id_text
from proxygrm.json_lines import numbered_lines
from proxygrm.labels import BadLabel, as_label
from proxygrm.pairs import label_for, read_pairs
from proxygrm.saved_dataset import refuse_saved_dataset


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
    fields that `data_tools.preference_jsonl` reads.

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
            pairs.append(_from_row(json.loads(line), images_dir, path.stem))
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
    images = row.get("image") or row.get("images") or []
    images = images if isinstance(images, list) else [images]
    if not all(isinstance(name, str) for name in images):
        raise TypeError("a picture is no path")
    asked, first, second = (_text(row, name) for name in names)
    return EvalPair(
        id=id_,
        question=asked,
        response_1=first,
        response_2=second,
        label=label,
        images=tuple((images_dir / name).absolute() for name in images),
        source=source,
        category=str(row.get("category") or "") or category_of(source, id_),
        group=str(row.get("group") or ""),
        released=_below(images[0], images_dir) if images else "",
    )


def _below(name: str, folder: Path) -> str:
    path = Path(name)
    return str(path.relative_to(folder.absolute())) if path.is_relative_to(folder.absolute()) else name


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {'empty' if value == '' else type(value).__name__}, not a text")
    return value


def check_pairs(pairs: Sequence[EvalPair], missing_images: str) -> int:
    """Number of pictures that are not there. UserError, with the rows (from 1), when they are refused, when a file is
    no picture, or when there is no pair."""
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
            "put them there, or pass --missing-images blank to judge without seeing them"
        )
    if broken := [path for path in rows.keys() - {*missing} if not _is_picture(path)]:
        raise UserError(
            f"{len(broken)} of {len(rows)} files are no pictures ({_rows(rows, broken)}), first {min(broken)}; "
            "mend them, or leave these rows out"
        )
    return len(missing)


def _rows(rows: dict[Path, list[int]], paths: Sequence[Path]) -> str:
    return rows_text(sorted({number for path in paths for number in rows[path]}))


def _is_picture(path: Path) -> bool:
    """By its header: whole pictures would take long, and one that breaks off is refused when it is judged."""
    from PIL import Image

    try:
        with Image.open(path):
            return True
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
