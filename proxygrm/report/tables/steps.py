"""The figures of a step benchmark as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.report.numbers import per_cent


def show(title: str, figures: Mapping[str, Any], notes: Sequence[str], console: Console) -> None:
    """Warnings come last, so that they are not missed."""
    table = Table(title, "steps", "neutral", "macro F1 %", "F1 right %", "F1 wrong %", "first error %")
    for name, part in figures["by_source"].items():
        table.add_row(name, *_cells(part))
    table.add_section()
    table.add_row("all steps", *_cells(figures))
    console.print(table)
    for note in notes:
        console.print(note, style="red" if note.startswith("PARTIAL") else "yellow", markup=False, highlight=False)


def _cells(figures: Mapping[str, Any]) -> list[str]:
    shares = (figures[name] for name in ("macro_f1", "f1_correct", "f1_incorrect", "first_error_accuracy"))
    return [f"{figures['steps']:,}", f"{figures['neutral_dropped']:,}", *map(per_cent, shares)]
