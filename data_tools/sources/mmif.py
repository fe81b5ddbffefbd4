"""MMIF-23k as released: a DPO JSON (one array of about 22k rows), images by relative path.

A row: images [path], conversations [{from, value}] with the question (and its `<image>`) first, chosen {value},
rejected {value}. Rows without an id get the number of the element.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, without_image_tags
from data_tools.sources.rlhf_v import value_of
from proxygrm.core.images.fields import images_of, marked


def read(row: dict[str, Any]) -> RawPair | Excluded:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return Excluded("no_question_turn", "conversations[0] is missing", id=row.get("id"))
    if len(turns) > 1:
        return Excluded("several_turns", f"{len(turns)} turns; a pair has one question", bad=False, id=row.get("id"))
    images = marked(turns[0].get("value"), images_of(row))
    question, note = without_image_tags(turns[0].get("value"), len(images))
    chosen, rejected = (value_of(row.get(side)) for side in ("chosen", "rejected"))
    return RawPair(row.get("id"), question, chosen, rejected, images, note=note)


SOURCE = Source(
    "mmif",
    columns=("conversations", "chosen", "rejected", "images"),
    read=read,
    expected="MMIF's DPO JSON file, with --images-root for its images",
    needs_image=True,
    optional=("id",),
)
