"""RLHF-V in both released layouts (5,733 rows).

* original (openbmb/RLHF-V-Dataset): ds_name, image {bytes, path}, `text`, idx, ...; `text` is a JSON *string* of
  {question, chosen, rejected};
* llamafactory (llamafactory/RLHF-V): conversations [{from, value}] with one human turn that begins with `<image>`,
  chosen {from, value}, rejected {from, value}, images [{bytes, path}]. There is no id: the row number is used.
"""

from __future__ import annotations

import json
from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, without_image_tags
from proxygrm.core.images.fields import images_in, marked


def read(row: dict[str, Any]) -> RawPair | Excluded:
    return _llamafactory(row) if row.get("conversations") is not None else _original(row)


def _original(row: dict[str, Any]) -> RawPair | Excluded:
    text = row.get("text")
    if isinstance(text, str):
        try:
            text = json.loads(text)
        except (ValueError, RecursionError) as error:
            return Excluded("text_not_json", str(error), id=row.get("idx"))
    if not isinstance(text, dict):
        return Excluded("text_not_json", f"`text` is {type(text).__name__}", id=row.get("idx"))
    images = images_in(row.get("image"))
    return RawPair(row.get("idx"), text.get("question"), text.get("chosen"), text.get("rejected"), images)


def _llamafactory(row: dict[str, Any]) -> RawPair | Excluded:
    turns = row["conversations"]
    if not isinstance(turns, list) or len(turns) != 1 or not isinstance(turns[0], dict):
        return Excluded("not_one_turn", f"conversations hold {len(turns) if isinstance(turns, list) else 'no'} turns")
    chosen, rejected = (value_of(row.get(side)) for side in ("chosen", "rejected"))
    images = marked(turns[0].get("value"), images_in(row.get("images")))
    question, note = without_image_tags(turns[0].get("value"), len(images))
    return RawPair(row.get("id"), question, chosen, rejected, images, note=note)


def value_of(turn: Any) -> Any:
    """The text of a turn {from, value}; other values are returned unchanged."""
    return turn.get("value") if isinstance(turn, dict) else turn


SOURCE = Source(
    "rlhf-v",
    columns=(("image", "text", "idx"), ("conversations", "chosen", "rejected", "images")),
    read=read,
    expected="RLHF-V's parquet file, original or llamafactory",
    license="cc-by-nc-4.0",
    needs_image=True,
)
