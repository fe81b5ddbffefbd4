"""The shipped recipe's training sets with rows of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from data_tools.split.training_set import TrainingSet
from jobs.recipes.proxy_grm import Sets

SETS = Sets().sets


def sized(rows: Mapping[str, int]) -> dict[str, TrainingSet]:
    """In the recipe's order, which decides between sets that want the same pairs."""
    return {name: replace(each, rows=rows[name]) for name, each in SETS.items() if name in rows}
