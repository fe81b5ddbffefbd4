"""The figures of a perception intervention as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.evaluate.process.intervene import CONDITIONS

_WORDS = {
    "image": "image",
    "described": "image and description",
    "corrupted": "corrupted description alone",
    "question": "question alone",
}


def show(figures: Mapping[str, Any], console: Console) -> None:
    table = Table("shown", "questions", "right %", "against the image")
    for condition in CONDITIONS:
        if f"accuracy_{condition}" in figures:
            cells = (_text(figures, f"{name}_{condition}", sign) for name, sign in (("accuracy", ""), ("change", "+")))
            table.add_row(_WORDS[condition], f"{figures[f'n_{condition}']:,}", *cells)
    console.print(table)
    console.print("in percent and percentage points, 95 % intervals (bootstrap over questions)", highlight=False)


def _text(figures: Mapping[str, Any], name: str, sign: str) -> str:
    if name not in figures:
        return ""
    value, low, high = (format(100 * figures[key], f"{sign}.1f") for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} ({low} to {high})"
