"""Preferences of the user: one JSON object per line.

| field                            | value                                                                       |
|----------------------------------|-----------------------------------------------------------------------------|
| id (optional)                    | text or number; by default the line number                                  |
| question or prompt               | text                                                                        |
| chosen, rejected                 | texts; or response_1, response_2 and label (1 or 2: the better; "tie" drops) |
| image or images (optional)       | a path or a list of paths, below the file's folder or --images-root;        |
|                                  | `image` counts where `images` is empty                                      |
| source, license, category (opt.) | text                                                                        |

Other fields are ignored. `<image>` in a text has no meaning: images come from `images` only.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, slug
from proxygrm.core.images.fields import images_of
from proxygrm.core.labels import BadLabel, as_label

TIES = ("tie", "equal")


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_ = row.get("id")
    if row.get("video"):
        return Excluded("video", "videos are not supported; give their frames as images", id=id_)
    question = row["question"] if row.get("question") is not None else row.get("prompt")
    if "chosen" in row or "rejected" in row:
        chosen, rejected = row.get("chosen"), row.get("rejected")
    elif "response_1" in row or "response_2" in row:
        label = label_of(row.get("label"))
        if isinstance(label, Excluded):
            return label._replace(id=id_)
        chosen, rejected = row.get(f"response_{label}"), row.get(f"response_{3 - label}")
    else:
        return Excluded("missing_field", "neither chosen and rejected nor response_1, response_2 and label", id=id_)
    images = images_of(row)
    source, license, category = (str(row.get(name) or "") for name in ("source", "license", "category"))
    return RawPair(id_, question, chosen, rejected, images, slug(source), license, category)


def label_of(label: Any) -> int | Excluded:
    """1 or 2, in any form that `labels.as_label` reads; `Excluded` for a tie and for anything else."""
    if isinstance(label, str) and label.strip().lower() in TIES:
        return Excluded("tie", bad=False)
    try:
        return as_label(label)
    except BadLabel:
        return Excluded("no_label" if label is None else "bad_label", f"label is {label!r}, not 1 or 2")


SOURCE = Source(
    "preference-jsonl",
    columns=(("question", "chosen", "rejected"), ("prompt", "chosen", "rejected"),
             ("question", "response_1", "response_2", "label"), ("prompt", "response_1", "response_2", "label")),
    read=read,
    expected="a JSONL file of {question, chosen, rejected, images}",
    optional=("id", "question", "prompt", "image", "images", "source", "license", "category"),
)  # fmt: skip
