"""The result table, once, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxygrm.report.gather import number, tag_name


@dataclass(frozen=True)
class Column:
    title: str
    key: str
    interval: bool = False
    count: bool = False
    help: str = ""


COLUMNS = (
    Column("Pairs", "pairs", count=True, help="pairs judged, each in both orders"),
    Column("Accuracy", "accuracy", interval=True, help="right verdicts of all verdicts; 95 % interval in brackets"),
    Column("Unparsed wrong", "accuracy_unparsed_wrong", help="the same with unreadable verdicts counted as wrong"),
    Column("Both orders", "both_orders_accuracy", help="pairs judged right in both orders"),
    Column("Says 1", "says_1", help="share of verdict 1: 50 % is no position bias"),
    Column("Format", "format_rate", help="critiques to the contract"),
    Column("Proxy agrees", "proxy_agreement", interval=True, help="the proxy, by the rubric alone, picks the label"),
    Column("Unparsed", "unparsed", count=True, help="judgements without a readable verdict"),
    Column("Names winner", "names_winner", count=True, help="rubrics that tell which response to pick"),
)


def result_rows(summary: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """One row a model: its name, then a text for each of COLUMNS."""
    return [
        [tag_name(tag), *(cell(figures, column) for column in COLUMNS)]
        for tag, figures in summary.items()
        if isinstance(figures, Mapping)
    ]


def cell(figures: Mapping[str, Any], column: Column) -> str:
    """`71.2 % (66.0-75.9)`, `128`, or a dash when there is nothing to count."""
    value = number(figures.get(column.key))
    if value is None:
        return "–"
    if column.count:
        return f"{int(value):,}"
    text = f"{100 * value:.1f} %"
    low, high = (number(figures.get(f"{column.key}_{end}")) for end in ("low", "high"))
    if column.interval and low is not None and high is not None:
        text += f" ({100 * low:.1f}–{100 * high:.1f})"
    return text


def group_rows(summary: Mapping[str, Mapping[str, Any]], by: str) -> tuple[list[str], list[list[str]]]:
    """Accuracy a group (`by_source` or `by_category`): titles and rows; nothing when there is just one group."""
    groups = list(dict.fromkeys(g for figures in summary.values() for g in figures.get(by) or {}))
    if len(groups) < 2:
        return [], []
    accuracy = COLUMNS[1]
    rows = [
        [tag_name(tag), *(cell((figures.get(by) or {}).get(group, {}), accuracy) for group in groups)]
        for tag, figures in summary.items()
    ]
    return groups, rows
