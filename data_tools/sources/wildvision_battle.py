"""WildVision-Battle as released (WildVision/wildvision-battle, parquet): votes of users between two models.

A row: question_id, conversation_a, conversation_b [{role, content}], image, winner (model_a, model_b, tie,
"tie (bothbad)"), language, turn, and more. Both kinds of ties are dropped, and so are votes on several answers in a
row, because a pair has one. The language (English, ...) is the category. Its only split is called `test`,
and it is used for training; VL-RewardBench has 173 of its rows: filter against it.

The columns were read from the card of a sister set (wildvision-internal-data); the words of `winner` are a guess.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source, unknown_layout, without_image_tags
from data_tools.sources.turns import texts_of
from proxygrm.core.images.fields import images_of

_SIDES = {"model_a": ("conversation_a", "conversation_b"), "model_b": ("conversation_b", "conversation_a")}


def read(row: dict[str, Any]) -> RawPair | Excluded:
    id_, winner = row.get("question_id"), row.get("winner")
    if winner is None or row.get("conversation_a") is None:
        return unknown_layout(row, "conversation_a, conversation_b and winner")
    word = str(winner).strip().lower()
    if word.startswith("tie") or "bothbad" in word.replace(" ", "").replace("_", ""):
        return Excluded("tie", str(winner)[:40], bad=False, id=id_)
    if word not in _SIDES:
        return Excluded("bad_label", f"winner is {winner!r}, none of model_a, model_b and a tie"[:200], id=id_)
    texts = texts_of(row, sides=_SIDES[word])
    if isinstance(texts, Excluded):
        return texts._replace(id=id_)
    images = images_of(row)
    question, tags = without_image_tags(texts.question, len(images))
    return RawPair(
        id_, question, texts.chosen, texts.rejected, images,
        category=str(row.get("language") or ""), note=texts.note or tags,
    )  # fmt: skip


SOURCE = Source(
    "wildvision-battle",
    columns=("question_id", "conversation_a", "conversation_b", "winner"),
    read=read,
    expected="the parquet files of WildVision-Battle",
    license="odc-by",
    needs_image=True,
    optional=("image", "images", "language"),
)
