"""`proxygrm ablate`: the shipped specs, and the results of a spec's cells in one table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from jobs.cli.common.console import of_run, out
from jobs.cli.common.say import echo
from jobs.cli.run import cell_studies
from jobs.engine.recipe import CellTable
from jobs.engine.request import Request, ablation_of
from jobs.engine.run_folder.records import read_json, record_folder, write_json
from jobs.engine.sweep import Cell
from jobs.recipes import RECIPES, find, shipped
from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import refuse_foreign
from proxygrm.core.files.whole_file import write_text

Trainings = dict[str, list[list[dict[str, Any]]]]
"""The metrics of each training, by the table's rows."""


@dataclass(frozen=True)
class Row:
    """Cells that differ only in their seed. means, spreads: by metric; a spread is the sample standard deviation, None
    for a single cell. evaluated: how many of the cells are evaluated."""

    name: str
    evaluated: int
    cells: int
    means: Mapping[str, float]
    spreads: Mapping[str, float | None]


def list_shipped() -> None:
    table = Table("recipe", "ablation", "cells", "at a time", "question")
    for name in RECIPES:
        for spec in shipped(find(name)[0]):
            table.add_row(name, spec.name, str(len(spec.cells)), str(spec.throttle or "all"), escape(spec.about))
    out.print(table)
    out.print("proxygrm ablate NAME --dry-run shows what would be sent; a spec of your own: proxygrm ablate my.toml")


def collect(folder: Path, cells: Sequence[Cell], table: CellTable) -> list[Row]:
    """One row for each setting of the cells, over all seeds, in the spec's order."""
    rows = []
    for name, cells_of_row in by_row(cells, table.seed).items():
        metrics_of_cells = [_metrics(folder / "cells" / cell.name, table) for cell in cells_of_row]
        evaluated = [metrics for metrics in metrics_of_cells if metrics is not None]
        values = {key: [metrics[key] for metrics in evaluated if key in metrics] for key in _keys(table)}
        means = {key: statistics.fmean(v) for key, v in values.items() if v}
        spreads = {key: statistics.stdev(v) if len(v) > 1 else None for key, v in values.items() if v}
        rows.append(Row(name, len(evaluated), len(cells_of_row), means, spreads))
    return rows


def by_row(cells: Sequence[Cell], seed: str) -> dict[str, list[Cell]]:
    """The cells that differ only in their seed, by what the table calls them."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells:
        rows.setdefault(without_seed(cell, seed), []).append(cell)
    return rows


def comparisons(folder: Path, cells: Sequence[Cell], table: CellTable) -> list[dict[str, Any]]:
    """Every row of the table against the first, pair by pair, where all seeds of both are evaluated."""
    from proxygrm.evaluate.scores.repeated import compare_trainings

    runs = {}
    for name, members in by_row(cells, table.seed).items():
        summaries = [folder / "cells" / cell.name / table.file for cell in members]
        files = [summary.parent / f"{table.model}.jsonl" for summary in summaries]
        if all((file.parent / "DONE.json").exists() and file.exists() for file in files):
            runs[name] = files
        elif not runs:
            return []  # without the first there is nothing to compare with
    return compare_trainings(runs) if len(runs) > 1 else []


def without_seed(cell: Cell, seed: str) -> str:
    axes = [value if axis == "cell" else f"{axis.split('.')[-1]}={value}" for axis, value in cell.axes if axis != seed]
    return ", ".join(axes) or "default"


def _metrics(folder: Path, table: CellTable) -> dict[str, float] | None:
    """Figures of one cell; None while they are not proven done."""
    file = folder / table.file
    if not (file.parent / "DONE.json").exists():
        return None
    summary: dict[str, Any] = (read_json(file) or {}).get(table.model, {})
    return {key: float(summary[key]) for key in _keys(table) if isinstance(summary.get(key), int | float)}


def _keys(table: CellTable) -> list[str]:
    """The figures, and with intervals their ends."""
    names = dict.fromkeys((*table.figures, *table.plot))
    return [f"{name}{end}" for name in names for end in (("", "_low", "_high") if table.intervals else ("",))]


def trainings_of(folder: Path, cells: Sequence[Cell], table: CellTable) -> Trainings:
    """The metrics of each cell that has any, by the table's rows; also of a training that has not ended well."""
    from proxygrm.core.files.json_lines import numbered_lines, value_of

    trainings: Trainings = {}
    for cell in cells if table.metrics else ():
        file = folder / "cells" / cell.name / table.metrics
        if file.is_file():
            rows = [value_of(line) for _, line in numbered_lines(file, checked=False)]
            trainings.setdefault(without_seed(cell, table.seed), []).append(rows)
    return trainings


def show_table(run: Path | None, name: str, as_json: bool) -> None:
    """name: of the ablation; "" for the last one of the run."""
    resolved, ledger = of_run(run, as_json)
    folder = ledger.folder
    request = ablation_of(folder, name)
    cell_table = resolved.recipe.sweep_of(request.sweep).table
    if cell_table is None:
        raise UserError(
            f"recipe {resolved.recipe.name} does not say what the table of an ablation shows (Sweep.table)",
            code="ablation.no-table",
            recipe=resolved.recipe.name,
        )
    from proxygrm.report.trainings import draw_trainings

    rows, trainings = collect(folder, request.ablation, cell_table), trainings_of(folder, request.ablation, cell_table)
    file = record_folder(folder, request.ablation_name) / "table.json"
    refuse_foreign(file.parent, "copy the run")
    write_json(file, [vars(row) for row in rows])
    if as_json:
        echo(json.dumps([vars(row) for row in rows], indent=2))
    else:
        _show_rows(rows, trainings, folder, request, cell_table, file)
    members = by_row(request.ablation, cell_table.seed)
    drawings = {
        "plot.svg": cell_studies.drawing(f"{request.ablation_name}: {cell_table.title}", rows, members, cell_table),
        "trainings.svg": draw_trainings(f"{request.ablation_name}: training", trainings, cell_table.curves),
    }
    for drawing_name, drawn in drawings.items():
        if drawn:
            write_text(file.with_name(drawing_name), drawn)
            if not as_json:
                out.print(f"drawn in {file.with_name(drawing_name)}", soft_wrap=True)
    # after the table, which does not need it, was shown
    trends: list[dict[str, Any]] = []
    if cell_table.steps:
        compared, trends = cell_studies.compare_steps(folder, members, cell_table)
        write_json(file.with_name("trends.json"), trends)
    else:
        compared = comparisons(folder, request.ablation, cell_table)
    write_json(file.with_name("comparisons.json"), compared)
    if compared and not as_json:
        _show_comparisons(compared, file.with_name("comparisons.json"))
    if not as_json:
        cell_studies.show_trends(trends, cell_table.axis)


def _show_rows(
    rows: Sequence[Row], trainings: Trainings, folder: Path, request: Request, cell_table: CellTable, file: Path
) -> None:
    title = f"{folder.name}, {request.ablation_name}: {cell_table.title}"
    table = Table(title=title, title_justify="left")
    table.add_column("cell", overflow="fold")
    table.add_column("evaluated", justify="right")
    for key in cell_table.figures:
        table.add_column(key.replace("_", " "), justify="right")
    for row in rows:
        figures = (_cell(row, key) for key in cell_table.figures)
        table.add_row(escape(row.name), f"{row.evaluated}/{row.cells}", *figures)
    out.print(table)
    if trainings:
        from proxygrm.report.tables.training import training_extents

        title = f"{folder.name}, {request.ablation_name}: training"
        out.print(training_extents(title, trainings, cell_table.curves))
    what = (
        "in percent, 95 % interval in brackets"
        if cell_table.intervals
        else "mean ± standard deviation over seeds, in percent"
    )
    out.print(f"{what}; also in {file}")


def _show_comparisons(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    unit = "pairs" if "pairs" in rows[0] else "solutions"
    table = Table(title=f"against {rows[0]['baseline']}, on the same {rows[0][unit]} {unit}", title_justify="left")
    for column in ("cell", "figure"):
        table.add_column(column, overflow="fold")
    for column in ("points", "95 %", "p", "p (Holm)", *(["each seed"] if unit == "pairs" else [])):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            escape(row["run"]), row["figure"].replace("_", " "), f"{100 * row['difference']:+.1f}",
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}", f"{row['p']:.2g}", f"{row['p_holm']:.2g}",
            *([", ".join(f"{100 * each:+.1f}" for each in row["by_seed"])] if unit == "pairs" else []),
        )  # fmt: skip
    out.print(table)
    how = (
        "a pair's share is over its orders and all seeds, interval (bootstrap) and p (sign flips) are over pairs: how "
        "much seeds differ is in the last column"
        if unit == "pairs"
        else "interval (bootstrap) and p (exchanged verdicts) are over solutions"
    )
    out.print(f"percentage points; {how}; also in {file}", soft_wrap=True)


def _cell(row: Row, key: str) -> str:
    if key not in row.means:
        return "–"
    spread = row.spreads[key]
    if row.evaluated == 1 and f"{key}_low" in row.means:
        low, high = (100 * row.means[f"{key}_{end}"] for end in ("low", "high"))
        return f"{100 * row.means[key]:.1f} ({low:.1f} to {high:.1f})"
    return f"{100 * row.means[key]:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")
