"""OLMo-2's preference mixes as released (allenai/olmo-2-1124-7b-preference-mix, -13b-, olmo-2-0325-32b-; parquet).

A row: chosen, rejected [{role, content}], id, source (the category), and in a later revision (378,341 rows of 7b) also
prompt, chosen_rating and rejected_rating, which may be null. Rows with equal ratings are dropped.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from data_tools.sources.turns import text_pair
from data_tools.sources.ultrafeedback_binarized import by_ratings


def read(row: dict[str, Any]) -> RawPair | Excluded:
    tie, note = by_ratings(row, "chosen_rating", "rejected_rating")
    return text_pair(row, row.get("id"), note) if tie is None else tie._replace(id=row.get("id"))


SOURCE = Source(
    "olmo-2",
    columns=("chosen", "rejected"),
    read=read,
    expected="the parquet files of an OLMo-2 preference mix",
    license="odc-by",
    optional=("id", "prompt", "source", "chosen_rating", "rejected_rating"),
)
