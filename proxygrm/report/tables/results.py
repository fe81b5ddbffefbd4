"""The result table, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxygrm.report.gather import tag_title
from proxygrm.report.numbers import NONE, between, number, share_text


@dataclass(frozen=True)
class Column:
    title: str
    key: str
    interval: bool = False
    count: bool = False
    help: str = ""


COLUMNS = (
    Column("Pairs", "pairs", count=True, help="pairs judged, each in both orders"),
    Column("Accuracy", "accuracy", interval=True, help="share of verdicts that are right; 95 % interval in brackets"),
    Column("Unparsed wrong", "accuracy_unparsed_wrong", help="the same with unreadable verdicts counted as wrong"),
    Column("Both orders", "both_orders_accuracy", help="pairs judged right in both orders"),
    Column("Says 1", "says_1", help="share of verdicts for response 1: 50 % is no position bias"),
    Column("Format", "format_rate", help="share of well-formed critiques"),
    Column(
        "Proxy agrees",
        "proxy_agreement",
        interval=True,
        help="the proxy's verdicts by the rubric alone that equal the label",
    ),
    Column("Unparsed", "unparsed", count=True, help="judgements without a readable verdict"),
    Column("Names winner", "names_winner", count=True, help="rubrics that name the better response"),
)


def result_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """One row per model: its name, then a text for each of COLUMNS."""
    return [
        [tag_title(tag), *(cell_text(figures, column) for column in COLUMNS)]
        for tag, figures in summary.items()
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


def group_rows(summary: Mapping[str, Mapping[str, Any]], by: str) -> tuple[list[str], list[list[str]]]:
    """Accuracy per group (`by_source` or `by_category`): titles and rows; empty with fewer than two groups."""
    groups = list(dict.fromkeys(g for figures in summary.values() for g in figures.get(by) or {}))
    if len(groups) < 2:
        return [], []
    accuracy = COLUMNS[1]
    rows = [
        [tag_title(tag), *(cell_text((figures.get(by) or {}).get(group, {}), accuracy) for group in groups)]
        for tag, figures in summary.items()
    ]
    return groups, rows
