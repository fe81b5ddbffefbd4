"""Rubric transfer as tables for people; p is McNemar's, clear pairs have verdicts in both conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxygrm.report.tables.score import between, per_cent

TITLES = {"none": "none", "own": "own", "other": "other pair", "base": "base"}


def show(figures: Mapping[str, Any], console: Console) -> None:
    orders = "both orders" if figures["orders"] == 2 else "one order"
    console.print(
        f"N = {figures['pairs']:,} pairs, {orders}, {figures['sights']:,} sights; "
        f"{figures['judgements_by_judge']:,} judgements a judge",
        highlight=False,
    )
    if figures["sights_not_shared"]:
        console.print(
            f"{figures['sights_not_shared']:,} sights that not all sources hold are left out",
            style="bold red",
            highlight=False,
        )
    if figures["images_missing"]:
        console.print(f"{figures['images_missing']:,} sights had a blank picture", style="yellow", highlight=False)
    for name, judge in figures["judges"].items():
        note = f" ({judge['note']})" if judge["note"] else ""
        console.print(f"judge [bold]{name}[/]: {escape(judge['is'])}[yellow]{escape(note)}[/]", highlight=False)
    for cell in figures["cells"]:
        _cell(cell, console)
    if len(figures["cells"]) > 1:
        _matrix(figures, console)
    if figures["base"] is None:
        console.print("the base model's rubrics were not given (--base), so that comparison is missing", style="dim")


def _cell(cell: Mapping[str, Any], console: Console) -> None:
    console.print(f"\nrubrics of [bold]{cell['grm']}[/] before [bold]{cell['judge']}[/]", highlight=False)
    table = Table("rubric", "pairs", "judged", "right %", "95 %", "unparsed", "refused", "not asked")
    for name, of in cell["conditions"].items():
        why = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in of["not_sent"].items())
        table.add_row(
            TITLES[name], f"{of['pairs']:,}", f"{of['judgements']:,}", per_cent(of["accuracy"]),
            between(of["low"], of["high"]), f"{of['unparsed']:,}", f"{of['refused']:,}", why or "0",
        )  # fmt: skip
    console.print(table)
    corrected = any(of.get("p_holm") != of["p"] for of in cell["gains"].values())
    gains = Table("own over", "pairs", "points (95 %)", "won:lost", "p", *(["Holm"] if corrected else []), "if clear")
    for over, of in cell["gains"].items():
        clear = of["clear"]
        if_clear = f"{_points(clear)} of {clear['pairs']:,}" if clear["pairs"] else "no pair"
        if not of["pairs"]:
            gains.add_row(TITLES[over], "0")
            continue
        tests = [f"{of[name]:.2g}" for name in ("p", *(["p_holm"] if corrected else []))]
        gains.add_row(TITLES[over], f"{of['pairs']:,}", _gain(of), f"{of['won']:,}:{of['lost']:,}", *tests, if_clear)
    console.print(gains)
    for note in cell["notes"]:
        console.print(escape(note), style="yellow", highlight=False)
    if len(cell["categories"]) > 1:
        names = list(cell["conditions"])
        by = Table("category", "pairs", *(f"{TITLES[name]} %" for name in names), "gain over none (95 %)")
        for category, of in cell["categories"].items():
            gain = of["gains"]["none"]
            by.add_row(
                escape(category), f"{of['conditions']['none']['pairs']:,}",
                *(per_cent(of["conditions"][name]["accuracy"], 1) for name in names), _gain(gain),
            )  # fmt: skip
        console.print(by)


def _matrix(figures: Mapping[str, Any], console: Console) -> None:
    """Gains of the own rubric over none: a row for each reward model, a column for each judge; ! has notes."""
    judges = list(figures["judges"])
    table = Table("points over no rubric (95 %)", *judges)
    cells = {(cell["grm"], cell["judge"]): cell for cell in figures["cells"]}
    for grm in figures["rubrics"]:
        table.add_row(grm, *(_short(cells[grm, judge]) for judge in judges))
    console.print()
    console.print(table)


def _short(cell: Mapping[str, Any]) -> str:
    return _gain(cell["gains"]["none"]) + (" !" if cell["notes"] else "")


def _gain(of: Mapping[str, Any]) -> str:
    return "-" if of["difference"] is None else f"{_points(of)} ({between(of['low'], of['high'])})"


def _points(of: Mapping[str, Any]) -> str:
    return f"{100 * of['difference']:+.1f}"
