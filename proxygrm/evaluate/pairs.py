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
from proxygrm.pairs import label_for, read_pairs


@dataclass(frozen=True)
class EvalPair:
    """One pair. `images` are absolute paths, in the order shown; ids may repeat (benchmarks' do)."""

    id: str
    question: str
    response_1: str
    response_2: str
    label: int
    images: tuple[Path, ...] = ()
    source: str = ""
    category: str = ""
    group: str = ""


def load_pairs(path: Path, images_dir: Path | None = None) -> list[EvalPair]:
    """A pairs folder, or a JSONL of {id, prompt, chosen, rejected, image} as R1-Reward and others use it.

    Pictures of a JSONL are looked up beside it or in `images_dir`. Raises UserError for a path that is neither,
    and for a broken row (with its line number).
    """
    path = Path(path)
    if (path / "pairs.parquet").is_file():
        return _from_folder(path)
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
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                pairs.append(_from_row(row, images_dir, path.stem))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path} line {number} is not a pair: {type(error).__name__} {error}; "
                    "a row has id, prompt, chosen, rejected and image"
                ) from error
    if not pairs:
        raise UserError(f"{path} holds no pairs")
    return pairs


def _from_row(row: Any, images_dir: Path, source: str) -> EvalPair:
    if not isinstance(row, dict):
        raise TypeError("it is not a JSON object")
    if row.get("video"):
        raise ValueError("it has a video, which cannot be judged; `proxygrm data ingest` drops and counts such rows")
    image = row.get("image") or row.get("images") or []
    chosen, rejected, id_ = str(row["chosen"]), str(row["rejected"]), str(row["id"])
    label = label_for(id_)
    return EvalPair(
        id=id_,
        question=str(row["prompt"]),
        response_1=chosen if label == 1 else rejected,
        response_2=rejected if label == 1 else chosen,
        label=label,
        images=tuple((images_dir / name).absolute() for name in ([image] if isinstance(image, str) else image)),
        source=source,
        category=category_of(source, id_),
    )


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
