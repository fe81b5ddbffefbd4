"""Benchmark JSONL in the shape users already have -> a pairs folder.

A line is {id, prompt, chosen, rejected, image, ...} (R1-Reward's shape). Pictures are given by path, relative to
the file or to `images_root`; ids may repeat in a benchmark, so a repeated id gets a number.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from data_tools.preference import PictureStore, UnreadablePicture, arrange, label_counts, write_pairs
from proxygrm.errors import UserError


@dataclass(frozen=True)
class BenchReport:
    read: int
    kept: int
    dropped: dict[str, int]  # reason -> rows
    blank_pictures: int  # rows whose picture is missing and was replaced by a grey one
    repeated_ids: int
    labels: dict[int, int]


def ingest(
    path: Path,
    out: Path,
    missing_images: Literal["refuse", "blank"] = "refuse",
    images_root: Path | None = None,
    source: str | None = None,
    license: str = "unknown",
    limit: int | None = None,
) -> BenchReport:
    """Read the first `limit` rows (all by default) of `path` into the pairs folder `out`; ids are "source:id".

    A missing picture is refused by default, with the number of such rows; "blank" judges those rows without seeing
    anything, and counts them. Which response is shown first is decided by a hash of the id. Video rows are dropped
    and counted. Raises UserError for a line that is no row, with its number. The report also goes to `out/ingest.json`.
    """
    path = Path(path)
    if missing_images not in ("refuse", "blank"):
        raise UserError(f"missing_images is {missing_images!r}; it is refuse or blank")
    rows = list(_lines(path, limit))
    root, source = images_root or path.parent, source or path.stem
    if missing_images == "refuse":
        _refuse_missing(rows, root, path)
    store, dropped, ids = PictureStore(out), Counter[str](), Counter[str]()
    pairs, blanks = [], 0
    for row in rows:
        reason = _unusable(row)
        if reason:
            dropped[reason] += 1
            continue
        names, is_blank = [], False
        try:
            for picture in _pictures(row):
                file = root / picture
                is_blank |= not file.is_file()
                names.append(store.add(file.read_bytes() if file.is_file() else blank_picture()))
        except UnreadablePicture:
            dropped["unreadable_picture"] += 1
            continue
        blanks += is_blank
        pair_id = f"{source}:{row['id']}"
        ids[pair_id] += 1
        if ids[pair_id] > 1:
            pair_id += f"#{ids[pair_id]}"
        pairs.append(arrange(pair_id, source, row["prompt"], row["chosen"], row["rejected"], names, license))
    if not pairs:
        raise UserError(f"{path}: none of {len(rows)} rows could be used ({dict(dropped)})")
    write_pairs(out, pairs)
    repeated = sum(count - 1 for count in ids.values())
    report = BenchReport(len(rows), len(pairs), dict(sorted(dropped.items())), blanks, repeated, label_counts(pairs))
    (out / "ingest.json").write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def blank_picture(side: int = 56) -> bytes:
    """A grey PNG that stands where a picture is missing."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (side, side), (128, 128, 128)).save(out, "PNG")
    return out.getvalue()


def _lines(path: Path, limit: int | None) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a JSONL file with id, prompt, chosen, rejected and image")
    count = 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if limit is not None and count >= limit:
                return
            count += 1
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path} line {number} is not JSON ({error})") from error
            wanted = ("id", "prompt", "chosen", "rejected")
            missing = [key for key in wanted if not isinstance(row, dict) or key not in row]
            if missing:
                raise UserError(f"{path} line {number} lacks {', '.join(missing)}; it needs {', '.join(wanted)}, image")
            yield row


def _pictures(row: dict[str, Any]) -> list[str]:
    image = row.get("image")
    return [str(name) for name in image] if isinstance(image, list) else [str(image)] if image else []


def _unusable(row: dict[str, Any]) -> str | None:
    if row.get("video"):
        return "video"
    if not all(isinstance(row[key], str) and row[key].strip() for key in ("prompt", "chosen", "rejected")):
        return "empty_text"
    return "same_responses" if row["chosen"] == row["rejected"] else None


def _refuse_missing(rows: list[dict[str, Any]], root: Path, path: Path) -> None:
    missing = [name for row in rows if not _unusable(row) for name in _pictures(row) if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} pictures are missing under {root} (first: {missing[0]}); put them there, or "
            "judge without seeing them with --missing-images blank"
        )
