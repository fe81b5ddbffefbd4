"""MMIF-23k as released: a DPO JSON (one array of about 22k rows), pictures by relative path.

A row: images [path], conversations [{from, value}] with the question (and its `<image>`) first, chosen {value},
rejected {value}. There is no id in every row: the element's number stands in.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Found, Left, Source, without_image_tags
from data_tools.sources.rlhf_v import value_of
from proxygrm.core.images.fields import images_of, marked


def read(row: dict[str, Any]) -> Found | Left:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict):
        return Left("no_question_turn", "conversations[0] is missing", id=row.get("id"))
    if len(turns) > 1:
        return Left("several_turns", f"{len(turns)} turns; a pair has one question", bad=False, id=row.get("id"))
    pictures = marked(turns[0].get("value"), images_of(row))
    question, note = without_image_tags(turns[0].get("value"), len(pictures))
    chosen, rejected = (value_of(row.get(side)) for side in ("chosen", "rejected"))
    return Found(row.get("id"), question, chosen, rejected, pictures, note=note)


SOURCE = Source(
    "mmif",
    columns=("conversations", "chosen", "rejected", "images"),
    read=read,
    give="MMIF's DPO JSON file, with --images-root for its pictures",
    needs_picture=True,
    optional=("id",),
)
