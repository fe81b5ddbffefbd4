"""What stands beside the table of an ablation: its drawing, and the cells compared on the same solutions' steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.markup import escape

from jobs.cli.common.console import out
from jobs.engine.recipe import CellTable
from jobs.engine.sweep import Cell


class Measured(Protocol):
    """A row of the table."""

    @property
    def name(self) -> str: ...

    @property
    def means(self) -> Mapping[str, float]: ...


def setting_of(cell: Cell, name: str) -> str:
    """What a cell sets a setting to; "" where it does not."""
    values = [text.partition("=")[2].strip() for text in cell.settings if text.partition("=")[0].strip() == name]
    return values[-1] if values else ""


def drawing(title: str, rows: Sequence[Measured], members: Mapping[str, Sequence[Cell]], table: CellTable) -> str:
    """The SVG of the table's `plot`; "" where no cell has these figures. members: the cells of each row."""
    from proxygrm.report.cells import Point, draw_cells, draw_curves

    def point(row: Measured, figure: str, x: float | None = None) -> Point:
        value = row.means[figure]
        low, high = (row.means.get(f"{figure}_{end}", value) for end in ("low", "high"))
        return Point(row.name, value, low, high, x)

    measured = [(row, figure) for figure in table.plot for row in rows if figure in row.means]
    if not measured:
        return ""
    if not table.axis:
        figures: dict[str, list[Point]] = {}
        for row, figure in measured:
            figures.setdefault(figure.replace("_", " "), []).append(point(row, figure))
        return draw_cells(title, figures)
    by_name = {row.name: row for row in rows}
    curves: dict[str, list[Point]] = {}
    for figure in table.plot:
        for line, places in curves_of(members, table).items():
            points = [point(by_name[name], figure, x) for name, x in places if figure in by_name[name].means]
            if points:
                label = figure.replace("_", " ") if len(table.plot) > 1 else ""
                curves[" ".join(filter(None, [line, label]))] = points
    return draw_curves(title, table.axis.rpartition(".")[2].replace("_", " "), curves) if curves else ""


def curves_of(members: Mapping[str, Sequence[Cell]], table: CellTable) -> dict[str, list[tuple[str, float]]]:
    """Of each curve its rows and their places on the axis, rising. A row that does not set the axis is at 0, and on
    every curve."""
    curves: dict[str, list[tuple[str, float]]] = {}
    common: list[tuple[str, float]] = []
    for name, cells in members.items():
        if at := setting_of(cells[0], table.axis):
            curves.setdefault(setting_of(cells[0], table.curve) if table.curve else "", []).append((name, float(at)))
        else:
            common.append((name, 0.0))
    return {line: sorted([*common, *places], key=lambda place: place[1]) for line, places in curves.items()}


def compare_steps(
    folder: Path, members: Mapping[str, Sequence[Cell]], table: CellTable
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(each cell against the first, the trend of each curve) from the cells whose verdicts are there."""
    from proxygrm.evaluate.steps.compare import compare_runs, read_runs, trend

    files = {}
    for name, cells in members.items():
        file = (folder / "cells" / cells[0].name / table.file).parent / table.steps
        if file.is_file() and (file.parent / "DONE.json").exists():
            files[name] = file
        elif not files:
            return [], []  # without the first there is nothing to compare with
    if len(files) < 2:
        return [], []
    runs = read_runs(files)
    trends = []
    for line, places in curves_of(members, table).items() if table.axis else ():
        present = [(name, x) for name, x in places if name in runs]
        if len(present) > 2:
            trends.append({"curve": line} | trend([x for _, x in present], [runs[name] for name, _ in present]))
    return compare_runs(runs), trends


def show_trends(trends: Sequence[Mapping[str, Any]], axis: str) -> None:
    """A line for each curve."""
    for row in trends:
        change, name = row["change"], axis.rpartition(".")[2].replace("_", " ")
        parts = [
            f"{row['curve'] or row['figure']}: from {name} {change['from']:g} to {change['to']:g} "
            f"{100 * change['difference']:+.1f} points ({_ends(change)})",
            "never rises" if row["monotone"] else "; ".join(
                f"rises from {rise['from']:g} to {rise['to']:g} by {100 * rise['difference']:.1f} ({_ends(rise)})"
                for rise in row["rises"]
            ),
            f"no rise in {100 * row['monotone_share']:.0f} % of resamples",
        ]  # fmt: skip
        if row["spearman"] is not None:
            parts.append(f"Spearman {row['spearman']:.2f} ({row['spearman_low']:.2f} to {row['spearman_high']:.2f})")
        out.print(escape("; ".join(parts)), soft_wrap=True)


def _ends(row: Mapping[str, Any]) -> str:
    return f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
