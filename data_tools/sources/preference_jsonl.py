"""People's own preferences: one JSON object a line.

| field                            | value                                                                       |
|----------------------------------|-----------------------------------------------------------------------------|
| id (optional)                    | text or number; the line number stands in                                   |
| question or prompt               | text                                                                        |
| chosen, rejected                 | texts; or response_1, response_2 and label (1 or 2: the better; "tie" drops) |
| image or images (optional)       | a path or a list of paths, below the file's folder or --images-root;        |
|                                  | `image` counts where `images` is empty                                      |
| source, license, category (opt.) | text                                                                        |

More fields are ignored. `<image>` in a text is a word like any other: pictures come from `images` alone.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Found, Left, Source, slug
from proxygrm.core.images.fields import images_of
from proxygrm.core.labels import BadLabel, as_label

TIES = ("tie", "equal")


def read(row: dict[str, Any]) -> Found | Left:
    id_ = row.get("id")
    if row.get("video"):
        return Left("video", "videos are not read; give their frames as images", id=id_)
    question = row["question"] if row.get("question") is not None else row.get("prompt")
    if "chosen" in row or "rejected" in row:
        chosen, rejected = row.get("chosen"), row.get("rejected")
    elif "response_1" in row or "response_2" in row:
        label = label_of(row.get("label"))
        if isinstance(label, Left):
            return label._replace(id=id_)
        chosen, rejected = row.get(f"response_{label}"), row.get(f"response_{3 - label}")
    else:
        return Left("missing_field", "neither chosen and rejected nor response_1, response_2 and label", id=id_)
    pictures = images_of(row)
    source, license, category = (str(row.get(name) or "") for name in ("source", "license", "category"))
    return Found(id_, question, chosen, rejected, pictures, slug(source), license, category)


def label_of(label: Any) -> int | Left:
    """1 or 2 in any of the forms of `labels.as_label`; anything else is not guessed at."""
    if isinstance(label, str) and label.strip().lower() in TIES:
        return Left("tie", bad=False)
    try:
        return as_label(label)
    except BadLabel:
        return Left("no_label" if label is None else "bad_label", f"label is {label!r}, not 1 or 2")


SOURCE = Source(
    "preference-jsonl",
    columns=(("question", "chosen", "rejected"), ("prompt", "chosen", "rejected"),
             ("question", "response_1", "response_2", "label"), ("prompt", "response_1", "response_2", "label")),
    read=read,
    give="a JSONL file of {question, chosen, rejected, images}",
    optional=("id", "question", "prompt", "image", "images", "source", "license", "category"),
)  # fmt: skip
