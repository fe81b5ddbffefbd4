"""Skywork-Reward-Preference-80K as released (v0.1: 81,973 rows; v0.2: 77,016), parquet or JSONL.

A row: chosen, rejected [{role, content}], source, which is the category. v0.1 has 4,957 rows whose prompts overlap
with RewardBench: use v0.2 if RewardBench is reported.
"""

from __future__ import annotations

from typing import Any

from data_tools.sources.base import Excluded, RawPair, Source
from data_tools.sources.turns import text_pair


def read(row: dict[str, Any]) -> RawPair | Excluded:
    return text_pair(row, None)


SOURCE = Source(
    "skywork",
    columns=("chosen", "rejected"),
    read=read,
    expected="the files of Skywork-Reward-Preference-80K",
    optional=("prompt", "source"),
)
