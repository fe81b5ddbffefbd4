"""RLHF-V in both layouts in which it is released (5,733 rows).

* original (openbmb/RLHF-V-Dataset): ds_name, image {bytes, path}, `text`, idx, ...; `text` is a JSON *string* of
  {question, chosen, rejected};
* llamafactory (llamafactory/RLHF-V): conversations [{from, value}] with one human turn that begins with `<image>`,
  chosen {from, value}, rejected {from, value}, images [{bytes, path}]. It has no id: the row number stands in.
"""

from __future__ import annotations

import json
from typing import Any

from data_tools.sources.base import Found, Left, Source, without_image_tags
from proxygrm.core.images.fields import images_in, marked


def read(row: dict[str, Any]) -> Found | Left:
    return _llamafactory(row) if row.get("conversations") is not None else _original(row)


def _original(row: dict[str, Any]) -> Found | Left:
    text = row.get("text")
    if isinstance(text, str):
        try:
            text = json.loads(text)
        except ValueError as error:
            return Left("text_not_json", str(error), id=row.get("idx"))
    if not isinstance(text, dict):
        return Left("text_not_json", f"`text` is {type(text).__name__}", id=row.get("idx"))
    pictures = images_in(row.get("image"))
    return Found(row.get("idx"), text.get("question"), text.get("chosen"), text.get("rejected"), pictures)


def _llamafactory(row: dict[str, Any]) -> Found | Left:
    turns = row["conversations"]
    if not isinstance(turns, list) or len(turns) != 1 or not isinstance(turns[0], dict):
        return Left("not_one_turn", f"conversations hold {len(turns) if isinstance(turns, list) else 'no'} turns")
    chosen, rejected = (value_of(row.get(side)) for side in ("chosen", "rejected"))
    pictures = marked(turns[0].get("value"), images_in(row.get("images")))
    question, note = without_image_tags(turns[0].get("value"), len(pictures))
    return Found(row.get("id"), question, chosen, rejected, pictures, note=note)


def value_of(turn: Any) -> Any:
    """The text of a turn {from, value}; a plain text is its own."""
    return turn.get("value") if isinstance(turn, dict) else turn


SOURCE = Source(
    "rlhf-v",
    columns=(("image", "text", "idx"), ("conversations", "chosen", "rejected", "images")),
    read=read,
    give="RLHF-V's parquet file, original or llamafactory",
    license="cc-by-nc-4.0",
    needs_picture=True,
)
