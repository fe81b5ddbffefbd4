"""The figures of a reliability's calibration, as a table and as a drawing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from proxygrm.report.cells import Point, draw_curves

_TRIALS = {"steps": "visual steps", "answer": "solutions"}
_FIGURES = {
    "auroc": "a right one has the higher reliability (AUROC)",
    "ece": "expected calibration error",
    "right_below": "right with a reliability up to 0.5",
    "right_above": "right with a higher one",
    "gap": "difference of the two",
}


def show(figures: Mapping[str, Any], console: Console) -> None:
    table = Table("reliability", _TRIALS[figures["against"]], "mean", "right %", "95 %")
    for row in figures["bins"]:
        ends = f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"
        between = f"{row['from']:.2g} to {row['to']:.2g}"
        table.add_row(between, f"{row['trials']:,}", f"{row['reliability']:.2f}", f"{100 * row['right']:.1f}", ends)
    console.print(table)
    for name, words in _FIGURES.items():
        if (value := figures[name]) is not None:
            ends = f"{100 * figures[f'{name}_low']:.1f} to {100 * figures[f'{name}_high']:.1f}"
            console.print(f"{words}: {100 * value:.1f} % ({ends})", highlight=False)


def draw(figures: Mapping[str, Any]) -> str:
    """An SVG: the share of right trials over the mean reliability of each bin, and where both are the same."""
    measured = [
        Point(f"{row['from']:.2g} to {row['to']:.2g}", row["right"], row["low"], row["high"], row["reliability"])
        for row in figures["bins"]
    ]
    ideal = [Point("calibrated", x, x, x, x) for x in (0.0, 1.0)]
    return draw_curves("Calibration of the reliability", "reliability", {"right": measured, "calibrated": ideal})
