"""UltraFeedback, binarized: HuggingFaceH4/ultrafeedback_binarized and allenai/ultrafeedback_binarized_cleaned.

A row: prompt, prompt_id, chosen, rejected [{role, content}], score_chosen, score_rejected, perhaps `source`. Of a
folder the file of the split `train_prefs` is read (61,135 rows; cleaned 60,829), because the others repeat its rows.
The worse response was drawn at random from three; rows with equal scores are dropped.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from data_tools.sources.rated import rating
from data_tools.sources.turns import text_pair


def read(row: dict[str, Any]) -> RawPair | Excluded:
    tie, note = by_ratings(row, "score_chosen", "score_rejected")
    return text_pair(row, row.get("prompt_id"), note) if tie is None else tie._replace(id=row.get("prompt_id"))


def by_ratings(row: dict[str, Any], better: str, worse: str) -> tuple[Excluded | None, str]:
    """(a tie, or None; a note if the ratings contradict the order). Missing ratings say nothing."""
    high, low = rating(row.get(better)), rating(row.get(worse))
    if high is None or low is None:
        return None, ""
    if high == low:
        return Excluded("tie", f"both are rated {high:g}", bad=False), ""
    return None, "ratings_reversed" if high < low else ""


SOURCE = Source(
    "ultrafeedback-binarized",
    columns=("prompt", "chosen", "rejected"),
    read=read,
    expected="a parquet file of ultrafeedback_binarized, split train_prefs",
    license="mit",
    optional=("prompt_id", "score_chosen", "score_rejected", "source"),
    files="train_prefs*",
    several=True,
)
