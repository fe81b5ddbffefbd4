"""Rubric transfer as tables; p is McNemar's, clear pairs have verdicts under both conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proxygrm.report.numbers import between, counts_text, per_cent, points

TITLES = {"none": "none", "own": "own", "other": "other pair", "base": "base"}


def show(figures: Mapping[str, Any], console: Console) -> None:
    orders = "both orders" if figures["orders"] == 2 else "one order"
    console.print(
        f"N = {figures['pairs']:,} pairs, {orders}, {figures['sights']:,} in all; "
        f"{figures['judgements_by_judge']:,} judgements per judge",
        highlight=False,
    )
    if figures["sights_not_shared"]:
        console.print(
            f"{figures['sights_not_shared']:,} pairs and orders that not all sources have are left out",
            style="bold red",
            highlight=False,
        )
    if figures["images_missing"]:
        console.print(
            f"{figures['images_missing']:,} pairs and orders had a blank image", style="yellow", highlight=False
        )
    for name, judge in figures["judges"].items():
        note = f" ({judge['note']})" if judge["note"] else ""
        console.print(f"judge [bold]{name}[/]: {escape(judge['is'])}[yellow]{escape(note)}[/]", highlight=False)
    for cell in figures["cells"]:
        _cell(cell, console)
    if len(figures["cells"]) > 1:
        _matrix(figures, console)
    if figures["base"] is None:
        console.print("no comparison with the base model's rubrics, because --base is missing", style="dim")


def _cell(cell: Mapping[str, Any], console: Console) -> None:
    console.print(f"\nrubrics of [bold]{cell['grm']}[/], judge [bold]{cell['judge']}[/]", highlight=False)
    table = Table("rubric", "pairs", "judged", "right %", "95 %", "unparsed", "refused", "not asked")
    for name, condition in cell["conditions"].items():
        table.add_row(
            TITLES[name], f"{condition['pairs']:,}", f"{condition['judgements']:,}", per_cent(condition["accuracy"]),
            between(condition["low"], condition["high"]), f"{condition['unparsed']:,}", f"{condition['refused']:,}",
            counts_text(condition["not_sent"]) or "0",
        )  # fmt: skip
    console.print(table)
    corrected = any(gain.get("p_holm") != gain["p"] for gain in cell["gains"].values())
    gains = Table("own over", "pairs", "points (95 %)", "won:lost", "p", *(["Holm"] if corrected else []), "if clear")
    for over, gain in cell["gains"].items():
        if not gain["pairs"]:
            gains.add_row(TITLES[over], "0")
            continue
        clear = gain["clear"]
        if_clear = f"{points(clear['difference'])} of {clear['pairs']:,}" if clear["pairs"] else "no pair"
        tests = [f"{gain[name]:.2g}" for name in ("p", *(["p_holm"] if corrected else []))]
        won_lost = f"{gain['won']:,}:{gain['lost']:,}"
        gains.add_row(TITLES[over], f"{gain['pairs']:,}", _gain(gain), won_lost, *tests, if_clear)
    console.print(gains)
    for note in cell["notes"]:
        console.print(escape(note), style="yellow", highlight=False)
    if len(cell["categories"]) > 1:
        names = list(cell["conditions"])
        by = Table("category", "pairs", *(f"{TITLES[name]} %" for name in names), "gain over none (95 %)")
        for category, figures in cell["categories"].items():
            by.add_row(
                escape(category), f"{figures['conditions']['none']['pairs']:,}",
                *(per_cent(figures["conditions"][name]["accuracy"], 1) for name in names),
                _gain(figures["gains"]["none"]),
            )  # fmt: skip
        console.print(by)


def _matrix(figures: Mapping[str, Any], console: Console) -> None:
    """Gains of the own rubric over none: a row per reward model, a column per judge; ! has notes."""
    judges = list(figures["judges"])
    table = Table("points over no rubric (95 %)", *judges)
    cells = {(cell["grm"], cell["judge"]): cell for cell in figures["cells"]}
    for grm in figures["rubrics"]:
        table.add_row(grm, *(_marked_gain(cells[grm, judge]) for judge in judges))
    console.print()
    console.print(table)


def _marked_gain(cell: Mapping[str, Any]) -> str:
    return _gain(cell["gains"]["none"]) + (" !" if cell["notes"] else "")


def _gain(gain: Mapping[str, Any]) -> str:
    return "-" if gain["difference"] is None else f"{points(gain['difference'])} ({between(gain['low'], gain['high'])})"
