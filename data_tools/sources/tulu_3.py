"""Tulu-3's preference mixture as released (allenai/llama-3.1-tulu-3-8b-preference-mixture, parquet, 271,409 rows).

A row: id, prompt, chosen, rejected [{role, content}], source, which is the category. Conversations may have several
turns; the prompt is what both sides share. The sets it was mixed from (tulu-3-IF-augmented-on-policy-8b, 65,530 rows,
and others) have the same columns.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from data_tools.sources.turns import text_pair


def read(row: dict[str, Any]) -> RawPair | Excluded:
    return text_pair(row, row.get("id"))


SOURCE = Source(
    "tulu-3",
    columns=("chosen", "rejected"),
    read=read,
    expected="the parquet files of Tulu-3's preference mixture",
    license="odc-by",
    optional=("id", "prompt", "source"),
)
