"""The result table, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxygrm.report.contents import JUDGE_COLUMNS, Column, Results
from proxygrm.report.numbers import NONE, between, number, share_text


def result_rows(summary: Mapping[str, Mapping[str, Any]], results: Results) -> list[list[str]]:
    """One row per model: its title, then a text for each of the columns."""
    return [
        [results.models.get(model, model), *(cell_text(figures, column) for column in results.columns)]
        for model, figures in summary.items()
        if isinstance(figures, Mapping)
    ]


def cell_text(figures: Mapping[str, Any], column: Column) -> str:
    """`71.2 % (66.0–75.9)`, `128`, or a dash when there is nothing to count."""
    value = number(figures.get(column.key))
    if value is None:
        return NONE
    if column.count:
        return f"{int(value):,}"
    low, high = (figures.get(f"{column.key}_{end}") for end in ("low", "high"))
    interval = between(low, high, "–") if column.interval else ""
    return share_text(value) + (f" ({interval})" if interval else "")


def group_rows(
    summary: Mapping[str, Mapping[str, Any]], by: str, model_title: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Accuracy per group (`by_source` or `by_category`): titles and rows; empty with fewer than two groups."""
    models = {model: figures for model, figures in summary.items() if isinstance(figures, Mapping)}
    groups = list(dict.fromkeys(g for figures in models.values() for g in figures.get(by) or {}))
    if len(groups) < 2:
        return [], []
    accuracy = next(column for column in JUDGE_COLUMNS if column.key == "accuracy")
    rows = [
        [model_title(model), *(cell_text((figures.get(by) or {}).get(group, {}), accuracy) for group in groups)]
        for model, figures in models.items()
    ]
    return groups, rows
