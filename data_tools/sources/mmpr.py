"""MMPR, MMPR-v1.1 and MMPR-v1.2 as released (OpenGVLab): the unpacked folder, with meta.json and annotations/*.jsonl.

A row: image (a path, or a list of paths), question, chosen, rejected; no id. meta.json names for each subset its
`annotation` file and the `root` of its images, both perhaps below a folder of the release's name that the archives do
not have. A row is known by its file and line, and its subset is its category. Rows without an image are kept; videos
are dropped, for the release has none. Without meta.json, images are relative to the images root.

About 2 million pairs of v1.2, of which its authors train on some 400,000 (`repeat_time` in meta.json): choose by the
caps of a mixture. The same image and question are in many pairs, so split by image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout, without_image_tags
from data_tools.sources.turns import pair_without_prompt
from proxygrm.core.errors import UserError
from proxygrm.core.images.fields import Named, images_in, marked

_ROOT, _SUBSET = "_root", "_subset"
_ANNOTATIONS = ("", "annotations", "MMPR/annotations", "MMPR-v1.1/annotations", "MMPR-v1.2/annotations")
"""Folders below the release that may hold files of a subset which are not read, since only its first rows are."""


def read(row: dict[str, Any]) -> RawPair | Excluded:
    if row.get("question") is None or "chosen" not in row or "rejected" not in row:
        return unknown_layout(row, "question, chosen and rejected")
    if row.get("video"):
        return Excluded("video", str(row["video"])[:100], bad=False)
    images = marked(row["question"], tuple(_below(row.get(_ROOT, ""), images_in(row.get("image")))))
    question, note = without_image_tags(row["question"], len(images))
    category = str(row.get(_SUBSET, ""))
    pair = RawPair(None, question, row.get("chosen"), row.get("rejected"), images, category=category, note=note)
    return pair_without_prompt(pair)


def _below(root: str, images: Iterable[Named]) -> list[Named]:
    return [str(PurePosixPath(root, image)) if root and isinstance(image, str) else image for image in images]


def subsets(path: Path, root: Path, files: Sequence[str]) -> list[dict[str, str]]:
    """For each file its subset, and where meta.json puts its images. Raises UserError if meta.json cannot be read."""
    meta = _meta(path if path.is_dir() else path.parent)
    by_file = {}
    for name, entry in meta.items():
        if isinstance(entry, dict) and isinstance(entry.get("annotation"), str):
            folder = entry.get("root")
            by_file[PurePosixPath(entry["annotation"]).name] = name, folder if isinstance(folder, str) else ""
    unread = sorted(by_file.keys() - {Path(file).name for file in files}) if path.is_dir() else []
    lost = [name for name in unread if not any((path / folder / name).is_file() for folder in _ANNOTATIONS)]
    if lost:
        raise UserError(
            f"{path} lacks {len(lost)} annotation files that its meta.json names ({', '.join(lost[:3])}); download and "
            "unpack them, take them out of meta.json, or give single files",
            code="data.missing-files", path=path, files=lost,
        )  # fmt: skip
    found = [by_file.get(Path(file).name, (Path(file).stem, "")) for file in files]
    return [{_SUBSET: name, _ROOT: _unpacked(folder, root)} for name, folder in found]


def _meta(folder: Path) -> dict[str, Any]:
    for place in (folder, folder.parent):
        file = place / "meta.json"
        if file.is_file():
            try:
                meta = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise UserError(
                    f"{file} cannot be read ({error}); download it again", code="file.damaged", path=file
                ) from error
            return meta if isinstance(meta, dict) else {}
    return {}


def _unpacked(folder: str, root: Path) -> str:
    """The folder below `root`, which the archives may have without its first component."""
    parts = PurePosixPath(folder.strip("/")).parts
    shorter = str(PurePosixPath(*parts[1:])) if len(parts) > 1 else ""
    if parts and parts[0].startswith("MMPR") and not (root / folder.strip("/")).is_dir():
        return shorter
    return str(PurePosixPath(*parts)) if parts else ""


SOURCE = Source(
    "mmpr",
    columns=("image", "question", "chosen", "rejected"),
    read=read,
    expected="the unpacked folder of MMPR (meta.json, annotations/*.jsonl and the images), or one of its JSONL files",
    license="mit",
    files="*.jsonl",
    several=True,
    of_file=subsets,
)
